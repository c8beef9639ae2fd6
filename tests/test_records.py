"""Files of game records: what is written replays to the same game, what is wrong is named and the rest still read."""

import itertools
import json
import random
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sgfmill import sgf, sgf_moves

import envs
from envs.judges import random_games
from gauntlet import records as gauntlet_records
from jaxzero import records
from jaxzero.records import Game, Problem
from jaxzero.records import game as game_lib
from jaxzero.records import sgf as sgf_lib

WON = "#3,a1b1a2b2a3"  # the first player fills column a


def played(size: int, count: int, game: str = "hex", **options) -> list[Game]:
    """Random games to their end."""
    env = envs.make(game, size=size, **options)
    _, play = jax.device_get(random_games(env, count, env.max_plies + 1, jax.random.key(size)))
    games = []
    for g in range(count):
        length = int(play.terminated[:, g].argmax())
        result = tuple(play.rewards[length - 1, g].tolist())
        kept = options or {"swap": True}
        games.append(Game(game, {"size": size, **kept}, play.action[:length, g].tolist(), result))
    return games


def read(tmp_path, text: str) -> tuple[list[Game], list[Problem]]:
    path = tmp_path / "games.trmph"
    path.write_bytes(text.encode("latin-1"))
    return records.read(path)


def test_written_games_are_read_again(tmp_path):
    """More games than one chunk holds, two sizes in turns, swaps among them."""
    pairs = zip(played(3, 300), played(5, 300), strict=True)
    games = [game for pair in pairs for game in pair]
    assert any(9 in game.moves for game in games if game.options["size"] == 3)
    records.write(tmp_path / "games.trmph", games)
    assert records.read(tmp_path / "games.trmph") == (games, [])
    assert [path.name for path in tmp_path.iterdir()] == ["games.trmph"]


def test_replay_is_play(tmp_path):
    games = played(3, 20)
    for game, outcome in zip(games, records.replay(envs.make("hex", size=3), [g.moves for g in games]), strict=True):
        assert (outcome.played, outcome.over, outcome.result) == (len(game.moves), True, game.result)


@pytest.mark.parametrize(
    ("line", "moves", "result"),
    [
        (WON, [0, 1, 3, 4, 6], (1, -1)),
        (f"{WON} 1", [0, 1, 3, 4, 6], (1, -1)),
        (f"{WON} b", [0, 1, 3, 4, 6], (1, -1)),
        ("http://www.trmph.com/hex/board#3,a1b1", [0, 1], None),
        ("https://trmph.com/hex/board#3,a1b1 r", [0, 1], (-1, 1)),  # given up
        ("#3,b1swapc3 2", [1, 9, 8], (-1, 1)),
        ("#3", [], None),
        ("#11,k11a10", [120, 99], None),
        ("#19,s19swapq3", [360, 361, 54], None),
    ],
)
def test_dialects(tmp_path, line, moves, result):
    games, problems = read(tmp_path, f"; a comment\n\n{line}\r\n")
    assert problems == []
    assert [(game.moves, game.result) for game in games] == [(moves, result)]


@pytest.mark.parametrize(
    ("line", "move", "message"),
    [
        ("#3,a1a1", 2, "a1 is not legal here"),
        ("#3,swap", 1, "swap is not legal here"),
        ("#3,a1b1swap", 3, "swap is not legal here"),
        ("#3,b1swapa2", 3, "a2 is not legal here"),  # the mirrored stone stands there
        (f"{WON}c1", 6, "c1 is after the end"),
        (f"{WON} 2", 5, "gives the result (-1.0, 1.0), its moves lead to (1.0, -1.0)"),
        ("#3,a1b", 2, "truncated one: 'b'"),
        ("#3,a1b0", 2, "truncated one: 'b0'"),
        ("#3,a1swa", 2, "truncated one: 'swa'"),
        ("#3,a1d1", 2, "d1 is off the board of size 3"),
        ("#3,a1b4", 2, "b4 is off the board of size 3"),
        ("#3,a1 3", 0, "the winner is written 1, b, 2, r, not '3'"),
        ("#2,a1", 0, "size must be 3 to 19, got 2"),
        ("a1b2", 0, "no TRMPH record"),
        ("#3,a1 1 2", 0, "no TRMPH record"),
        ("#3,a1\xff", 2, "truncated"),
        ("#3,a1b1c1a2b2c2a3b3c3swapa1a1a1", 8, "after the end"),  # longer than any game
    ],
)
def test_problems_name_line_and_move_and_the_rest_is_read(tmp_path, line, move, message):
    games, problems = read(tmp_path, f"#5,a1\n{line}\n{WON}\n")
    assert [len(game.moves) for game in games] == [1, 5]
    assert [(problem.line, problem.move) for problem in problems] == [(2, move)]
    assert message in problems[0].message
    place = f"games.trmph:2, move {move}: " if move else "games.trmph:2: "
    assert place in str(problems[0])


