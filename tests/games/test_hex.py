"""Hex beside open_spiel (any size) and beside Pgx (11 × 11, with swap), winding chains, swap, solver.

All agree that action = row · n + column and that player 0 joins top and bottom. Pgx plays only 11 × 11 rightly, always
with swap; like ours, its swap mirrors the stone at the main diagonal.
"""

import functools
import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pgx
import pytest
from oracles import FULL, games

import envs
from envs.contract import check_contract
from envs.hex import groups_of, joins_edges, place
from envs.judges import compare, judge_of
from jaxzero.solvers.hex import HexSolver


@pytest.mark.parametrize(("size", "swap", "count"), [(3, True, 250), (11, False, 40), (16, False, 4)])
def test_random_games_as_in_open_spiel(size, swap, count):
    """From size 16 on labels are i16."""
    env = envs.make("hex", size=size, swap=swap)
    assert compare(env, judge_of(env), games(count, 10_000 if size < 16 else 100)).plies > 500


@functools.partial(jax.jit, static_argnums=(0, 1))
def beside_pgx(env, other, key):
    """Games whose second player swaps half of the time -> (agreement at each ply [G, T], over [G], swapped [G])."""

    def agree(state, theirs):
        first = jnp.where(theirs._step_count % 2 == 0, theirs.current_player, 1 - theirs.current_player)
        seen = theirs.observation.at[..., 2].set(~theirs.observation[..., 2])  # theirs: the mover is player 1
        pairs = [
            (state.terminated, theirs.terminated),
            (state.player, theirs._step_count % 2),
            (env.legal_actions(state), theirs.legal_action_mask | theirs.terminated),
            (env.observe(state), seen.astype(jnp.float32)),
            (state.rewards, theirs.rewards[jnp.stack([first, 1 - first])]),
        ]
        return jnp.stack([jnp.array_equal(ours, them) for ours, them in pairs]).all()

    def ply(carry, key):
        state, theirs = carry
        chances = jnp.where(env.legal_actions(state), 0.0, -jnp.inf).at[-1].add(jnp.log(120.0))
        action = jax.random.categorical(key, chances)
        over = state.terminated
        state, theirs = env.step(state, action), other.step(theirs, action)
        return (state, theirs), (agree(state, theirs) | over, (action == env.cells) & ~over)

    def game(key):
        start, moves = jax.random.split(key)
        carry = env.init(start), other.init(start)
        carry, (same, swapped) = jax.lax.scan(ply, carry, jax.random.split(moves, env.max_plies))
        return same, carry[0].terminated, swapped.any()

    return jax.vmap(game)(jax.random.split(key, 250))


