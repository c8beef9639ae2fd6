"""A program that plays UCI (chess) or GTP (Go): `fake_engine.py uci|gtp PLAN [LOG]`.

At each question for a move it does what the first line of the file PLAN says, and takes that line out: crash, hang,
illegal, resign, or `play`; where nothing is left it plays: in chess the first legal move by name, in Go a pass.
"""

import sys
import time
from pathlib import Path


def next_deed(plan: Path) -> str:
    lines = plan.read_text().split()
    plan.write_text("\n".join(lines[1:]))
    return lines[0] if lines else "play"


def misbehave(deed: str) -> None:
    if deed == "crash":
        sys.exit(3)
    if deed == "hang":
        time.sleep(60)


def uci(plan: Path, log: list[str]) -> None:
    import chess

    board = chess.Board()
    for line in sys.stdin:
        log.append(line)
        words = line.split()
        if words == ["uci"]:
            print("id name fake\noption name Skill Level type spin default 20 min 0 max 20\nuciok", flush=True)
        elif words == ["isready"]:
            print("readyok", flush=True)
        elif words[:1] == ["position"]:
            board = chess.Board()
            for move in words[3:]:
                board.push_uci(move)
        elif words[:1] == ["go"]:
            misbehave(deed := next_deed(plan))
            move = "a1h8" if deed == "illegal" else min(move.uci() for move in board.legal_moves)
            print(f"info depth 1\nbestmove {move} ponder e7e5", flush=True)


def gtp(plan: Path, log: list[str]) -> None:
    for line in sys.stdin:
        number, command = line.split(maxsplit=1)
        log.append(command)
        answer = ""
        if command.startswith("genmove"):
            misbehave(deed := next_deed(plan))
            answer = {"illegal": "A19", "resign": "resign"}.get(deed, "PASS")
        print(f"={number} {answer}\n", flush=True)


class Log(list):
    """What was asked, in a file."""

    def append(self, line: str) -> None:
        if len(sys.argv) > 3:
            with open(sys.argv[3], "a") as file:
                file.write(line)


{"uci": uci, "gtp": gtp}[sys.argv[1]](Path(sys.argv[2]), Log())
