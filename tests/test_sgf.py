"""SGF: records of Go, beside sgfmill and as servers write them."""

import itertools
import random
import time

import jax
import jax.numpy as jnp
import pytest
from recorded import played
from sgfmill import sgf, sgf_moves

import envs
from jaxzero import records
from jaxzero.records import Game, Problem
from jaxzero.records import sgf as sgf_lib


def test_thousands_of_trees_in_linear_time():
    tree = "(;FF[4]GM[1]SZ[19]KM[7.5]PB[somebody]\n" + ";B[pd];W[dp]\n" * 30 + ")\n"
    began = time.process_time()
    assert sum(len(tree.steps) == 60 and not tree.broken for tree in sgf_lib.trees(tree * 16_000)) == 16_000
    assert time.process_time() - began < 20


TREE = "(;FF[4]GM[1]SZ[5]KM[6.5]PB[Someone \\[1d\\]]RE[W+R]\n;B[cc];W[]\n(;B[aa]C[the main; line)])(;B[bb]))"


def read(tmp_path, text: str) -> tuple[list[Game], list[Problem]]:
    path = tmp_path / "games.sgf"
    path.write_text(text)
    return records.read(path)


def test_written_games_are_read_again_and_by_sgfmill(tmp_path):
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


def test_main_line_headers_and_escapes(tmp_path):
    (game,), problems = read(tmp_path, TREE)
    assert problems == []
    assert game == Game("go", {"size": 5, "komi": 6.5}, [12, 25, 0], (-1, 1), {"PB": "Someone [1d]", "RE": "W+R"})
    records.write(tmp_path / "again.sgf", [game])
    assert records.read(tmp_path / "again.sgf") == ([game], [])


def test_superko(tmp_path):
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
def test_rules_of_ko(tmp_path, rules, superko):
    """Black sends two stones and takes one back, as drawn in `test_go`: the board is that of the begin."""
    tree = f"(;GM[1]SZ[5]RU[{rules}]AB[ba][da][cb]AW[ab][bb]PL[B];B[aa];W[ca];B[ba])"
    games, problems = read(tmp_path, tree)
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
def test_stones_set_up(tmp_path, case):
    """Position and play as drawn by hand and as in sgfmill; what is written is read again."""
    setup, first, moves = SET_UP[case]
    (game,), problems = read(tmp_path, f"(;GM[1]SZ[5]KM[0.5]{setup};{moves})")
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
def test_problems_name_line_and_move_and_the_rest_is_read(tmp_path, text, line, move, message):
    good = "(;GM[1]SZ[5];B[aa])"
    games, problems = read(tmp_path, f"{good}\n{text}\n{good}")
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
def test_character_sets(tmp_path, pair):
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
def test_komi_as_servers_write_it(tmp_path, properties, komi):
    games, problems = read(tmp_path, f"(;GM[1]SZ[5]{properties};B[aa])")
    assert [game.options["komi"] for game in games] == ([] if komi is None else [komi])
    assert ["KM[" in problem.message for problem in problems] == ([True] if komi is None else [])
    records.write(tmp_path / "again.sgf", games)
    assert records.read(tmp_path / "again.sgf") == (games, [])


@pytest.mark.parametrize(("size", "known"), [
    ("5", True), (" 5 ", True), ("5:5", True), ("05", True), ("9:13", False), ("5:", False), ("", False), ("-5", False),
    ("5.0", False), ("4", False), ("20", False), ("9" * 5000, False),
])  # fmt: skip
def test_size(tmp_path, size, known):
    games, problems = read(tmp_path, f"(;GM[1]SZ[{size}];B[aa])")
    assert [game.options["size"] for game in games] == [5] * known
    assert ["SZ[" in problem.message for problem in problems] == [True] * (not known)


@pytest.mark.parametrize(("text", "result"), [
    ("B+R", (1, -1)), ("W+Resign", (-1, 1)), ("B+T", (1, -1)), ("b+0.5", (1, -1)), ("W+", (-1, 1)),
    ("Black+3", (1, -1)), ("0", (0, 0)),
    ("Draw", (0, 0)), ("Jigo", (0, 0)), ("Void", None), ("?", None), ("", None), ("who knows", None),
])  # fmt: skip
def test_results(tmp_path, text, result):
    (game,), _ = read(tmp_path, f"(;GM[1]SZ[5]RE[{text}];B[aa])")
    assert game.result == result
    records.write(tmp_path / "again.sgf", [game])
    assert records.read(tmp_path / "again.sgf") == ([game], [])


def test_after_the_end(tmp_path):
    """Servers count after a third pass, without the stones that the players agreed to be dead: theirs is another
    result than that of the moves, which is kept among the headers."""
    tree = "(;FF[4]GM[1]SZ[9]KM[7]RE[W+7.0];B[ee];W[];B[];W[])"
    (game,), problems = read(tmp_path, tree)
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
def test_begins(tmp_path, tree, first, moves):
    size = "" if tree.startswith("SZ") else "SZ[5]"
    (game,), problems = read(tmp_path, f"(;GM[1]{size}KM[0.5]{tree})")
    assert problems == []
    assert game.moves == moves
    assert (game.start and drawn(game.env, game.env.from_text(game.start))) == first


def test_headers_of_other_formats(tmp_path):
    """They cannot change the game; what SGF has no word for is left out."""
    headers = {name: "[x]\\" for name in ("player_1", "KM", "SZ", "FEN", "FF", "GM", "AB", "CA", "PL", "HA", "B", ";B")}
    game = Game("go", {"size": 5, "komi": 6.5}, [0, 6], (1, -1), headers | {"PB": "a\nb]\\", "RE": "W+R"})
    records.write(tmp_path / "games.sgf", [game])
    (again,), problems = records.read(tmp_path / "games.sgf")
    assert problems == []
    assert again == Game("go", {"size": 5, "komi": 6.5}, [0, 6], (1, -1), {"PB": "a b]\\", "RE": "B+"})


def test_as_sgfmill_reads_it(tmp_path):
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
    games, problems = read(tmp_path, text)
    assert games == []
    assert len(problems) == 1