def test_a_file_cut_anywhere_gives_whole_games_and_at_most_one_problem(tmp_path):
    games = played(5, 6)
    records.write(tmp_path / "games.trmph", games)
    text = (tmp_path / "games.trmph").read_text()
    for cut in np.random.default_rng(0).integers(0, len(text), 12):
        lines = text[:cut].count("\n")
        found, problems = read(tmp_path, text[:cut])
        assert found[:lines] == games[:lines]
        assert all(problem.line == lines + 1 for problem in problems)
        assert len(found) + len(problems) - lines in (0, 1)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"unknown format '\.xyz' of game records; known: \.trmph, \.sgf"):
        records.write(tmp_path / "games.xyz", [])
    path = tmp_path / "games.trmph"
    path.write_text("kept")
    with pytest.raises(ValueError, match="TRMPH records hold Hex, not connect_four"):
        records.write(path, [Game("connect_four", {}, [3])])
    with pytest.raises(ValueError, match="9 is no action of hex"):
        records.write(path, [Game("hex", {"size": 3, "swap": False}, [9])])
    with pytest.raises(ValueError, match=r"SGF records have no word for the move_cap of a game; choose \.jsonl"):
        records.write(tmp_path / "games.sgf", [Game("go", {"size": 5, "move_cap": 9}, [3])])
    assert path.read_text() == "kept"


def test_hex_with_and_without_the_swap_rule(tmp_path):
    with_swap, without = Game("hex", {"size": 3, "swap": True}, [1, 9]), Game("hex", {"size": 3, "swap": False}, [1, 3])
    games = [with_swap, without, Game("hex", {"size": 3, "swap": False}, [], (1, -1))]
    records.write(tmp_path / "games.trmph", games)
    assert (tmp_path / "games.trmph").read_text() == "#3,b1swap\n#3,b1a2 ; swap = false\n#3, 1 ; swap = false\n"
    assert records.read(tmp_path / "games.trmph") == (games, [])
    games, problems = read(tmp_path, "#3,b1swap ; swap = false\n#3,b1swap\n")
    assert games == [with_swap]
    assert [str(problem).rpartition(":")[2] for problem in problems] == [" swap is not legal here"]


# Hostile files of any format

LONG = {  # begin, what is repeated, how often
    "open values": (".sgf", "(;C", "[", 200_000),
    "open values with names": (".sgf", "(;", "C[", 100_000),
    "open values in lines": (".sgf", "", "(;FF[\n", 40_000),
    "nodes": (".sgf", "(;GM[1]SZ[5]", ";\n", 200_000),
    "brackets": (".sgf", "", "(", 500_000),
    "trees": (".sgf", "", "(;", 200_000),
    "variations": (".sgf", "(;GM[1]SZ[5];B[aa]", "(;W[bb])", 100_000),
    "letters": (".sgf", "(;", "a", 500_000),
    "blank lines": (".sgf", "(;C[", "\n", 300_000),
    "blanks": (".sgf", "(;GM[1]", " ", 500_000),
    "character sets": (".sgf", "\xe9", "(;SZ[5]CA[gb%d])\n", 5_000),
    "digits": (".trmph", "#", "9", 500_000),
    "moves": (".trmph", "#3,", "a1", 200_000),
    "lists": (".jsonl", "", "[", 500_000),
    "numbers": (".jsonl", '{"game": "hex", "moves": [', "9", 500_000),
}


@pytest.mark.parametrize("case", list(LONG))
def test_time_is_linear_and_messages_are_short(tmp_path, case):
    """Each took minutes, or raised, while it was quadratic or recursive; now some tenths of a second."""
    suffix, begin, unit, count = LONG[case]
    path = tmp_path / f"games{suffix}"
    text = "".join(unit.replace("%d", str(i)) for i in range(count)) if "%d" in unit else unit * count
    path.write_bytes((begin + text).encode("latin-1"))
    began = time.process_time()
    _, problems = records.read(path)
    assert time.process_time() - began < 20
    assert all(len(problem.message) <= 240 for problem in problems)


def test_thousands_of_trees_in_linear_time():
    tree = "(;FF[4]GM[1]SZ[19]KM[7.5]PB[somebody]\n" + ";B[pd];W[dp]\n" * 30 + ")\n"
    began = time.process_time()
    assert sum(len(tree.steps) == 60 and not tree.broken for tree in sgf_lib.trees(tree * 16_000)) == 16_000
    assert time.process_time() - began < 20


def test_any_komi_is_replayed_by_one_program(tmp_path):
    """A program for each of them would take minutes to compile."""
    before = game_lib.follow._cache_size()  # pyright: ignore
    games = []
    for n in range(300):  # Black owns the board
        lead = np.sign(25 - (n / 8 - 9))
        games.append(Game("go", {"size": 5, "komi": n / 8 - 9}, [0, 25, 25], (lead, -lead)))
    for name in ("games.sgf", "games.jsonl"):
        records.write(tmp_path / name, games)
        found, problems = records.read(tmp_path / name)
        assert problems == []
        assert [(game.options, game.moves, game.result) for game in found] == [
            (game.options, game.moves, game.result) for game in games
        ]
    assert game_lib.follow._cache_size() <= before + 1  # pyright: ignore


@pytest.mark.parametrize("suffix", [".sgf", ".trmph", ".jsonl"])
def test_what_is_written_is_read_again(tmp_path, suffix):
    """Games with options, results and headers of every kind, in every format that holds them, others refused."""
    for seed in range(40):
        case = gauntlet_records.written(random.Random(seed), tmp_path / f"games{suffix}")
        assert case.fault == "", f"seed {seed}: {case}"


