"""Go beside open_spiel and Pgx, and hand-made positions.

Where the rules differ: open_spiel and Pgx know the simple ko and let a move repeat an older position, which ends their
game (open_spiel: a draw; Pgx: the mover loses). Ours goes on with `ko="simple"` and masks such a move with
`ko="positional"`. So `simple` is compared until a game's first repetition, `positional` with the moves of open_spiel
after which its board shows stones that it has not shown before, whoever moves next. All three forbid suicide, score by
area and stop at two plies a point. Scores are compared, not only who won: with our margin as its komi, open_spiel must
call the same game a draw.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pgx.go
import pytest
from oracles import also, games

import envs
from envs.contract import check_contract
from envs.go_board import area, packed
from envs.judges import compare, follow, judge_of, random_games
from envs.judges.open_spiel import load, turned


@partial(jax.jit, static_argnums=0)
def margins(env: envs.Env, actions: jax.Array) -> jax.Array:
    """i32[T, G] actions -> i32[G] area of player 0 less that of player 1, after games have ended."""

    def final(actions):
        state = jax.lax.scan(lambda s, a: (env.step(s, a), None), env.init(jax.random.key(0)), actions)[0]
        return area(packed(state.chains, env.size), env.size)  # pyright: ignore[reportAttributeAccessIssue]

    return jax.vmap(final, 1)(actions)


@pytest.mark.parametrize(
    ("size", "count"), [(9, games(40)), (5, games(40, 2000)), (13, games(3, 300)), (19, games(1, 100))]
)
def test_simple_ko_as_in_open_spiel(size, count):
    env, whole, plies, batch = make(size=size), 0, 0, min(count, 250)
    for first in range(0, count, batch):
        _, play = random_games(env, batch, env.max_plies + 1, jax.random.fold_in(jax.random.key(0), first))
        margin = np.asarray(margins(env, play.action))
        play = jax.device_get(play)
        for game in range(batch):
            one = jax.tree.map(lambda leaf: leaf[:, game], play)  # noqa: B023
            length, to_its_end = follow(one, judge_of(env)())
            if not to_its_end:
                continue
            whole, plies = whole + 1, plies + length
            scored = load("go", board_size=size, komi=float(margin[game]), max_game_length=env.max_plies)
            scored = scored.new_initial_state()
            for action in one.action[:length]:
                scored.apply_action(turned(int(action), size))
            assert scored.is_terminal()
            assert scored.rewards() == [0, 0], f"margin {margin[game]} after {one.action}"
    print(f"{size}×{size}: {whole} of {count} games without repetition, {plies} plies")
    assert whole > count // 3


@pytest.mark.parametrize(("size", "count"), [(5, games(25, 5000)), (7, games(5, 300)), (9, games(2, 50))])
def test_positional_superko_as_in_open_spiel(size, count):
    env = make(size=size, ko="positional")
    assert compare(env, judge_of(env), count, batch=min(count, 250)).plies > 20 * count


def test_simple_ko_as_in_pgx():
    """Legal moves, ko, end and winner until a game's end or first repetition."""
    env, count = make(), games(24, 1000)
    other: Any = pgx.go.Go(size=9)

    def ply(carry: Any, key):
        state, theirs, apart = carry
        legal = env.legal_actions(state)
        action = jax.random.categorical(key, jnp.where(legal, 0.0, -jnp.inf))
        after, theirs = env.step(state, action), other.step(theirs, action)
        apart |= state.terminated | theirs._x.is_psk
        first = jnp.where(theirs._step_count % 2 == 0, theirs.current_player, 1 - theirs.current_player)
        alike = (env.legal_actions(after) == (theirs.legal_action_mask | theirs.terminated)).all()
        alike &= (after.terminated == theirs.terminated) & (after.rewards[0] == theirs.rewards[first])
        alike &= after.terminated | (after.ko == jnp.where(theirs._x.ko < 0, 81, theirs._x.ko))
        return (after, theirs, apart), (apart | alike, ~apart)

    @jax.jit
    @jax.vmap
    def game(key):
        start, moves = jax.random.split(key)
        first = env.init(start), other.init(start), jnp.bool(False)
        return jax.lax.scan(ply, first, jax.random.split(moves, env.max_plies))[1]

    with jax.numpy_rank_promotion("allow"):  # Pgx needs it
        alike, compared = game(jax.random.split(jax.random.key(1), count))
    assert np.asarray(alike).all(), np.argwhere(~np.asarray(alike))[:5]
    assert np.asarray(compared).sum() > 40 * count


