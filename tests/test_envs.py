"""Rules of the games against known counts, another implementation and boards drawn by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pgx
import pytest

import envs
from envs import host
from envs.svg import dot, shade

TIC_TAC_TOE_GAMES = {"X": 131_184, "O": 77_904, "draw": 46_080}


def drawn(text: str) -> str:
    """A board drawn in a test, without its indentation."""
    return "\n".join(text.split())


def outcome(env: envs.Env, before: str, move: str) -> tuple[bool, list[float]]:
    """(terminated, rewards) after `move` in a drawn position."""
    state = env.from_text(drawn(before))
    assert not state.terminated
    after = env.step(state, jnp.int32(env.action_from_str(state, move)))
    return bool(after.terminated), after.rewards.tolist()


def test_tic_tac_toe_every_game():
    """All games, merged by position: 5,478 positions are reached by 255,168 complete games."""
    env = envs.make("tic_tac_toe")
    step = jax.jit(jax.vmap(jax.vmap(env.step, (None, 0)), (0, None)))
    legal = jax.jit(jax.vmap(env.legal_actions))
    state = env.init(jax.random.key(0))
    layer, ways = jax.tree.map(lambda leaf: np.asarray(leaf)[None], state), np.array([1])
    positions, ended = 1, dict.fromkeys(TIC_TAC_TOE_GAMES, 0)
    for ply in range(9):
        after = jax.device_get(step(layer, jnp.arange(9)))
        rows, actions = np.nonzero(np.asarray(legal(layer)))
        after = jax.tree.map(lambda leaf: leaf[rows, actions], after)  # noqa: B023
        assert (after.player == (ply + 1) % 2).all()
        _, index, inverse = np.unique(after.stones, axis=0, return_index=True, return_inverse=True)
        ways = np.bincount(inverse.reshape(-1), ways[rows]).astype(int)
        after = jax.tree.map(lambda leaf: leaf[index], after)  # noqa: B023
        positions += len(index)
        for name, reward in (("X", 1), ("O", -1), ("draw", 0)):
            ended[name] += ways[after.terminated & (after.rewards[:, 0] == reward)].sum()
        layer, ways = jax.tree.map(lambda leaf: leaf[~after.terminated], after), ways[~after.terminated]  # noqa: B023
    assert (positions, ended) == (5_478, TIC_TAC_TOE_GAMES)
    assert sum(ended.values()) == 255_168


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])
def test_same_games_as_pgx(name):
    """Random games: mover, legal moves, rewards, end and observation agree at every ply."""
    env, other = envs.make(name), pgx.make(name)

    def compare(state, theirs):
        ours = state.terminated, state.player, env.legal_actions(state), env.observe(state)
        # pgx draws by lot which of its players begins, and puts rewards in their order
        first = jnp.where(theirs._step_count % 2 == 0, theirs.current_player, 1 - theirs.current_player)
        legal = theirs.legal_action_mask | theirs.terminated
        them = theirs.terminated, theirs._step_count % 2, legal, theirs.observation.astype(jnp.float32)
        rewards = (state.rewards == theirs.rewards[jnp.stack([first, 1 - first])]).all()
        return rewards & jnp.stack([jnp.array_equal(a, b) for a, b in zip(ours, them, strict=True)]).all()

    def ply(carry, key):
        state, theirs = carry
        action = jax.random.categorical(key, jnp.where(env.legal_actions(state), 0.0, -jnp.inf))
        over = state.terminated
        state, theirs = env.step(state, action), other.step(theirs, action)
        return (state, theirs), compare(state, theirs) | over

    @jax.jit
    @jax.vmap
    def game(key):
        start, moves = jax.random.split(key)
        carry, agree = jax.lax.scan(ply, (env.init(start), other.init(start)), jax.random.split(moves, env.max_plies))
        return agree, carry[0].terminated

    agree, terminated = game(jax.random.split(jax.random.key(0), 2048))
    assert np.asarray(terminated).all()
    assert np.asarray(agree).all(), np.argwhere(~np.asarray(agree))[:5]


@pytest.mark.parametrize("line", range(8))
@pytest.mark.parametrize("mark", "XO")
def test_tic_tac_toe_each_line_wins(line, mark):
    """Rows, columns and diagonals, completed on their last square, by either player."""
    env = envs.make("tic_tac_toe")
    lines = ["abc"[i] + row for row in "321" for i in range(3)]
    wins = (
        [lines[i : i + 3] for i in (0, 3, 6)]
        + [lines[i::3] for i in range(3)]
        + [["a3", "b2", "c1"], ["c3", "b2", "a1"]]
    )
    free = [square for square in lines if square not in wins[line]]
    others = next(  # squares of the other player, who makes no line of their own
        pick for pick in ([free[i] for i in order] for order in ([0, 1, 3], [0, 2, 5], [1, 2, 3], [0, 3, 4]))
        if not any(set(win) <= set(pick) for win in wins)
    )  # fmt: skip
    own, theirs = wins[line], others
    moves = [own[0], theirs[0], own[1], theirs[1], own[2]]
    if mark == "O":
        moves = [theirs[0], own[0], theirs[1], own[1], theirs[2], own[2]]
    state = env.init(jax.random.key(0))
    for move in moves:
        assert not state.terminated
        state = env.step(state, jnp.int32(env.action_from_str(state, move)))
    assert state.terminated
    assert state.rewards.tolist() == ([1, -1] if mark == "X" else [-1, 1])


def test_tic_tac_toe_full_board():
    env = envs.make("tic_tac_toe")
    assert outcome(env, "XOX XOO O.X", "b1") == (True, [0, 0])
    assert outcome(env, "XOO OXX XO.", "c1") == (True, [1, -1])  # the last square wins


EMPTY = "......."
# Lower rows of a board, the move, and the rewards if it ends the game (None: it goes on).
CONNECT_FOUR = {
    "row at the left edge": ("OOO.... XXX....", "4", [1, -1]),
    "row at the right edge": ("....OOO ....XXX", "4", [1, -1]),
    "row closed in the middle": ("OO.O... XX.XX.O", "3", [1, -1]),
    "second player wins": ("X...... X.OOO.. XXXOXO.", "6", [-1, 1]),
    "column": ("X...... XO..... XO....O", "1", [1, -1]),
    "column up to the top": ("X...... X...... X...... O...O.. O...X.O", "1", [1, -1]),
    "diagonal": ("..XO... .XOX... XOOXO..", "4", [1, -1]),
    "three in a row": ("OO..... XX.....", "3", None),
    "no row around the edge": ("XX...OO OO...XX", "1", None),
    "no column around the top": ("X...... X...... O...... X...... O...... OX....O", "2", None),
    "no diagonal around the edge": ("O...... O.....X X....XO O.XXXOO", "1", None),
}


@pytest.mark.parametrize("case", list(CONNECT_FOUR))
def test_connect_four_drawn(case):
    rows, move, rewards = CONNECT_FOUR[case]
    lower = rows.split()
    board = " ".join([EMPTY] * (6 - len(lower)) + lower)
    expected = (False, [0, 0]) if rewards is None else (True, rewards)
    assert outcome(envs.make("connect_four"), board, move) == expected
    mirrored = " ".join(row[::-1] for row in board.split())
    assert outcome(envs.make("connect_four"), mirrored, str(8 - int(move))) == expected


def test_connect_four_last_square():
    """A full board is a draw, unless its last stone makes four."""
    env = envs.make("connect_four")
    draw = "OXO.XOX XOXXXOO OXOOOXX XOOXXXO OXXXOOO OXOOXXX"
    assert outcome(env, draw, "4") == (True, [0, 0])
    win = "XXOXX.X OXOXOXO OOXOOOX XOOOXOO XXOXOXO XXOXXOX"
    assert outcome(env, win, "6") == (True, [-1, 1])


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])
def test_observation_is_the_movers_view(name):
    """The first player's stone is on the mover's plane before, and on the other's after the move has passed."""
    env = envs.make(name)
    first = env.step(env.init(jax.random.key(0)), jnp.int32(0))
    second = env.step(first, jnp.int32(1))
    assert env.observe(first).sum((0, 1)).tolist() == [0, 1]
    assert env.observe(second).sum((0, 1)).tolist() == [1, 1]
    assert (env.observe(second)[..., 0] == env.observe(first)[..., 1]).all()