# SGF

TREE = "(;FF[4]GM[1]SZ[5]KM[6.5]PB[Someone \\[1d\\]]RE[W+R]\n;B[cc];W[]\n(;B[aa]C[the main; line)])(;B[bb]))"


def read_sgf(tmp_path, text: str) -> tuple[list[Game], list[Problem]]:
    path = tmp_path / "games.sgf"
    path.write_text(text)
    return records.read(path)


def test_sgf_written_games_are_read_again_and_by_sgfmill(tmp_path):
    games = played(5, 40, "go", komi=0.5)
    records.write(tmp_path / "games.sgf", games)
    again, problems = records.read(tmp_path / "games.sgf")
    assert problems == []
    assert [(g.options, g.moves, g.result) for g in again] == [(g.options, g.moves, g.result) for g in games]
    for game in games[:10]:
        records.write(tmp_path / "one.sgf", [game])
        other = sgf.Sgf_game.from_bytes((tmp_path / "one.sgf").read_bytes())
        _, plays = sgf_moves.get_setup_and_moves(other)
        actions = [25 if point is None else (4 - point[0]) * 5 + point[1] for _, point in plays]
        assert actions == game.moves
        assert "".join(color for color, _ in plays) == ("bw" * len(actions))[: len(actions)]
        assert (other.get_size(), other.get_komi()) == (5, 0.5)
        assert other.get_winner() == ("b" if game.result == (1, -1) else "w")


def test_sgf_main_line_headers_and_escapes(tmp_path):
    (game,), problems = read_sgf(tmp_path, TREE)
    assert problems == []
    assert game == Game("go", {"size": 5, "komi": 6.5}, [12, 25, 0], (-1, 1), {"PB": "Someone [1d]", "RE": "W+R"})
    records.write(tmp_path / "again.sgf", [game])
    assert records.read(tmp_path / "again.sgf") == ([game], [])


def test_sgf_superko(tmp_path):
    """Komi to the last digit too; sgfmill reads the same."""
    games = [*played(5, 20, "go", komi=7.125, ko="positional"), *played(5, 2, "go", komi=123.4375)]
    records.write(tmp_path / "games.sgf", games)
    again, problems = records.read(tmp_path / "games.sgf")
    assert problems == []
    assert [(g.options, g.moves, g.result) for g in again] == [(g.options, g.moves, g.result) for g in games]
    other = sgf.Sgf_game.from_bytes((tmp_path / "games.sgf").read_bytes())
    assert (other.get_root().get("RU"), other.get_komi()) == ("Tromp-Taylor", 7.125)


@pytest.mark.parametrize(
    ("rules", "superko"), [("Tromp-Taylor", True), ("koPOSITIONALscoreAREA", True), ("Japanese", False)]
)
def test_sgf_rules_of_ko(tmp_path, rules, superko):
    """Black sends two stones and takes one back, as drawn in `test_go`: the board is that of the begin."""
    tree = f"(;GM[1]SZ[5]RU[{rules}]AB[ba][da][cb]AW[ab][bb]PL[B];B[aa];W[ca];B[ba])"
    games, problems = read_sgf(tmp_path, tree)
    assert [(problem.move, problem.message) for problem in problems] == [(3, "b5 is not legal here")] * superko
    records.write(tmp_path / "again.sgf", games)
    assert records.read(tmp_path / "again.sgf") == (games, [])


SET_UP = {  # properties, the first position and who moves in it, moves
    "handicap, and a capture": (
        "AB[bb][dd]HA[2]",
        "..... .X... ..... ...X. ..... O",
        "W[ab];B[ee];W[ba];B[ea];W[cb];B[ae];W[bc];B[]",
    ),
    "a rectangle, both colours, and a capture": (
        "AB[aa:ca]AW[ae][be]PL[B]",
        "XXX.. ..... ..... ..... OO... X",
        "B[ad];W[ce];B[bd];W[ed];B[cd];W[ea];B[de];W[]",
    ),
    "taken off again": ("AB[aa:cc]\n;AE[bb]AW[ee]PL[white]", "XXX.. X.X.. XXX.. ..... ....O O", "W[];B[bb];W[dd];B[]"),
    "only who moves": ("PL[W]", "..... ..... ..... ..... ..... O", "W[cc];B[];W[aa]"),
}


@pytest.mark.parametrize("case", list(SET_UP))
def test_sgf_stones_set_up(tmp_path, case):
    """Position and play as drawn by hand and as in sgfmill; what is written is read again."""
    setup, first, moves = SET_UP[case]
    (game,), problems = read_sgf(tmp_path, f"(;GM[1]SZ[5]KM[0.5]{setup};{moves})")
    assert problems == []
    env, state = game.env, game.env.from_text(game.start or "")
    assert drawn(env, state) == first
    records.write(tmp_path / "again.sgf", [game])
    assert records.read(tmp_path / "again.sgf") == ([game], [])
    other = sgf.Sgf_game.from_bytes((tmp_path / "again.sgf").read_bytes())
    board, plays = sgf_moves.get_setup_and_moves(other)
    assert ";".join(f"{color.upper()}[{'' if at is None else point(at)}]" for color, at in plays) == moves
    step = jax.jit(env.step)
    for action, (color, at) in zip(game.moves, plays, strict=True):
        state = step(state, jnp.int32(action))
        if at is not None:
            board.play(at[0], at[1], color)
    theirs = [["XO."["bw".find(board.get(row, column) or "-")] for column in range(5)] for row in range(4, -1, -1)]
    assert drawn(env, state)[:-2] == " ".join(map("".join, theirs))