def make(**options: Any) -> Any:
    return envs.make("go", **options)


# Hand-made positions, 5×5 unless drawn larger.


def position(board: str, mover: str = "X", **options):
    """(env, state) of a drawn position after a pass."""
    rows = board.split()
    env = make(size=len(rows), **options)
    ply = 2 * max(board.count("X"), board.count("O")) + 2 + "XO".index(mover)
    text = "\n".join([*rows, f"{mover} to move, ply {ply}, last pass, ko -"])
    if env.ko == "positional":
        text += "\nhashes " + " ".join(["f" * 16] * ply)
    return env, env.from_text(text)


step = jax.jit(lambda env, state, action: env.step(state, action), static_argnums=0)
legal_actions = jax.jit(lambda env, state: env.legal_actions(state), static_argnums=0)


def play(env, state, moves: str):
    for move in moves.split():
        assert can(env, state, move)
        state = step(env, state, jnp.int32(named(env, state)[move]))
    return state


def named(env, state) -> dict[str, int]:
    return {env.action_to_str(state, action): action for action in range(env.num_actions)}


def board(env, state) -> str:
    return " ".join(env.to_text(state).split("\n")[: env.size])


def can(env, state, move: str) -> bool:
    return bool(legal_actions(env, state)[named(env, state)[move]])


CAPTURES = {
    "one in the corner": ("O.... X.... ..... ..... .....", "b5", ".X... X.... ..... ..... ....."),
    "three chains at once": ("..X.. .XOX. XO.OX .XOX. ..X..", "c3", "..X.. .X.X. X.X.X .X.X. ..X.."),
    "a chain on both sides": ("OOOX. O.OX. OOOX. XXX.. .....", "b4", "...X. .X.X. ...X. XXX.. ....."),
    "none with a liberty left": ("O.... ..... X.... ..... .....", "b5", "OX... ..... X.... ..... ....."),
    "a capture before suicide": (".OXX. OOOX. XXXX. ..... .....", "a5", "X.XX. ...X. XXXX. ..... ....."),
}


@pytest.mark.parametrize("case", list(CAPTURES))
@pytest.mark.parametrize("mover", "XO")
def test_captures(case, mover):
    before, move, after = CAPTURES[case]
    if mover == "O":
        before, after = (text.translate(str.maketrans("XO", "OX")) for text in (before, after))
    env, state = position(before, mover)
    assert board(env, play(env, state, move)) == after


@pytest.mark.parametrize(
    ("before", "move"),
    [
        (".O... O.... ..... ..... .....", "a5"),
        ("X.O.. XO... O.... ..... .....", "b5"),
        ("XX.XO XXXXO OOOOO ..... .....", "c5"),
    ],
)
def test_suicide_is_illegal(before, move):
    """One stone, three stones, a whole group; the other player may play there."""
    assert not can(*position(before), move)
    assert can(*position(before, "O"), move)


def test_ko():
    before = ".XO.. XO.O. .XO.. ..... ....."
    env, state = position(before)
    taken = play(env, state, "c4")
    assert board(env, taken) == ".XO.. X.XO. .XO.. ..... ....."
    assert not can(env, taken, "b4")
    assert env.observe(taken)[..., 2].sum() == 1
    assert env.observe(taken)[1, 1, 2] == 1
    after = play(env, taken, "e1 e2")
    assert can(env, after, "b4")
    assert board(env, play(env, after, "b4")) == ".XO.. XO.O. .XO.. ....X ....O"


def test_not_every_capture_of_one_stone_is_a_ko():
    env, state = position("OX... .XX.. OX... X.... .....", "X")  # two single stones
    taken = play(env, state, "a4")
    assert board(env, taken) == ".X... XXX.. .X... X.... ....."
    assert taken.ko == 25
    assert not can(env, taken, "a5")  # suicide
    env, state = position("XX... .OX.. XX... ..... .....")  # one stone, by a chain
    taken = play(env, state, "a4")
    assert board(env, taken) == "XX... X.X.. XX... ..... ....."
    assert taken.ko == 25


