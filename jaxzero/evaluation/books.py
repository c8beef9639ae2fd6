"""What matches leave behind: arena.csv, last_arena.json, and the games themselves."""

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxzero import records
from jaxzero.config import ConfigError, GameConfig
from jaxzero.evaluation.matches import MatchResult

FORMATS = {"chess": (".pgn", "White", "Black"), "go": (".sgf", "PB", "PW"), "hex": (".trmph",)}  # names of the players
COLUMNS: tuple[str, ...] = (
    "timestamp", "game", "a", "b", "games", "wins", "draws", "losses", "score", "low", "high", "mean_length",
    "first_wins", "first_draws", "first_losses", "second_wins", "second_draws", "second_losses", "duplicates",
    "opening_plies", "seed", "seconds", "llr", "verdict",
)  # fmt: skip


def row(facts: dict[str, Any]) -> dict[str, Any]:
    """A line of arena.csv."""
    sides = {
        f"{side}_{name}": facts[f"as_{side}"][name]
        for side in ("first", "second")
        for name in ("wins", "draws", "losses")
    }
    test = facts.get("sprt", {})
    found = facts | sides | dict(zip(("low", "high"), facts["interval"], strict=True))
    found |= {"llr": test.get("llr", ""), "verdict": test.get("verdict", "")}
    return {name: found[name] for name in COLUMNS}


def check_book(folder: Path) -> None:
    """Raises:
    ConfigError: arena.csv there is not ours, or nothing can be written there.
    """
    book = folder / "arena.csv"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if book.exists() and (head := book.read_text(encoding="utf-8").partition("\n")[0]) != ",".join(COLUMNS):
            raise ConfigError(f"{book}: has other columns ({head[:60]}…); move it aside or choose another --out")
    except OSError as error:
        raise ConfigError(f"{folder}: cannot write there ({error.strerror}); choose another --out") from error


def enter(folder: Path, facts: dict[str, Any]) -> None:
    """Appends to arena.csv and writes last_arena.json anew."""
    book = folder / "arena.csv"
    new = not book.exists()
    with open(book, "a", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(COLUMNS), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row(facts))
    draft = folder / "last_arena.json.tmp"
    draft.write_text(json.dumps(facts, indent=2, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    os.replace(draft, folder / "last_arena.json")


# Records


def check_record(path: Path, game: GameConfig, overwrite: bool) -> None:
    """Raises:
    ConfigError: the file is there already, or its suffix is not the game's.
    """
    fitting = [".json", *FORMATS.get(game.name if not game.source else "", ())[:1]]
    if path.suffix.lower() not in fitting:
        raise ConfigError(f"record: {path}: games of {game.name or game.source} are written as {' or '.join(fitting)}")
    if path.exists() and not overwrite:
        raise ConfigError(f"record: {path} exists; choose another name or give --overwrite")


def write_games(path: Path, game: GameConfig, a: str, b: str, result: MatchResult) -> None:
    """All games of a match: PGN, SGF or TRMPH by the suffix, or JSON with the actions of each (which in a game of
    chance do not tell what chance did)."""
    outcomes, moves = np.asarray(result.outcomes), np.asarray(result.moves)
    found = []
    for pair in range(outcomes.shape[1]):
        for seat, names in enumerate(((a, b), (b, a))):
            reward = float(outcomes[seat, pair]) * (1 - 2 * seat)
            played = moves[seat, pair]
            found.append((pair, names, played[played >= 0].tolist(), (reward, -reward)))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".json":
        games = [
            {"pair": pair, "players": names, "actions": actions, "result": rewards}
            for pair, names, actions, rewards in found
        ]
        kind = {"game": game.source or game.name, "options": game.options}
        path.write_text(json.dumps(kind | {"games": games}) + "\n", encoding="utf-8")
        return
    _, *tags = FORMATS[game.name]
    found = [
        records.Game(game.name, game.options, actions, rewards, dict(zip(tags, names, strict=False)))
        for _, names, actions, rewards in found
    ]
    records.write(path, found)