def drawn(env: envs.Env, state) -> str:
    return " ".join(env.to_text(state).split()[:6])


def point(at: tuple[int, int]) -> str:
    return "abcde"[at[1]] + "edcba"[at[0]]


@pytest.mark.parametrize(("text", "line", "move", "message"), [
    ("(;GM[1]SZ[5]\n;B[aa]\n;W[aa])", 4, 2, "a5 is not legal here"),
    ("(;GM[1]SZ[5];B[];W[]\n;B[aa])", 3, 3, "after the end"),
    ("(;GM[1]SZ[5];B[aa];B[bb])", 2, 2, "W is to move"),
    ("(;GM[1]SZ[5]AB[cc];W[bb]\n;W[aa])", 3, 2, "W[aa], and B is to move"),
    ("(;GM[1]SZ[5]AB[cc]PL[B];W[bb])", 2, 1, "B is to move"),
    ("(;GM[1]SZ[5];B[az])", 2, 1, "no point of a board of size 5"),
    ("(;GM[1]SZ[5];B[aaa])", 2, 1, "no point"),
    ("(;GM[1]SZ[5];B[cc]\n;AB[aa];W[bb])", 3, 1, "stones are set up after the first move"),
    ("(;GM[1]SZ[5]\nAB[aa:ca:ea])", 3, 0, "[aa:ca:ea] is no point"),
    ("(;GM[1]SZ[5]AB[])", 2, 0, "no point"),
    ("(;GM[1]SZ[5]AB[aa]AW[ab][ba];B[cc])", 2, 0, "the chain at a5 has no liberty"),
    ("(;GM[1]SZ[5]PL[x])", 2, 0, "PL[x] is neither B nor W"),
    ("(;GM[1]SZ[5]AB[cc];W[cc])", 2, 1, "c3 is not legal here"),
    ("(;GM[1]SZ[25])", 2, 0, "SZ[25]"),
    ("(;GM[1]SZ[5]KM[x])", 2, 0, "KM[x]"),
    ("(;GM[2]SZ[5])", 2, 0, "another game than Go"),
    ("(;GM[1]SZ[5];B[aa];W[", 2, 1, "no SGF: 'W['"),
    ("(;GM[1]SZ[5];B[aa]", 2, 1, "cut off"),
    ("(;GM[1]SZ[5]KM[0.5]RE[B+2];B[];W[])", 2, 2, "its moves lead to (-1.0, 1.0)"),
])  # fmt: skip
def test_sgf_problems_name_line_and_move_and_the_rest_is_read(tmp_path, text, line, move, message):
    good = "(;GM[1]SZ[5];B[aa])"
    games, problems = read_sgf(tmp_path, f"{good}\n{text}\n{good}")
    assert [game.moves for game in games] == [[0], [0]]
    assert [(problem.line, problem.move) for problem in problems] == [(line, move)]
    assert message in problems[0].message


CHARSETS = {  # what stands before, names as bytes, as text
    "Big5": (b"CA[Big5]", b"\xa5\\", "功"),  # the second byte is a backslash
    "GB2312": (b"CA[gb2312]", b"\xba\xda\xb7\xbd", "黑方"),
    "GBK": (b"CA[gbk]", b"\x81]", "乚"),  # a bracket
    "GB18030": (b"CA[GB18030]", b"\x819\xee9", "㐀"),
    "Shift_JIS": (b"CA[Shift_JIS]", b"\x8f\\\x92i\x97\\\x91I", "十段予選"),
    "EUC-KR": (b"CA[euc-kr]", "이창호".encode("euc-kr"), "이창호"),
    "Latin-1": (b"CA[ISO-8859-1]", b"W\xfcrfel", "Würfel"),
    "Latin-2": (b"CA[iso8859-2]", b"Wi\xb6niewski", "Wiśniewski"),
    "UTF-8": (b"CA[UTF-8]", "木谷 實".encode(), "木谷 實"),
    "none, Latin-1 by FF[4]": (b"", b"W\xfcrfel", "Würfel"),
    "none, yet UTF-8": (b"", "木谷".encode(), "木谷"),
    "unknown": (b"CA[whatever]", "木谷".encode(), "木谷"),
    "no character set": (b"CA[rot13]", b"abc", "abc"),
    "declared, but UTF-8": (b"CA[ascii]", "木谷".encode(), "木谷"),
    "declared, but broken": (b"CA[gbk]", b"a\xff\xffb", "a\ufffd\ufffdb"),
}


