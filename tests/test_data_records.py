"""Records read into shards of games and written from them."""

import contextlib
import functools
import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sgfmill import sgf

pytest.importorskip("pyarrow")
from gauntlet import records as sound
from jaxzero import records
from jaxzero.data import exports, imports, pieces, shards
from jaxzero.data.filters import Filter, days
from jaxzero.data.imports import Import
from jaxzero.messages import ConfigError
from jaxzero.records import Game

TRMPH = [f"#5,{moves}" for moves in ("a1b2c3", "a1swap", "e5d4c3b2 1", "c3 2", "", "a1b1c1d1e1")]


def rows(folder: Path) -> list[dict]:
    return [row for path in shards.shards(folder) for table in shards.read(path) for row in table.to_pylist()]


def games(folder: Path) -> list[Game]:
    """As `records` reads them."""
    game = shards.game_of(folder)
    return [
        Game(game.name, game.options, row["actions"], row["result"] and tuple(row["result"]), dict(row["headers"]),
             row["start"], row["outcomes"])
        for row in rows(folder)
    ]  # fmt: skip


def random_games(kind: str, count: int, draw: random.Random) -> list[Game]:
    """That the format holds."""
    make = {".pgn": sound.chess, ".sgf": sound.go, ".trmph": sound.hex_game, ".jsonl": sound.tic_tac_toe}[kind]
    found = []
    while len(found) < count:
        game = make(draw)
        with contextlib.suppress(ValueError):
            records.FORMATS[kind].dump([game])
            found.append(game)
    return found


@functools.cache
def random_texts(kind: str) -> tuple[str, ...]:
    return tuple(records.FORMATS[kind].dump([game]) for game in random_games(kind, 40, random.Random(kind)))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# Pieces


def cut(path: Path, size: int, monkeypatch) -> list[pieces.Piece]:
    monkeypatch.setattr(pieces, "BLOCK", size)
    return list(pieces.pieces(path, records.format_of(pieces.unpacked(path)).begins))