def test_registry_errors_suggest():
    with pytest.raises(ValueError, match="unknown game 'conect_four'; did you mean 'connect_four'"):
        envs.make("conect_four")
    with pytest.raises(ValueError, match=r"unknown game 'xyzzy'; known: tic_tac_toe, connect_four"):
        envs.make("xyzzy")
    with pytest.raises(ValueError, match="game 'tic_tac_toe' has no option 'size'"):
        envs.make("tic_tac_toe", size=4)


@pytest.mark.parametrize(
    ("game", "option", "value", "kind"),
    [
        ("hex", "size", 7.0, "a whole number"),
        ("ur", "pieces", True, "a whole number"),
        ("othello", "size", "8", "a whole number"),
        ("hex", "swap", "no", "true or false"),
        ("go", "komi", "7,5", "a number"),
    ],
)
def test_options_of_another_type_are_refused(game, option, value, kind):
    with pytest.raises(ValueError, match=f"{game}: {option} is {kind}, not {value!r}"):
        envs.make(game, **{option: value})


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("tic_tac_toe", "XX. ... ...", "X moves first"),
        ("tic_tac_toe", "XXX OOO ...", "goes on after"),
        ("connect_four", f"{EMPTY} " * 4 + "X...... .......", "above an empty square"),
        ("connect_four", f"{EMPTY} " * 4 + "OOOO... XXXX...", "goes on after four"),
    ],
)
def test_impossible_positions_are_refused(name, text, reason):
    with pytest.raises(ValueError, match=reason):
        envs.make(name).from_text(drawn(text))