@pytest.mark.parametrize("pair", [(name, name) for name in CHARSETS] + list(itertools.pairwise(CHARSETS)), ids="-".join)
def test_sgf_character_sets(tmp_path, pair):
    """Each game has its own; one without text, and in the middle, is read too."""
    trees = [b"(;GM[1]%sSZ[5]PB[%s];B[aa];W[bb])" % CHARSETS[name][:2] for name in pair]
    (tmp_path / "games.sgf").write_bytes(b"\n(;GM[1]SZ[5];B[cc])\n".join(trees))
    games, problems = records.read(tmp_path / "games.sgf")
    assert problems == []
    assert [(game.moves, game.headers) for game in games] == [
        ([0, 6], {"PB": CHARSETS[pair[0]][2]}), ([12], {}), ([0, 6], {"PB": CHARSETS[pair[1]][2]}),
    ]  # fmt: skip
    records.write(tmp_path / "again.sgf", games)
    assert records.read(tmp_path / "again.sgf") == (games, [])
    other = sgf.Sgf_game.from_bytes((tmp_path / "again.sgf").read_bytes())
    assert other.get_player_name("b") == CHARSETS[pair[0]][2]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_marks_of_encodings_and_old_line_ends(tmp_path, encoding):
    (tmp_path / "games.sgf").write_bytes(f"{TREE}\r\n{TREE}\r(;B[az])".encode(encoding))
    games, problems = records.read(tmp_path / "games.sgf")
    assert [game.moves for game in games] == [[12, 25, 0]] * 2
    assert [problem.line for problem in problems] == [7]


@pytest.mark.parametrize(("properties", "komi"), [
    ("KM[375]AP[foxwq]", 7.5), ("KM[375]", 7.5), ("KM[650]", 6.5), ("KM[325]", 6.5), ("KM[-650]", -6.5),
    ("AP[foxwq]KM[50]", 0.5), ("KM[50]", 50), ("KM[100.0]", 100), ("KM[ 6,5 ]", 6.5), ("KM[+.5]", 0.5), ("KM[]", 0),
    ("", 0), ("KM[375.5]", None), ("KM[501]", None), ("KM[nan]", None), ("KM[1e2]", None), ("KM[1_0]", None),
    ("KM[" + "9" * 5000 + "]", None), ("KM[" + "9" * 300 + ".5]", None),
])  # fmt: skip
def test_sgf_komi_as_servers_write_it(tmp_path, properties, komi):
    games, problems = read_sgf(tmp_path, f"(;GM[1]SZ[5]{properties};B[aa])")
    assert [game.options["komi"] for game in games] == ([] if komi is None else [komi])
    assert ["KM[" in problem.message for problem in problems] == ([True] if komi is None else [])
    records.write(tmp_path / "again.sgf", games)
    assert records.read(tmp_path / "again.sgf") == (games, [])


@pytest.mark.parametrize(("size", "known"), [
    ("5", True), (" 5 ", True), ("5:5", True), ("05", True), ("9:13", False), ("5:", False), ("", False), ("-5", False),
    ("5.0", False), ("4", False), ("20", False), ("9" * 5000, False),
])  # fmt: skip
def test_sgf_size(tmp_path, size, known):
    games, problems = read_sgf(tmp_path, f"(;GM[1]SZ[{size}];B[aa])")
    assert [game.options["size"] for game in games] == [5] * known
    assert ["SZ[" in problem.message for problem in problems] == [True] * (not known)


@pytest.mark.parametrize(("text", "result"), [
    ("B+R", (1, -1)), ("W+Resign", (-1, 1)), ("B+T", (1, -1)), ("b+0.5", (1, -1)), ("W+", (-1, 1)),
    ("Black+3", (1, -1)), ("0", (0, 0)),
    ("Draw", (0, 0)), ("Jigo", (0, 0)), ("Void", None), ("?", None), ("", None), ("who knows", None),
])  # fmt: skip
def test_sgf_results(tmp_path, text, result):
    (game,), _ = read_sgf(tmp_path, f"(;GM[1]SZ[5]RE[{text}];B[aa])")
    assert game.result == result
    records.write(tmp_path / "again.sgf", [game])
    assert records.read(tmp_path / "again.sgf") == ([game], [])


def test_sgf_after_the_end(tmp_path):
    """Servers count after a third pass, without the stones that the players agreed to be dead: theirs is another
    result than that of the moves, which is kept among the headers."""
    tree = "(;FF[4]GM[1]SZ[9]KM[7]RE[W+7.0];B[ee];W[];B[];W[])"
    (game,), problems = read_sgf(tmp_path, tree)
    assert problems == []
    assert (game.moves, game.result, game.headers) == ([40, 81, 81], (1, -1), {"RE": "W+7.0"})
    for name in ("again.sgf", "again.jsonl"):
        records.write(tmp_path / name, [game])
        assert records.read(tmp_path / name) == ([game], [])


@pytest.mark.parametrize(("tree", "first", "moves"), [
    ("HA[2];B[bb];B[dd];W[cc];B[aa]", "..... .X... ..... ...X. ..... O", [12, 0]),  # free placement, as moves
    ("HA[2];B[bb];W[dd]", None, [6, 18]),
    ("HA[0];B[bb];W[dd]", None, [6, 18]),
    (";W[cc];B[dd]", "..... ..... ..... ..... ..... O", [12, 18]),
    ("SZ[9]SZ[5];B[];W[tt]", None, [81, 81]),
    ("AddBlack[bb]PL[White];White[cc]", "..... .X... ..... ..... ..... O", [12]),
])  # fmt: skip
def test_sgf_begins(tmp_path, tree, first, moves):
    size = "" if tree.startswith("SZ") else "SZ[5]"
    (game,), problems = read_sgf(tmp_path, f"(;GM[1]{size}KM[0.5]{tree})")
    assert problems == []
    assert game.moves == moves
    assert (game.start and drawn(game.env, game.env.from_text(game.start))) == first