def test_snapback():
    """After one stone is captured the capturing group is captured at once: this is no ko."""
    env, state = position("..OX. OOOX. XXX.. ..... .....")
    taken = play(env, state, "b5 a5")
    assert board(env, taken) == "O.OX. OOOX. XXX.. ..... ....."
    assert board(env, play(env, taken, "b5")) == ".X.X. ...X. XXX.. ..... ....."


def test_shared_liberties():
    """As in a seki: whoever fills the first of two shared liberties is captured on the second."""
    env, state = position("OX.OX OX.OX OOXXX ..... .....")
    assert board(env, play(env, state, "c5 c4")) == "O..OX O.OOX OOXXX ..... ....."
    env, state = position("OX.OX OX.OX OOXXX ..... .....", "O")
    assert board(env, play(env, state, "c5 c4")) == "OX..X OXX.X OOXXX ..... ....."


def test_superko_send_two_return_one():
    """Black sends two stones, takes one back: the position is that of the begin, which only superko sees."""
    before = ".X.X. OOX.. ..... ..... ....."
    for rule in ("simple", "positional"):
        env, state = position(before, ko=rule)
        sent = play(env, state, "a5 c5")
        assert board(env, sent) == "..OX. OOX.. ..... ..... ....."
        assert sent.ko == 25
        assert can(env, sent, "b5") == (rule == "simple")
    assert can(env, play(env, sent, "e1 d1"), "b5")  # elsewhere the board has changed
    env, state = position(before)
    assert board(env, play(env, state, "a5 c5 b5")) == before


def plain_area(stones: np.ndarray) -> int:
    n, total = stones.shape[1], int(stones[0].sum()) - int(stones[1].sum())
    free = {(int(r), int(c)) for r, c in np.argwhere(~stones.any(0))}
    while free:
        region, frontier, owners = 0, [free.pop()], set()
        while frontier:
            r, c = frontier.pop()
            region += 1
            for q in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if q in free:
                    free.remove(q)
                    frontier.append(q)
                elif 0 <= q[0] < n and 0 <= q[1] < n:
                    owners |= {p for p in (0, 1) if stones[p][q]}
        total += region * {frozenset({0}): 1, frozenset({1}): -1}.get(frozenset(owners), 0)
    return total


def spiral(n: int, tip: int) -> np.ndarray:
    """A one-wide free corridor wound by walls of player 0, with a stone of player `tip` at its inner end."""
    wall, r, c, dr, dc = np.ones((n, n), bool), 0, 0, 0, 1
    while True:
        wall[r, c] = False
        ahead, beyond = (r + dr, c + dc), (r + 2 * dr, c + 2 * dc)
        blocked = not (0 <= ahead[0] < n and 0 <= ahead[1] < n)
        blocked |= 0 <= beyond[0] < n and 0 <= beyond[1] < n and not wall[beyond]
        if blocked:
            dr, dc = dc, -dr
            ahead, beyond = (r + dr, c + dc), (r + 2 * dr, c + 2 * dc)
            if not wall[ahead] or (0 <= beyond[0] < n and 0 <= beyond[1] < n and not wall[beyond]):
                break
        r, c = ahead
    stones = np.stack([wall, np.zeros((n, n), bool)])
    stones[:, r, c] = False
    stones[tip, r, c] = True
    return stones


@pytest.mark.parametrize("size", [5, 9, 16, 19])
def test_area_of_any_board(size):
    """Spirals, combs, random stones, the empty board: as a plain flood fill."""
    rng = np.random.default_rng(0)
    boards = [spiral(size, tip) for tip in (0, 1)]
    comb = np.zeros((2, size, size), bool)
    comb[0, 1:, 1::2], comb[0, 1, 3::4], comb[1, -1, 0] = True, True, True
    comb[0, 0, 3::4], comb[0, -1, 1::4] = True, False
    boards += [comb, comb.transpose(0, 2, 1), comb[:, ::-1], comb[::-1, :, ::-1], np.zeros_like(comb)]
    for density in rng.uniform(0.02, 0.9, 200):
        kind = rng.choice(3, (size, size), p=[1 - density, 0.6 * density, 0.4 * density])
        boards.append(np.stack([kind == 1, kind == 2]))
    rows = jnp.asarray((np.stack(boards) << np.arange(size)).sum(-1), jnp.uint32)
    got = jax.jit(jax.vmap(partial(area, n=size)))(rows)
    assert got.tolist() == [plain_area(stones) for stones in boards]
    assert abs(got[0]) == size**2
    assert got[1] != got[0]