@pytest.mark.parametrize("kind", [".pgn", ".sgf", ".trmph", ".jsonl"])
@pytest.mark.parametrize(("packed", "end"), [("", "\n"), (".gz", "\r\n"), (".zst", "\r")])
def test_pieces_give_the_games_and_problems_of_the_whole_file(tmp_path, monkeypatch, kind, end, packed):
    import pyarrow as pa

    form = records.FORMATS[kind]
    some = list(random_texts(kind))
    some[7] = some[7][: len(some[7]) // 2] + "\n"
    text = form.between.join(some)
    plain = tmp_path / f"games{kind}"
    plain.write_bytes(text.replace("\n", end).encode())
    expected, problems = records.read(plain)
    assert len(expected) >= 38
    path = tmp_path / f"games{kind}{packed}"
    if packed:
        with pa.output_stream(str(path), compression=pieces.PACKED[packed]) as file:
            file.write(plain.read_bytes())
    found = cut(path, 150, monkeypatch)
    assert len(found) > 3
    assert b"".join(piece.data for piece in found) == text.encode()
    for piece in found:
        again = next(pieces.pieces(path, form.begins, piece.begin))
        assert again == piece
    texts = [(str(plain), piece.begin.line, form.decode(piece.data)) for piece in found]
    ours = records.parse(form, texts)
    assert ours == (expected, problems)
    assert [game.line for game in ours[0]] == [game.line for game in expected]


def test_a_game_that_is_too_long_is_left_out_and_the_next_is_read(tmp_path, monkeypatch):
    path = tmp_path / "games.trmph"
    path.write_text("#5,a1\n" + "x" * 5000 + "\n#5,b1\n")
    monkeypatch.setattr(pieces, "LONGEST", 1000)
    found = cut(path, 100, monkeypatch)
    assert b"".join(piece.data for piece in found) == b"#5,a1\n#5,b1\n"
    assert [(piece.begin.line, piece.end.line) for piece in found if piece.problem] == [(2, 3)]


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_a_damaged_file_is_read_up_to_the_damage(tmp_path, packed):
    import pyarrow as pa

    draw = random.Random(1)
    lines = ["#19," + "".join(f"{draw.choice('abcdefghijklmnopqrs')}{draw.randint(1, 19)}" for _ in range(9)) + "\n"
             for _ in range(40_000)]  # fmt: skip
    path = tmp_path / f"games.trmph{packed}"
    with pa.output_stream(str(path), compression=pieces.PACKED[packed]) as file:
        file.write("".join(lines).encode())
    path.write_bytes(path.read_bytes()[:-300])
    found = list(pieces.pieces(path, records.FORMATS[".trmph"].begins))
    text = b"".join(piece.data for piece in found)
    assert len(text) > 200_000
    assert "".join(lines).encode().startswith(text)
    assert "damaged from here on" in found[-1].problem


def test_utf16_is_read(tmp_path):
    path = tmp_path / "games.trmph"
    path.write_bytes("#5,a1\r\n#5,b1".encode("utf-16"))
    assert b"".join(piece.data for piece in pieces.pieces(path, records.FORMATS[".trmph"].begins)) == b"#5,a1\n#5,b1"


# Import


def test_plain_lines_are_read_as_the_parser_reads_them(tmp_path):
    """Every line by the fast way equals the same line with a blank at its begin, which takes the other way."""
    draw = random.Random(5)
    lines = [*TRMPH, "#5,a1a1", "#5,f1", "#5,swap", "#5,a1 3", "#7,g7g1", "", "; no game", "#5,a1b1swap", "#2,a1"]
    for _ in range(100):
        lines.append("#5," + "".join(draw.choice("abcdef") + str(draw.randint(1, 6)) for _ in range(4)))
        lines.append(records.FORMATS[".trmph"].dump([sound.hex_game(draw)]).strip())
    found = []
    for prefix in ("", " "):
        path = tmp_path / f"games{len(prefix)}.trmph"
        path.write_text("".join(f"{prefix}{line}\n" for line in lines))
        out = tmp_path / f"out{len(prefix)}"
        counts = imports.run([path], out, Import(options={"size": 5}))
        problems = (out / "problems.txt").read_text().replace(path.name, "")
        found.append((counts, problems, [row | {"id": row["id"].rpartition(":")[2]} for row in rows(out)]))
    assert found[0] == found[1]
    assert found[0][0]["others"]["hex {'size': 7, 'swap': True}"] == 1


def test_games_of_python_chess(tmp_path):
    """A hundred random games with comments, in many files, with names, ratings and dates."""
    from test_pgn import STARTS, ours, random_game

    generator = np.random.default_rng(1)
    theirs = [random_game(fen, 60, generator) for fen in STARTS.values() for _ in range(6)]
    for i, game in enumerate(theirs):
        game.headers["WhiteElo"], game.headers["BlackElo"], game.headers["Date"] = str(1000 + i), "1500", "2024.01.??"
        next(iter(game.mainline())).comment = "a comment\n\n[%clk 0:01] 1-0 1. e4"
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for i in range(0, len(theirs), 7):
        folder = tmp_path / "deep" / ("er" if i % 2 else "")
        (folder / f"{i:03d}.pgn.gz").write_bytes(gzip.compress("\n\n".join(map(str, theirs[i : i + 7])).encode()))
    out = tmp_path / "out"
    counts = imports.run([tmp_path / "deep"], out, Import())
    assert (counts["games"], counts["broken"]) == (len(theirs), 0)
    wanted = {game.headers["WhiteElo"]: ours(game) for game in theirs}
    for found in games(out):
        expected = wanted.pop(found.headers["WhiteElo"])
        assert (found.moves, found.start, found.headers["White"]) == (expected.moves, expected.start, "A. Player, ä")
        assert found.result == expected.result
        assert (found.headers["BlackElo"], found.headers["Date"]) == ("1500", "2024.01.??")
    assert not wanted


def test_games_of_sgfmill_and_other_komi_is_counted(tmp_path):
    draw = random.Random(2)
    folder = tmp_path / "games"
    folder.mkdir()
    for i in range(60):
        game = sgf.Sgf_game(size=9)
        game.get_root().set("KM", 6.5 if i % 3 else 7.5)
        game.get_root().set("PB", "Black [9d]")
        for number, point in enumerate(draw.sample([(r, c) for r in range(0, 9, 2) for c in range(0, 9, 2)], 6)):
            game.extend_main_sequence().set_move("bw"[number % 2], point)
        (folder / f"{i:02d}.sgf").write_bytes(game.serialise())
    out = tmp_path / "out"
    counts = imports.run([folder], out, Import(options={"komi": 6.5}))
    assert counts["games"] == 40
    assert sum(counts["others"].values()) == 20
    for row in rows(out):
        path, _, line = row["id"].rpartition(":")
        other = sgf.Sgf_game.from_bytes(Path(path).read_bytes())
        plays = [node.get_move()[1] or (0, 0) for node in other.get_main_sequence()[1:]]
        assert row["actions"] == [(8 - r) * 9 + c for r, c in plays]
        assert (line, dict(row["headers"])["PB"]) == ("1", "Black [9d]")


def test_games_of_a_match(run, tmp_path):
    status, *_ = run("match", "random", "random", "--game", "ur", "--options.pieces", "2", "--games", "20",
                     "--record", "games.jsonl", "--out", "arena")  # fmt: skip
    assert status == 0
    expected, _ = records.read("games.jsonl")
    status, out, _ = run("data", "import", "games.jsonl", "--out", "games")
    assert (status, out.startswith("games: 20 games")) == (0, True)
    assert games(Path("games")) == expected


def test_broken_games_are_named_and_filters_are_counted(run, tmp_path):
    heads = [
        ("1600", "1700", "2024.05.01", "1-0"),
        ("1400", "1700", "2024.05.01", "1-0"),
        ("1600", "", "2024.05.01", "*"),
        ("1600", "1700", "2023.??.??", "1-0"),
        ("1600", "1700", "2025.01.01", "0-1"),
    ]
    text = "".join(
        f'[Event "x"]\n[Date "{day}"]\n[WhiteElo "{a}"]\n[BlackElo "{b}"]\n[Result "{result}"]\n\n1. e4 e5 {result}\n\n'
        for a, b, day, result in heads
    )
    (tmp_path / "a.pgn").write_text(text + '[Event "bad"]\n\n1. e4 e4 1-0\n')
    words = "--min-rating 1500 --after 2024-01-01 --before 2025-01-01 --result first --min-plies 2 --max-plies 2"
    status, out, err = run("data", "import", "a.pgn", "--out", "games", *words.split())
    assert status == 0
    assert out.startswith("games: 1 games, 4 left out by filters, 1 broken; ")
    assert err == "a.pgn:43, move 2: 1... e4 is not legal here\n"
    assert Path("games/problems.txt").read_text() == err
    assert run("data", "import", "a.pgn", "--out", "none", "--min-plies", "3")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.trmph", "--out", "o"], "none.trmph: cannot be used"),
        (["a.trmph", "--out", "o", "--options.swp", "1"], "no option 'swp'; did you mean 'swap'"),
        (["a.trmph", "--out", "o", "--game", "go"], "these files hold hex, not go"),
        (["a.trmph", "--out", "o", "--after", "yesterday"], "'yesterday' is no day"),
        (["a.trmph", "--out", "full"], "is not empty; choose another folder"),
        (["a.trmph", "b.pgn", "--out", "o"], "hold chess and hex; import each"),
        (["empty", "--out", "o"], "holds no files of .trmph"),
        (["c.txt", "--out", "o"], "unknown format '.txt'"),
        (["--out", "o"], "name one file"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, words, message):
    (tmp_path / "a.trmph").write_text("#5,a1\n")
    (tmp_path / "b.pgn").write_text("1. e4 *\n")
    (tmp_path / "c.txt").write_text("#5,a1\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    (tmp_path / "empty").mkdir()
    status, out, err = run("data", "import", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert message in err
    assert not Path("o").exists()


def test_hex_without_the_swap_rule(tmp_path):
    path = tmp_path / "games.trmph"
    path.write_text("#5,a1b2\n#5,a1swap\n")
    counts = imports.run([path], tmp_path / "out", Import(options={"swap": False}))
    assert (counts["games"], counts["broken"]) == (1, 1)
    assert shards.game_of(tmp_path / "out").options == {"size": 5, "swap": False}
    exports.run(tmp_path / "out", tmp_path / "again.trmph")
    assert (tmp_path / "again.trmph").read_text() == "#5,a1b2 ; swap = false\n"


@pytest.mark.parametrize("text", ["2024.01.31", "2024-1-31", "2024/01/31,02-01", " 2024.01.31 "])
def test_days(text):
    assert [str(day) for day in days(text) or ()] == ["2024-01-31"] * 2


def test_parts_of_days_and_none():
    assert [str(day) for day in days("2024.02.??") or ()] == ["2024-02-01", "2024-02-29"]
    assert [str(day) for day in days("2023.??.??") or ()] == ["2023-01-01", "2023-12-31"]
    assert [days(text) for text in ("????.??.??", "", "2024.13.01", "2024.02.30", "0000.01.01")] == [None] * 5
    assert not Filter(after="2023-06-01").fits({"Date": "2023.??.??"}, records.FORMATS[".pgn"])


# Export


@pytest.mark.parametrize("kind", [".pgn", ".sgf", ".trmph", ".jsonl"])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_import_export_import_is_the_same(tmp_path, monkeypatch, kind, packed):
    monkeypatch.setattr(shards, "ROW_GROUP", 16)
    draw = random.Random(kind)
    some = random_games(kind, 60, draw)
    options = some[0].options
    records.write(tmp_path / f"games{kind}", [game for game in some if game.options == options])
    first, second = tmp_path / "first", tmp_path / "second"
    counts = imports.run([tmp_path / f"games{kind}"], first, Import())
    exports.run(first, tmp_path / f"again{kind}{packed}")
    assert imports.run([tmp_path / f"again{kind}{packed}"], second, Import()) == counts
    assert games(second) == games(first) == records.read(tmp_path / f"games{kind}")[0]
    if not packed:
        assert (tmp_path / f"again{kind}").read_bytes() == (tmp_path / f"games{kind}").read_bytes()


def test_what_a_format_cannot_hold_is_named_and_left_out(run, tmp_path):
    start = "X....\n.....\n.....\n.....\n.....\nO a1"
    lines = [{"game": "hex", "options": {"size": 5}, "moves": [7]},
             {"game": "hex", "options": {"size": 5}, "moves": [7], "start": start}]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert run("data", "import", "a.jsonl", "--out", "games")[0] == 0
    status, out, err = run("data", "export", "games", "--out", "b.trmph")
    assert status == 0
    assert "b.trmph: 1 games; 1 cannot be written in this format" in out
    assert "a.jsonl:2: TRMPH records begin with the empty board" in err
    assert run("data", "export", "games", "--out", "b.trmph")[2].startswith("error: out: b.trmph exists")
    assert "games of hex are written as .trmph or .jsonl" in run("data", "export", "games", "--out", "b.pgn")[2]


# Kills


class Killed(BaseException):
    pass


def killed_at(monkeypatch, number: int) -> None:
    """The `number`-th renaming of a file raises in place of being done."""
    replace, calls = os.replace, iter(range(1000))

    def dying(*paths):
        if next(calls) == number:
            raise Killed
        replace(*paths)

    monkeypatch.setattr(os, "replace", dying)


def test_a_killed_import_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(imports, "SHARD", 50)
    monkeypatch.setattr(pieces, "BLOCK", 400)
    draw = random.Random(3)
    for i in range(5):
        lines = [records.FORMATS[".trmph"].dump([sound.hex_game(draw)]) for _ in range(60)]
        lines[10] = "#5,a1a1\n"
        (tmp_path / f"{i}.trmph").write_text("".join(lines))
    files = sorted(tmp_path.glob("*.trmph"))
    imports.run(files, tmp_path / "whole", Import(options={"swap": True}))
    kills = 0
    for number in range(20):
        out = tmp_path / f"killed{number}"
        with monkeypatch.context() as patch:
            killed_at(patch, number)
            try:
                imports.run(files, out, Import(options={"swap": True}))
            except Killed:
                kills += 1
        imports.run(files, out, Import(options={"swap": True}))
        assert content(out) == content(tmp_path / "whole"), number
    assert kills >= 10


def test_an_import_that_kill_9_ends_goes_on(tmp_path):
    lines = [f"#9,{a}1{b}2{c}3 1\n" for a in "abcdefghi" for b in "abcdefghi" for c in "abcdefghi"] * 120
    (tmp_path / "a.trmph").write_text("".join(lines))
    words = [sys.executable, "-m", "jaxzero", "data", "import", str(tmp_path / "a.trmph"), "--out"]
    process = subprocess.Popen([*words, str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "000000.parquet").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "killed" / "unfinished").exists()
    with pytest.raises(ConfigError, match="is not finished"):
        exports.run(tmp_path / "killed", tmp_path / "x.jsonl")
    for name in ("killed", "whole"):
        imports.run([tmp_path / "a.trmph"], tmp_path / name, Import())
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_memory_does_not_grow_with_the_file(tmp_path):
    """64 MiB of games are read in pieces of at most a few MiB."""
    import tracemalloc

    path = tmp_path / "a.pgn"
    game = '[Event "x"]\n\n' + "1. e4 e5 2. Nf3 Nc6 " * 50 + "1-0\n\n"
    path.write_text(game * (64 * 2**20 // len(game)))
    tracemalloc.start()
    count = sum(piece.data.count(b"[Event") for piece in pieces.pieces(path, records.FORMATS[".pgn"].begins))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 64 * 2**20 // len(game)
    assert peak < 8 * 2**20