def test_sgf_headers_of_other_formats(tmp_path):
    """They cannot change the game; what SGF has no word for is left out."""
    headers = {name: "[x]\\" for name in ("player_1", "KM", "SZ", "FEN", "FF", "GM", "AB", "CA", "PL", "HA", "B", ";B")}
    game = Game("go", {"size": 5, "komi": 6.5}, [0, 6], (1, -1), headers | {"PB": "a\nb]\\", "RE": "W+R"})
    records.write(tmp_path / "games.sgf", [game])
    (again,), problems = records.read(tmp_path / "games.sgf")
    assert problems == []
    assert again == Game("go", {"size": 5, "komi": 6.5}, [0, 6], (1, -1), {"PB": "a b]\\", "RE": "B+"})


def test_sgf_as_sgfmill_reads_it(tmp_path):
    """150 files written in odd ways: names, moves, komi and winner are those of sgfmill."""
    for seed in range(150):
        text = odd_tree(random.Random(seed))
        (tmp_path / "games.sgf").write_bytes(text)
        games, problems = records.read(tmp_path / "games.sgf")
        assert problems == [], (seed, text)
        other = sgf.Sgf_game.from_bytes(text)
        _, plays = sgf_moves.get_setup_and_moves(other)
        actions = [25 if at is None else (4 - at[0]) * 5 + at[1] for _, at in plays]
        winner = {None: None, (1, -1): "b", (-1, 1): "w", (0, 0): None}[games[0].result]
        theirs = actions, other.get_komi(), other.get_player_name("b"), other.get_winner()
        ours = games[0].moves, games[0].options["komi"], games[0].headers.get("PB"), winner
        assert ours == theirs, (seed, text)


def odd_tree(draw: random.Random) -> bytes:
    """One game, no stone beside another, with space, small letters, escapes, comments and variations."""

    def space() -> str:
        return draw.choice(["", "", "", " ", "\n", "\t \r\n"])

    def name(capitals: str) -> str:
        return "".join(letter + draw.choice(["", "", "x"]) for letter in capitals)

    def text() -> str:
        words = ["Ab", "\\]", "\\\\", "(;B[aa\\]", ":", ";", ")", " ", "\\a", "\\:", "\\\n", "("]
        words += {"utf-8": ["é", "木"], "latin-1": ["é"]}.get(encoding, [])
        return "x" + "".join(draw.choices(words, k=draw.randint(0, 6))) + "y"

    charsets = [("utf-8", "CA[UTF-8]"), ("latin-1", "CA[ISO-8859-1]"), ("latin-1", ""), ("ascii", "CA[US-ASCII]")]
    encoding, declared = draw.choice(charsets)
    points = [column + row for row in "ace" for column in "ace"]
    moves = draw.sample(points, draw.randint(0, 7)) + draw.choice([[], [""], ["tt"]])
    root = [
        f"{name('SZ')}[5]",
        f"GM[1]{space()}",
        f"C[{text()}]",
        f"RE[{draw.choice(['B+R', 'W+3.5', 'Void', '?', '0', 'B+'])}]",
    ]
    root += [f"{name('KM')}[{draw.choice(['6.5', '-3', '0', '7.25'])}]", *draw.choice([[], [f"PB{space()}[{text()}]"]])]
    draw.shuffle(root)
    nodes = [f";FF[4]{declared}{space().join(root)}"]
    for number, point in enumerate(moves):
        extra = draw.choice(["", "", f"C[{text()}]", "BL[3.5]OB[2]", f"TR[aa]{space()}[bb]"])
        nodes.append(f";{space()}{extra}{name('BW'[number % 2])}{space()}[{point}]")
    branch = draw.randint(1, 2 * len(nodes))
    main, rest = space().join(nodes[:branch]), space().join(nodes[branch:])
    tree = f"({space()}{main}" + (f"({rest})(;C[{text()}];B[aa](;W[bb])(;W[cc]))" if rest else "") + f"{space()})"
    return (draw.choice(["", "Subject: a game (1)\n\n", "\n"]) + tree + draw.choice(["", "\n", "\nbye"])).encode(
        encoding
    )


@pytest.mark.parametrize("text", ["hello", ";B[aa]", "C[x]", ")(", "()", "GM[1];B[aa])", "[4]GM[1])"])
def test_what_is_no_sgf(tmp_path, text):
    games, problems = read_sgf(tmp_path, text)
    assert games == []
    assert len(problems) == 1


# JSON lines

UR = '"start": "*...  *.  X: 7 waiting, 0 home\\n...*....\\n*...  *.  O: 7 waiting, 0 home\\nX rolled 2 at ply 0"'