def test_random_games_as_in_pgx():
    for batch in range(games(500) // 250):
        same, over, swapped = map(np.asarray, beside_pgx(envs.make("hex"), pgx.make("hex"), jax.random.key(batch)))
        assert over.all()
        assert same.all(), np.argwhere(~same)[:5]
        assert 80 < swapped.sum() < 170


def test_contract_without_swap():
    check_contract(envs.make("hex", size=3, swap=False), games=16)


def winding(n: int) -> list[int]:
    """A chain for player 0 that fills every other row; without any one of its stones it is broken. n = 3 mod 4."""
    chain = [(0, 0)]
    for row in range(1, n - 1, 2):
        right = row % 4 == 1
        chain += [(row, column) for column in (range(n) if right else range(n - 2, 0, -1))]
        chain += [(row + 1, n - 1 if right else 0)]
    return [row * n + column for row, column in chain]


@pytest.mark.parametrize(("size", "player"), [(3, 0), (11, 0), (11, 1), (19, 0)])
def test_winding_chain_wins_with_its_last_stone_only(size, player):
    """Each stone of the chain comes last once, the others before it in random order."""
    cells = np.array(winding(size))
    if player:
        cells = cells % size * size + cells // size
    rng = np.random.default_rng(size)
    orders = np.array([[*rng.permutation(np.delete(cells, i)), cells[i]] for i in range(len(cells))])
    empty = envs.make("hex", size=size).init(jax.random.key(0)).groups

    def chain(order):
        def ply(groups, cell):
            groups, won = place(size, groups, jnp.int8(player), cell)
            return groups, (groups, won)

        return jax.lax.scan(ply, empty, order)[1]

    groups, won = jax.device_get(jax.jit(jax.vmap(chain))(orders))
    assert not won[:, :-1].any()
    assert won[:, -1].all()
    sign = 1 - 2 * player
    for order, history in zip(orders[::9], groups[::9], strict=True):
        for t, found in enumerate(history):
            own = np.isin(np.arange(size * size), order[: t + 1])
            assert (found == sign * groups_of(size, own, player)).all()


@functools.partial(jax.jit, static_argnums=0)
def step(env, state, action):
    return env.step(state, action)


def line(env: envs.Env, moves: str):
    """The state after moves written with spaces."""
    state = env.init(jax.random.key(0))
    for move in moves.split():
        assert not state.terminated
        state = step(env, state, jnp.int32(env.action_from_str(state, move)))
    return state


@pytest.mark.parametrize(
    ("moves", "winner"),
    [
        ("a1 b1 a2 b2 a3", 0),  # a column
        ("c1 a1 b2 b1 a3", 0),  # the short diagonal
        ("a1 b1 b2 a2 c3", None),  # the long diagonal does not hold together
        ("a1 a2 b1 b2 c3 c2", 1),  # a row
        ("c3 a3 c2 b2 a1 c1", 1),  # the short diagonal joins player 1's edges too
        ("a2 b1 b2 a1 c2", None),  # a row does not join player 0's edges
        ("b1 a1 a2 b2 c1 c2 b3 c3 a3", 0),  # the last cell decides
    ],
)
def test_small_boards(moves, winner):
    state = line(envs.make("hex", size=3, swap=False), moves)
    assert bool(state.terminated) == (winner is not None)
    assert state.rewards.tolist() == [[1, -1], [-1, 1], [0, 0]][2 if winner is None else winner]


@pytest.mark.parametrize(("first", "taken"), [("a2", "b1"), ("b1", "a2"), ("c1", "a3"), ("b2", "b2"), ("e4", "d5")])
def test_swap_mirrors_the_stone(first, taken):
    env = envs.make("hex", size=5)
    state = line(env, f"{first} swap")
    stone = env.action_from_str(line(env, ""), taken)
    assert np.flatnonzero(state.groups).tolist() == [stone]
    assert (int(state.player), bool(state.terminated)) == (0, False)
    view = np.asarray(env.observe(state)).reshape(25, 4)
    assert (view == np.array([[0, cell == stone, 1, 0] for cell in range(25)])).all()
    legal = np.flatnonzero(np.asarray(env.legal_actions(state))).tolist()
    assert legal == [cell for cell in range(25) if cell != stone]
    assert (state.groups == -groups_of(5, np.arange(25) == stone, 1)).all()


def test_swapped_edge_stone_wins():
    """The mirrored stone counts for player 1's edge: a2 becomes b1; a stone on top becomes one on the left."""
    state = line(envs.make("hex", size=3), "b1 swap a1 b2 a3 c1")
    assert np.sign(state.groups).tolist() == [1, 0, -1, -1, -1, 0, 1, 0, 0]
    assert state.rewards.tolist() == [-1, 1]


def test_swap_is_the_first_reply_only():
    env = envs.make("hex", size=3)
    legal = {
        moves: bool(env.legal_actions(line(env, moves))[9]) for moves in ("", "a1", "a1 swap", "a1 b1", "a1 b1 c1")
    }
    assert legal == {"": False, "a1": True, "a1 swap": False, "a1 b1": False, "a1 b1 c1": False}
    assert env.observe(line(env, "a1"))[..., 3].min() == 1
    assert envs.make("hex", size=3, swap=False).num_actions == 9
    with pytest.raises(ValueError, match="'swap' is not a legal move"):
        line(envs.make("hex", size=3, swap=False), "a1 swap")
    assert env.to_text(line(env, "a2 swap")) == ".O.\n...\n...\nX b1"
    assert int(env.from_text(".O.\n...\n...\nX b1").plies) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("XX.\n...\n...\nO a1", "2 X and 0 O, and O to move"),
        ("X..\n...\n...\nX a1", "1 X and 0 O, and X to move"),
        ("...\n...\n...\nO -", "0 X and 0 O, and O to move"),
        ("X..\n...\n...\nZ a1", "who is to move"),
        ("X..\n...\n...\nO b1", "the newest stone"),
        ("X..\n...\n...\nO -", "the newest stone"),
        ("XO.\n...\n...\nX a1", "the newest stone"),
        ("XO.\nXO.\nXOO\nX c3", "goes on after"),
        ("XO.\nXO.\nXOX\nO c3", "goes on after"),
    ],
)
def test_impossible_positions_are_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        envs.make("hex", size=3).from_text(text)
    with pytest.raises(ValueError, match="0 X and 1 O, and X to move"):
        envs.make("hex", size=3, swap=False).from_text("O..\n...\n...\nX a1")