COUNTS = "7 waiting, 0 home"
POINTS = "24:2 13:5 8:3 6:5"
MARKS = {  # positions before and after a move, how it is marked
    "tic_tac_toe": ("... .X. ...", "O.. .X. ...", shade(0, 0, "#f3d98b")),
    "connect_four": ("....... " * 5 + "...X...", "....... " * 5 + "...XO..", dot(5, 4, "#1b2f66")),
    "ur": (
        f"*... *. X: {COUNTS} ...*.... *... *. O: {COUNTS} X rolled 2 at ply 0",
        f"*.X. *. X: 6 waiting, 0 home ...*.... *... *. O: {COUNTS} O rolls at ply 1",
        dot(0, 2, "#b4503c"),
    ),
    "backgammon": (
        f"0: {POINTS} 1: {POINTS} 0 has 31 ply 0",
        f"0: 24:2 13:5 8:2 6:5 5:1 1: {POINTS} 0 has 1 ply 1",
        dot(10, 8, "#e0483a"),
    ),
}


@pytest.mark.parametrize("game", MARKS)
def test_drawings_mark_what_the_last_move_changed(game):
    """Where the state does not keep the last move."""
    env = envs.make(game)
    before, after, mark = MARKS[game]
    old, new = env.from_text(before), env.from_text(after)
    marked = env.to_svg(new, old)
    assert marked.count(mark) == 1
    assert marked.replace(mark, "") == env.to_svg(new) == env.to_svg(new, new)


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four", "othello", "gomoku", "hex", "go"])
def test_the_mover_sees_its_own_stones_first(name):
    """Against the drawn board."""
    env = envs.make(name)
    rows, columns, _ = env.observation_shape
    state = host.init(env, jax.random.key(0))
    for ply in range(5):
        board = np.array([list(line) for line in env.to_text(state).split("\n")[:rows]])[:, :columns]
        own, other = "XO" if state.player == 0 else "OX"
        seen = np.asarray(env.observe(state))
        np.testing.assert_array_equal(seen[..., 0] == 1, board == own)
        np.testing.assert_array_equal(seen[..., 1] == 1, board == other)
        legal = np.flatnonzero(host.legal_actions(env, state))
        state, _ = host.advance(env, state, jnp.int32(legal[(7 * ply + 3) % len(legal)]), jax.random.key(0))