def read_lines(tmp_path, text: str) -> tuple[list[Game], list[Problem]]:
    path = tmp_path / "games.jsonl"
    path.write_text(text)
    return records.read(path)


def test_lines_of_any_game_are_read_again(tmp_path):
    games = [*played(5, 3, "go", komi=0.5), *played(3, 3)]
    games.append(Game("tic_tac_toe", {}, [4], (-1, 1), {"player_1": "given up\u2028here"}, "X.. ... ..O"))
    records.write(tmp_path / "games.jsonl", games)
    assert records.read(tmp_path / "games.jsonl") == (games, [])


def test_lines_with_dice(tmp_path):
    """Worked by hand: X comes in with a 2, O rolls 0 and has to pass, X walks on from 2 to 3 with a 1."""
    (game,), problems = read_lines(
        tmp_path, f'{{"game": "ur", "moves": [0, 7, 0], "outcomes": [0, 1, 4], {UR}, "result": [1, -1]}}'
    )
    assert problems == []
    assert (game.moves, game.outcomes, game.result) == ([0, 7, 0], [0, 1, 4], (1, -1))  # given up


@pytest.mark.parametrize(("line", "move", "message"), [
    ('{"game"', 0, "no JSON: "),
    ("[]", 0, "a record is an object with a game and its moves"),
    ('{"game": "ur"}', 0, "a record is an object with a game and its moves"),
    ('{"game": "hx", "moves": []}', 0, "unknown game 'hx'; did you mean 'hex'?"),
    ('{"game": ["hex"], "moves": []}', 0, "game is a name"),
    ('{"game": "hex", "options": {"size": [3]}, "moves": []}', 0, "options are its options by name"),
    ('{"game": "hex", "headers": {"a": 1}, "moves": []}', 0, "headers are texts by name"),
    ('{"game": "hex", "moves": [], "reslt": [1, -1]}', 0, "unknown field 'reslt'; did you mean 'result'?"),
    ('{"game": "hex", "moves": [0.5]}', 0, "lists of whole numbers"),
    ('{"game": "hex", "moves": [], "result": 1}', 0, "result is a list of 2 numbers"),
    ('{"game": "hex", "moves": [], "result": [1]}', 0, "result is a list of 2 numbers"),
    ('{"game": "hex", "moves": [3], "result": [NaN, 1]}', 0, "NaN is no number"),
    ('{"game": "hex", "moves": [3], "result": [1e999, -1e999]}', 0, "result is a list of 2 numbers"),
    (f'{{"game": "hex", "moves": [3], "result": [{"9" * 400}, 0]}}', 0, "result is a list of 2 numbers"),
    (f'{{"game": "hex", "moves": [{"9" * 6000}]}}', 0, "no JSON: "),
    (f'{{"game": "hex", "moves": [{"9" * 4000}]}}', 1, "action 9999999999999999999… is not legal here"),
    ('{"game": "hex", "moves": [3], "result": "12"}', 0, "result is a list of 2 numbers"),
    ('{"game": "hex", "moves": [3], "result": [true, false]}', 0, "result is a list of 2 numbers"),
    ('{"game": "hex", "moves": [3], "result": [1, 1]}', 0, "one player wins what the other loses"),
    ('{"game": "hex", "moves": [3], "result": [2, -2]}', 0, "a game is worth 1 at most"),
    ('{"game": "2048", "moves": [], "outcomes": [], "result": [Infinity]}', 0, "Infinity is no number"),
    ('{"game": "hex", "moves": [3], "moves": [4]}', 0, "stands there twice"),
    ('{"game": "hex", "moves": [], "start": 3}', 0, "start is a text"),
    ("[" * 200_000, 0, "nested too deeply"),
    ('{"game": "hex", "options": {"size": 1000000000}, "moves": []}', 0, "size must be 3 to 19, got 1000000000"),
    (f'{{"game": "go", "options": {{"komi": {"9" * 400}}}, "moves": []}}', 0, "komi is too large a number"),
    ('{"game": "no such.py:make", "moves": []}', 0, "no such.py: no such file"),
    (f'{{"game": "{"x" * 9999}.py:make", "moves": []}}', 0, "no such file"),
    ('{"game": "hex\x1b[2J", "moves": []}', 0, "no JSON: "),
    ('{"game": "hex\\u001b[2J\\ud800.py:f", "moves": []}', 0, "hex\ufffd[2J\ufffd.py: no such file"),
    ('{"game": "hex", "moves": [], "outcomes": []}', 0, "outcomes are for games with chance"),
    ('{"game": "hex", "moves": [], "start": "x"}', 0, "hex: "),
    ('{"game": "tic_tac_toe", "moves": [4, 4]}', 2, "action 4 is not legal here"),
    ('{"game": "tic_tac_toe", "moves": [4, 99]}', 2, "action 99 is not legal here"),
    ('{"game": "tic_tac_toe", "moves": [0, 3, 1, 4, 2, 5]}', 6, "action 5 is after the end of the game"),
    ('{"game": "tic_tac_toe", "moves": [0, 3, 1, 4, 2], "result": [-1, 1]}', 5, "its moves lead to (1.0, -1.0)"),
    ('{"game": "treasure", "moves": []}', 0, "games of treasure do not all begin alike"),
    ('{"game": "ur", "moves": []}', 0, "outcomes are for games with chance, and needed there"),
    ('{"game": "ur", "moves": [], "outcomes": []}', 0, "games of ur do not all begin alike"),
    (f'{{"game": "ur", "moves": [0], "outcomes": [], {UR}}}', 0, "an outcome for each move"),
    (f'{{"game": "ur", "moves": [0, 0], "outcomes": [3, 5], {UR}}}', 2, "or its outcome 5 is impossible"),
    (f'{{"game": "ur", "moves": [0], "outcomes": [-1], {UR}}}', 1, "or its outcome -1 is impossible"),
    (f'{{"game": "ur", "moves": [0, 0], "outcomes": [0, 1], {UR}}}', 2, "action 0 is not legal here"),  # must pass
], ids=lambda value: str(value)[:30])  # fmt: skip
def test_lines_problems_name_line_and_move_and_the_rest_is_read(tmp_path, line, move, message):
    good = '{"game": "hex", "moves": [3]}'
    games, problems = read_lines(tmp_path, f"{good}\n{line}\n\n{good}\n")
    assert [game.moves for game in games] == [[3], [3]]
    assert [(problem.line, problem.move) for problem in problems] == [(2, move)]
    assert message in problems[0].message


