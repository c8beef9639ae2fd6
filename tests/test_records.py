"""Files of game records: what is written replays to the same game, what is wrong is named and the rest still read."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sgfmill import sgf, sgf_moves

import envs
from envs.judges import random_games
from jaxzero import records
from jaxzero.records import Game, Problem

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


@pytest.mark.parametrize("text", ["hello", ";B[aa]", "C[x]", ")("])
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
])  # fmt: skip
def test_lines_problems_name_line_and_move_and_the_rest_is_read(tmp_path, line, move, message):
    good = '{"game": "hex", "moves": [3]}'
    games, problems = read_lines(tmp_path, f"{good}\n{line}\n\n{good}\n")
    assert [game.moves for game in games] == [[3], [3]]
    assert [(problem.line, problem.move) for problem in problems] == [(2, move)]
    assert message in problems[0].message