def test_two_passes_and_komi():
    """One stone owns a whole board of 25 points."""
    for komi, rewards in ((25.5, [-1, 1]), (25, [0, 0]), (24.5, [1, -1])):
        env = make(size=5, komi=komi)
        state = play(env, env.init(jax.random.key(0)), "c3 pass")
        assert not state.terminated
        over = play(env, state, "pass")
        assert over.terminated
        assert over.rewards.tolist() == rewards
    env, state = position("X.... ..... ..... ..... ....O")
    assert play(env, state, "pass").rewards.tolist() == [-1, 1]  # nothing but dame, so komi decides


def test_move_cap():
    env = make(size=5, move_cap=3)
    state = play(env, env.init(jax.random.key(0)), "c3 pass")
    assert not state.terminated
    over = play(env, state, "a1")
    assert over.terminated
    assert over.rewards.tolist() == [1, -1]
    again = env.step(over, jnp.int32(3))
    assert (again.chains == over.chains).all()
    assert again.rewards.tolist() == [0, 0]


def test_history_planes():
    """Each ply shows the boards that were, as the mover sees them."""
    env = make(size=5, history=2)
    state, boards = env.init(jax.random.key(0)), [np.zeros((5, 5, 2))] * 2
    for move in ["c3", "pass", "a5", "b5", "e1", "a4"]:
        view = np.asarray(env.observe(state))
        own = [0, 1] if state.player == 0 else [1, 0]
        absolute = view[..., own]
        assert (view[..., 4:6] == boards[-1][..., own]).all()
        assert (view[..., 6:8] == boards[-2][..., own]).all()
        boards.append(absolute)
        state = play(env, state, move)
    assert board(env, state) == ".O... O.... ..X.. ..... ....X"


def test_state_bytes():
    for size, pgx_bytes in ((9, 5718), (19, 25318)):
        state = make(size=size).init(jax.random.key(0))
        assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) <= pgx_bytes / 10


@pytest.mark.parametrize("options", also({"size": 5, "ko": "positional", "history": 1}))
def test_options_keep_the_contract(options):
    check_contract(make(**options), games=8)


def test_vertices():
    env = make(size=19)
    state = env.init(jax.random.key(0))
    names = [env.action_to_str(state, a) for a in (0, 18, 19 * 15 + 3, 360, 361)]
    assert names == ["a19", "t19", "d4", "t1", "pass"]
    assert env.action_from_str(state, " D4 ") == 19 * 15 + 3
    assert not any("i" in env.action_to_str(state, a) for a in range(361))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("X.... ..... ..... ..... ....", "5 rows of 5"),
        ("XX... XX... ..... ..... .....", "more stones than moves"),
        ("XOX.. OXO.. .O... ..... .....", "has no liberty"),
    ],
)
def test_impossible_positions_are_refused(text, reason):
    env = make(size=5)
    ply = 6 if reason.startswith("more") else 10
    with pytest.raises(ValueError, match=reason):
        env.from_text("\n".join([*text.split(), f"X to move, ply {ply}, last pass, ko -"]))
    for line in (
        "X to move, ply 3, last pass, ko -",
        "X to move, ply 4, last z9, ko -",
        "X to move, ply 4, last pass, ko c3",
    ):
        with pytest.raises(ValueError, match="go: "):
            env.from_text("\n".join([*["....."] * 5, line]))


@pytest.mark.parametrize(
    ("option", "value"),
    [("size", 4), ("size", 20), ("ko", "super"), ("history", -1), ("move_cap", -1), ("komi", float("nan"))],
)
def test_options_are_checked(option, value):
    with pytest.raises(ValueError, match=f"go: {option}"):
        make(**{option: value})