def test_lines_that_are_no_utf8(tmp_path):
    good = b'{"game": "hex", "moves": [3], "headers": {"player_1": "%s"}}\n'
    (tmp_path / "games.jsonl").write_bytes(good % "Żółw".encode() + good % b"\xff" + good % b"\\ud800")
    games, problems = records.read(tmp_path / "games.jsonl")
    assert [game.headers["player_1"] for game in games] == ["Żółw", "\ud800"]
    assert [str(problem).rpartition("games")[2] for problem in problems] == [".jsonl:2: no UTF-8 text"]
    records.write(tmp_path / "games.jsonl", games)
    assert records.read(tmp_path / "games.jsonl") == (games, [])


@pytest.mark.parametrize("source", [
    "raise KeyError('x')", "import sys; sys.exit()", "x = ", "def make(): return 3",
    "from envs.tic_tac_toe import TicTacToe\ndef make():\n    class Own(TicTacToe):\n        "
    "def step(self, state, action): return state.broken\n    return Own()",
])  # fmt: skip
def test_lines_of_a_broken_game_of_ones_own(tmp_path, source):
    (tmp_path / "own.py").write_text(source)
    good = '{"game": "tic_tac_toe", "moves": [4]}'
    games, problems = read_lines(tmp_path, f'{good}\n{{"game": "{tmp_path}/own.py:make", "moves": [3]}}\n{good}\n')
    assert [game.moves for game in games] == [[4], [4]]
    assert [problem.line for problem in problems] == [2]
    assert "own.py" in problems[0].message


ENDS = {  # the last position, who has won in it
    "tic_tac_toe": ("XXX OO. ...", (1, -1)),
    "connect_four": ("....... ....... O...... OX..... OX..... OX....X", (-1, 1)),
    "gomoku": ("XXXXX " + "OOOO. " + "..... " * 3, (1, -1)),
    "othello": ("OOOOOO OOOOOO XOOOOO XOOOOO XXXXOO XXXXXO X a2", (-1, 1)),
    "breakthrough": ("BW .. B. WW B a3b4", (1, -1)),
    "hex": ("OXX OXO XXO O b2", (1, -1)),
    "ur": ("*...  *.  X: 0 waiting, 1 home ...*.... *...  *O  O: 0 waiting, 0 home O lost at ply 17", (1, -1)),
    "backgammon": ("0:\n1: 2:2 1:5\n0 over ply 205", (1 / 3, -1 / 3)),
    "chess": ("k7/1Q6/1K6/8/8/8/8/8 b - - 0 40", (1, -1)),  # mate
    "go": (".....\n" * 4 + "....X\nX to move, ply 4, last pass, ko -, over", (1, -1)),
}
OPTIONS = {"gomoku": {"size": 5}, "othello": {"size": 6}, "breakthrough": {"rows": 4, "columns": 2}, "hex": {"size": 3}}
OPTIONS |= {"ur": {"pieces": 1}, "go": {"size": 5}}


@pytest.mark.parametrize("game", list(ENDS))
def test_a_position_that_is_over_has_its_result(game):
    text, rewards = ENDS[game]
    state = envs.make(game, **OPTIONS.get(game, {})).from_text(text)
    assert bool(state.terminated)
    np.testing.assert_allclose(state.rewards, np.float32(rewards))


def test_lines_that_begin_at_the_end(tmp_path):
    drawn, mate = "4k3/8/8/8/8/8/8/4K3 w - - 0 1", ENDS["chess"][0]
    lines = [{"game": "chess", "moves": [], "start": start} for start in (drawn, mate)]
    lines += [lines[1] | {"result": [1, -1]}, lines[1] | {"result": [0, 0]}]
    games, problems = read_lines(tmp_path, "\n".join(map(json.dumps, lines)))
    assert [game.result for game in games] == [(0, 0), (1, -1), (1, -1)]
    assert ["its moves lead to (1.0, -1.0)" in problem.message for problem in problems] == [True]