@pytest.mark.parametrize("size", [2, 20])
def test_sizes(size):
    with pytest.raises(ValueError, match="size must be 3 to 19, got"):
        envs.make("hex", size=size)


def exhaustive() -> Callable[[frozenset, frozenset, int], dict[int, int]]:
    """Values of moves on 3 × 3 by another way: every game is played on until the board is full and has one winner."""
    full = [frozenset(cells) for cells in itertools.combinations(range(9), 5)]
    winners = {cells: 0 if joins_edges(3, np.isin(np.arange(9), list(cells)), 0) else 1 for cells in full}

    def moves(first: frozenset, second: frozenset, player: int) -> dict[int, int]:
        free = sorted(set(range(9)) - first - second)
        return {
            c: -value(first | {c} if not player else first, second | {c} if player else second, 1 - player)
            for c in free
        }

    @functools.cache
    def value(first: frozenset, second: frozenset, player: int) -> int:
        if len(first) == 5:
            return 1 if winners[first] == player else -1
        return max(moves(first, second, player).values())

    return moves


def test_solver_agrees_with_brute_force():
    """All positions of up to four stones where no one has won, 3 × 3."""
    solver, expected = HexSolver(3), exhaustive()
    for stones in range(5):
        for cells in itertools.combinations(range(9), stones):
            for own in itertools.combinations(cells, (stones + 1) // 2):
                first, second = frozenset(own), frozenset(cells) - frozenset(own)
                bits = [sum(1 << cell for cell in side) for side in (first, second)]
                assert solver.move_values(bits[0], bits[1], stones % 2) == expected(first, second, stones % 2)


def test_solver_known_openings():
    """Without swap the first player wins, on 3 × 3 and 4 × 4 with the short diagonal and, on 3 × 3, a2 and c2; with
    swap the second player wins against every opening."""
    three = {cell for cell, value in HexSolver(3).move_values(0, 0, 0).items() if value > 0}
    assert three == {2, 3, 4, 5, 6}
    assert set(HexSolver(3, swap=True).move_values(0, 0, 0).values()) == {-1}
    four = HexSolver(4)
    wins = {cell for cell in (range(16) if FULL else (3, 6)) if not four.wins(0, 1 << cell, 1)}
    assert wins == ({3, 6, 9, 12} if FULL else {3, 6})


def test_solver_reads_states():
    """The second player takes a winning opening by swap, and leaves a losing one."""
    env, solver = envs.make("hex", size=3), HexSolver(3, swap=True)
    assert solver.state_values(line(env, "b2"))[9] == 1
    assert solver.state_values(line(env, "a1"))[9] == -1
    for moves in ("", "a1", "b2 swap", "a1 b2 c1"):
        state = line(env, moves)
        legal = np.flatnonzero(np.asarray(env.legal_actions(state))).tolist()
        assert sorted(solver.state_values(state)) == legal
