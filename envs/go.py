"""Go on 5×5 to 19×19 boards, area scoring (Tromp-Taylor: https://tromp.github.io/go.html).

Action = row · size + column, top row first; size² is the pass. Vertices as in GTP: columns a, b, … without i, rows
from the bottom. Two passes in succession end the game, as does the move cap. Unlike Tromp-Taylor, suicide is illegal,
as in Pgx, open_spiel and the rules of most countries. `ko="simple"` forbids to recapture a ko at once, nothing else;
`ko="positional"` forbids every move that makes an earlier whole-board position again (Tromp-Taylor's rule 6). A pass
is always legal.

How a move costs no loop. The state keeps a label at each stone, the same for all stones of a chain, so a chain is one
compare; and the set of chains in atari, which tells at once what a move captures and which moves are suicide. A move
changes these only for the chains beside it, whose liberties are counted, and for chains beside a captured chain,
which are not in atari any more: they have gained a liberty, and one whose last liberty was the move itself is joined
by it. Letters: n size, N = n², H earlier positions seen, M = max_plies.
"""

import dataclasses
import functools
import re
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from envs.core import Env, Symmetry, parse_action
from envs.svg import cross, disc, line_board, ring
from envs.text import named_board, numbers

COLUMNS = "abcdefghjklmnopqrst"
PLAYERS = "XO"
MINE, OTHER, KO, WHITE = 1, 2, 4, 8  # bits of a point as observed


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    # Bordered: n+2 rows of n+1, so that neighbours are slices. Empty 0; a stone 1 + 2·(first point of its chain) +
    # player. u8 up to 11×11, u16 above. Labels could be found from the stones only by a flood fill at each move.
    chains: jax.Array  # u8|u16[(n+2)·(n+1)]
    atari: jax.Array  # u32[⌈N/32⌉]  bit p: the chain whose first point is p has one liberty
    ko: jax.Array  # u8|u16[]  point that the ko rule forbids, N if none
    last: jax.Array  # u8|u16[]  action before, N+1 at the start
    ply: jax.Array  # u16[]
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]
    past: jax.Array | None = None  # u16|u32[H, 2, n]  rows of stones one ply ago, two, …; only with `history`
    hashes: jax.Array | None = None  # u32[M, 2]  of the position at each ply until now; only with positional superko


# Boards. `x` is bordered, [(n+2)·(n+1)]; what is about its interior rows is [n·(n+1)], the last column to be ignored.


def label_type(n: int) -> type:
    return np.uint8 if 2 * n * n + 2 <= 255 else np.uint16


def wall(x: Any) -> np.ndarray:
    """The label on the border."""
    return np.array(np.iinfo(x.dtype).max - 1, x.dtype)


def nothing(x: jax.Array) -> np.ndarray:
    """A label that no point has."""
    return np.array(np.iinfo(x.dtype).max, x.dtype)


def rows(x: jax.Array, n: int) -> jax.Array:
    """Bordered -> interior rows."""
    return x[n + 1 : -n - 1]


def points(x: jax.Array, n: int) -> jax.Array:
    """Interior rows -> [n, n]."""
    return x.reshape(n, n + 1)[:, :n]


def around(x: jax.Array, n: int) -> jax.Array:
    """The OR of each point's four neighbours, bordered -> interior rows."""
    w = n + 1
    return x[: -2 * w] | x[2 * w :] | x[w - 1 : -w - 1] | x[w + 1 : 1 - w]


def root(label: jax.Array) -> jax.Array:
    return (label - 1 >> 1).astype(jnp.uint32)


def stones_of(label: Any, player: Any) -> Any:
    return (label != 0) & (label != wall(label)) & (label - 1 & 1 == player.astype(label.dtype))


def point_set(root: jax.Array, member: jax.Array, words: int) -> jax.Array:
    """The points root[…] for which member[…], as bits u32[words]."""
    word = np.arange(words, dtype=np.uint32).reshape(-1, *[1] * root.ndim)
    bits = jnp.where(member[None] & (root[None] >> 5 == word), jnp.uint32(1) << (root & 31)[None], np.uint32(0))
    return lax.reduce(bits, np.uint32(0), lax.bitwise_or, tuple(range(1, bits.ndim)))


def is_in(root: jax.Array, words: jax.Array) -> jax.Array:
    """Whether each point is in a `point_set`; selects, as they vectorise where a gather does not."""
    word = words[0]
    for i in range(1, len(words)):
        word = jnp.where(root >> 5 == i, words[i], word)
    return word >> (root & 31) & 1 == 1


def count_to_two(a: jax.Array, b: jax.Array) -> jax.Array:
    """Adds eight counters that stop at two; bit i of the low byte: not none, of the high byte: two or more."""
    return a | b | (a & b) << 8


def place(
    chains: jax.Array, atari: jax.Array, player: jax.Array, point: jax.Array, n: int
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Puts a stone at `point` (N: nowhere) -> (chains, atari, ko)."""
    played = point < n * n
    there = (point // n + 1) * (n + 1) + point % n
    label = jnp.where(played, chains[jnp.where(played, there, 0) + np.array([-n - 1, n + 1, -1, 1])], 0)
    stone = (label != 0) & (label != wall(chains))
    near = root(label)
    own = stone & stones_of(label, player)
    captured = stone & ~own & is_in(near, atari)
    alive = stone & ~own & ~captured

    # Each point as a byte: bit i = in the living enemy chain of neighbour i, 16 = in the chain just made, 32 = captured
    code = jnp.where(own, 16, jnp.where(captured, 32, np.array([1, 2, 4, 8]))).astype(jnp.uint8)
    wanted = jnp.where(stone, label, nothing(chains))
    single = (2 * point + 1).astype(chains.dtype) + player.astype(chains.dtype)
    joined = functools.reduce(jnp.minimum, [*jnp.where(own, label, nothing(chains)), single])
    here = np.arange(len(chains)) == jnp.where(played, there, -1)
    chain = jnp.where(chains[None] == wanted[:, None], code[:, None], jnp.uint8(0))
    byte = lax.reduce(jnp.where(here[None], jnp.uint8(16), chain), np.uint8(0), lax.bitwise_or, (0,))
    after = jnp.where(byte & 32 != 0, 0, jnp.where(byte & 16 != 0, joined, chains)).astype(chains.dtype)

    inside, near_byte, old = rows(byte, n), around(byte, n), rows(chains, n)
    empty = rows(after, n) == 0
    liberties = jnp.where(empty, near_byte & 31, 0) | inside & 32  # and the captured stones
    seen = lax.reduce(liberties.astype(jnp.uint16).reshape(n, n + 1), np.uint16(0), count_to_two, (0, 1))
    one = seen >> 8 & np.array([1, 2, 4, 8, 16, 32], np.uint16) == 0  # no chain here is without liberty
    freed = (near_byte & 32 != 0) & ~empty & (inside & 48 == 0) & (old != wall(chains))
    words = len(atari)
    clear = point_set(root(old).reshape(n, n + 1), freed.reshape(n, n + 1), words) | point_set(
        near, own | captured, words
    )
    put = point_set(jnp.append(near, root(joined)), jnp.append(alive & one[:4], played & one[4]), words)
    is_ko = one[4] & one[5] & captured.any() & ~own.any()
    away = jnp.where(captured, np.array([-n, n, -1, 1]), 0).sum()
    ko = jnp.where(is_ko, point + away, n * n).astype(chains.dtype)
    return after, atari & ~clear | put, ko


def packed(chains: jax.Array, n: int) -> jax.Array:
    """Stones of each player as rows of bits u32[2, n], bit c = column c."""
    board = points(rows(chains, n), n)
    stones = [stones_of(board, np.int8(player)).astype(jnp.uint32) for player in (0, 1)]
    return jnp.stack([functools.reduce(lax.bitwise_or, [on[:, c] << c for c in range(n)]) for on in stones])


def area(stones: jax.Array, n: int) -> jax.Array:
    """Stones and points reached by one player only, player 0's less player 1's, i32[]; u32[2, n] rows of stones.

    A flood fill of both players at once, a row at a time: adding to a row of free points those reached carries along
    each run to its end. Boards without stones need no turn of the loop, so only games that end cost anything.
    """
    free = ~(stones[0] | stones[1])[None] & np.uint32((1 << n) - 1)
    above, below = np.maximum(np.arange(n) - 1, 0), np.minimum(np.arange(n) + 1, n - 1)

    def spread(carry):
        reach, _ = carry
        new = (reach | reach[:, above] | reach[:, below] | reach << 1 | reach >> 1) & free
        new = ((free + new) ^ free | new) & free | reach
        return new, (new != reach).any()

    reach, _ = lax.while_loop(lambda carry: carry[1], spread, (stones, (stones != 0).any()))
    counts = lax.population_count(reach & ~reach[::-1]).astype(jnp.int32).sum(1)
    return counts[0] - counts[1]


def legal_points(chains: jax.Array, atari: jax.Array, player: jax.Array, n: int) -> jax.Array:
    """bool[n, n]: empty, and beside an empty point, an own chain not in atari or an enemy chain in atari."""
    both = np.arange(2, dtype=np.int8)[:, None]
    stone = stones_of(chains[None], both) & (is_in(root(chains), atari)[None] ^ (both == player))
    good = ((chains == 0)[None] | stone).any(0)
    return points((rows(chains, n) == 0) & around(good, n), n)


# Positional superko


@functools.cache
def zobrist(n: int) -> np.ndarray:
    """u32[2, N, 2]: 64 random bits for each player's stone on each point (Zobrist 1970)."""
    return np.random.default_rng(1970).integers(0, 2**32, (2, n * n, 2), np.uint32)


def xor(x: Any, axis: int) -> jax.Array:
    return lax.reduce(x, np.uint32(0), lax.bitwise_xor, (axis,))


def board_hash(chains: jax.Array, n: int) -> jax.Array:
    """u32[2] of the stones; 0 for the empty board. Two positions are taken for one with probability 2⁻⁶⁴."""
    board = points(rows(chains, n), n).reshape(-1)
    stones = [stones_of(board, np.int8(player))[:, None] for player in (0, 1)]
    return xor(sum(jnp.where(on, zobrist(n)[i], np.uint32(0)) for i, on in enumerate(stones)), 0)


def repeating(chains: jax.Array, atari: jax.Array, player: jax.Array, hashes: jax.Array, now: jax.Array, n: int):
    """bool[n, n]: a stone there would make a position whose hash is in `hashes`; u32[2] `now` is the position's."""
    board = points(rows(chains, n), n).reshape(-1)
    other = 1 - player
    prey = stones_of(board, other) & is_in(root(board), atari)
    stone = jnp.where(prey[:, None], jnp.asarray(zobrist(n))[other], np.uint32(0))
    member = root(board)[None] == np.arange(n * n, dtype=np.uint32)[:, None]
    chain = xor(jnp.where((member & prey[None])[:, :, None], stone[None], np.uint32(0)), 1)  # [N, 2] by root
    place, column = np.arange(n * n), np.arange(n * n) % n
    sides = [
        (place - n, place >= n),
        (place + n, place < n * n - n),
        (place - 1, column > 0),
        (place + 1, column < n - 1),
    ]
    after = now[None] ^ jnp.asarray(zobrist(n))[player]
    taken = []
    for side, on in sides:
        side = np.where(on, side, 0)
        first = jnp.where(on & prey[side], root(board[side]), n * n)
        new = (first < n * n) & ~functools.reduce(
            jnp.logical_or, [first == before for before in taken], np.zeros(n * n, bool)
        )
        after ^= jnp.where(new[:, None], chain[jnp.minimum(first, n * n - 1)], np.uint32(0))
        taken.append(first)
    same = (after[:, None, 0] == hashes[None, :, 0]) & (after[:, None, 1] == hashes[None, :, 1])
    return same.any(1).reshape(n, n)


# The game


def square_symmetry(n: int, turns: int, flip: bool) -> Symmetry:
    """Quarter turns, after a left-right mirror if `flip`."""

    def turned(view):
        return jnp.rot90(view[:, ::-1] if flip else view, turns)

    grid = np.arange(n * n).reshape(n, n)
    source = np.rot90(grid[:, ::-1] if flip else grid, turns).reshape(-1)
    return turned, np.append(np.argsort(source), n * n).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Go(Env):
    """Go.

    Attributes:
        size: 5 to 19.
        komi: points that the second player gets; 7.5 on every size, where no game is drawn.
        ko: "simple" or "positional".
        history: earlier positions in the observation (AlphaGo Zero's 8 boards are `history=7`).
        move_cap: plies after which the game is scored as it stands; 0: twice the number of points.
    """

    size: int = 9
    komi: float = 7.5
    ko: Literal["simple", "positional"] = "simple"
    history: int = 0
    move_cap: int = 0

    name = "go"

    @property
    def packed(self) -> bool:
        """Superko needs the hash of every earlier position."""
        return self.ko == "simple"

    def __post_init__(self):
        if not 5 <= self.size <= 19:
            raise ValueError(f"go: size must be 5 to 19, got {self.size}")
        if not np.isfinite(self.komi):
            raise ValueError(f"go: komi must be a number of points, got {self.komi}")
        if self.ko not in ("simple", "positional"):
            raise ValueError(f"go: ko must be 'simple' or 'positional', got {self.ko!r}")
        if not 0 <= self.history <= 64:
            raise ValueError(f"go: history must be 0 to 64 earlier positions, got {self.history}")
        if not 0 <= self.move_cap <= 10_000:
            raise ValueError(f"go: move_cap must be 1 to 10000 plies, or 0 for twice the points, got {self.move_cap}")

    @property
    def num_actions(self) -> int:
        return self.size**2 + 1

    @property
    def max_legal(self) -> int:
        return self.size**2 + 1

    @property
    def max_plies(self) -> int:
        return self.move_cap or 2 * self.size**2

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return self.size, self.size, 4 + 2 * self.history

    def init(self, key: jax.Array) -> State:
        n, kind = self.size, label_type(self.size)
        empty = np.pad(np.zeros((n, n), kind), ((1, 1), (0, 1)), constant_values=wall(np.zeros(0, kind)))
        return State(
            chains=jnp.asarray(empty.reshape(-1)),
            atari=jnp.zeros(-(-n * n // 32), jnp.uint32),
            ko=jnp.asarray(n * n, kind),
            last=jnp.asarray(n * n + 1, kind),
            ply=jnp.uint16(0),
            player=jnp.int8(0),
            terminated=jnp.bool(False),
            rewards=jnp.zeros(2, jnp.float32),
            past=jnp.zeros((self.history, 2, n), jnp.uint16 if n <= 16 else jnp.uint32) if self.history else None,
            hashes=jnp.zeros((self.max_plies, 2), jnp.uint32) if self.ko == "positional" else None,
        )

    def step(self, state: State, action: jax.Array) -> State:
        n, live = self.size, ~state.terminated
        action = action.astype(jnp.int32)
        chains, atari, ko = place(state.chains, state.atari, state.player, jnp.where(live, action, n * n), n)
        ply = state.ply + live.astype(jnp.uint16)
        passed_twice = (action == n * n) & (state.last == n * n)
        ends = live & (passed_twice | (ply >= self.max_plies))
        lead = area(jnp.where(ends, packed(chains, n), 0), n) - jnp.float32(self.komi)
        past, hashes = state.past, state.hashes
        if past is not None:
            now = packed(state.chains, n).astype(past.dtype)
            past = jnp.where(live, jnp.concatenate([now[None], past[:-1]]), past)
        if hashes is not None:  # at the move cap there is no place for the last one, which nobody needs
            hashes = hashes.at[ply].set(board_hash(chains, n), mode="drop")
        return State(
            chains=chains,
            atari=atari,
            ko=jnp.where(live, ko, state.ko),
            last=jnp.where(live, action.astype(state.last.dtype), state.last),
            ply=ply,
            player=jnp.where(live, 1 - state.player, state.player),
            terminated=state.terminated | ends,
            rewards=jnp.where(ends, jnp.sign(lead) * np.array([1, -1], np.float32), 0.0),
            past=past,
            hashes=hashes,
        )

    def legal_actions(self, state: State) -> jax.Array:
        n = self.size
        legal = legal_points(state.chains, state.atari, state.player, n)
        legal &= np.arange(n * n).reshape(n, n) != state.ko
        if state.hashes is not None:
            now = state.hashes[state.ply]
            legal &= ~repeating(state.chains, state.atari, state.player, state.hashes, now, n)
        return jnp.pad(legal.reshape(-1), (0, 1), constant_values=True) | state.terminated

    def observe(self, state: State) -> jax.Array:
        """Planes: stones of the mover, stones of the other, the point that the ko rule forbids, ones where player 1
        (who gets komi) moves; then for each of `history` earlier positions, the latest first, stones of the mover and
        stones of the other."""
        n = self.size
        board = rows(state.chains, n)
        mine = board - 1 & 1 == state.player.astype(board.dtype)
        point = np.pad(np.arange(n * n).reshape(n, n), ((0, 0), (0, 1))).reshape(-1)
        kind = jnp.where(board == 0, jnp.where(point == state.ko, KO, 0), jnp.where(mine, MINE, OTHER))
        kind = kind.astype(jnp.uint8) | jnp.where(state.player == 1, WHITE, 0).astype(jnp.uint8)
        table = (np.arange(16)[:, None] & np.array([MINE, OTHER, KO, WHITE]) != 0).astype(np.float32)
        planes = jnp.asarray(table)[points(kind, n)]
        if state.past is None:
            return planes
        past = jnp.where(state.player == 0, state.past, state.past[:, ::-1]).reshape(-1, n)  # [2H, n]
        past = past.T[:, None] >> np.arange(n, dtype=past.dtype)[None, :, None] & 1
        return jnp.concatenate([planes, past.astype(jnp.float32)], -1)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The eight of the square; the pass stays."""
        return tuple(square_symmetry(self.size, turns, flip) for flip in (False, True) for turns in range(4))

    def action_to_str(self, state: State, action: int) -> str:
        return vertex(action, self.size)

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """Rows of `X` (player 0), `O` and `.`, top row first; a line of what else there is to know; with `history` a
        line for each earlier position, the latest first; with positional superko the hashes of earlier positions."""
        n = self.size
        label = np.asarray(points(rows(state.chains, n), n))
        lines = drawn([stones_of(label, np.int8(player)) for player in (0, 1)])
        last = "-" if state.last == n * n + 1 else vertex(int(state.last), n)
        ko = "-" if state.ko == n * n else vertex(int(state.ko), n)
        over = ", over" if state.terminated else ""
        lines.append(f"{PLAYERS[int(state.player)]} to move, ply {int(state.ply)}, last {last}, ko {ko}{over}")
        if state.past is not None:
            bit = np.asarray(state.past)[..., None] >> np.arange(n) & 1 == 1
            lines += ["before " + "/".join(drawn(board)) for board in bit]
        if state.hashes is not None:
            seen = np.asarray(state.hashes)[: int(state.ply)]
            lines.append("hashes " + " ".join(f"{high:08x}{low:08x}" for high, low in seen))
        return "\n".join(lines)

    def from_text(self, text: str) -> State:
        n, lines = self.size, text.strip("\n").split("\n")
        extra = self.history + (self.ko == "positional")
        if len(lines) != n + 1 + extra:
            raise ValueError(f"go: a position is {n + 1 + extra} lines here (board, status, history), got {len(lines)}")
        stones = read_board(lines[:n], n)
        match = re.fullmatch(r"([XO]) to move, ply (\d{1,5}), last (\S+), ko (\S+?)(, over)?", lines[n])
        if not match:
            raise ValueError(f"go: expected a line 'X to move, ply 3, last d4, ko -', got {lines[n]!r}")
        mover, ply, last, ko = match[1], int(match[2]), read_vertex(match[3], n), read_vertex(match[4], n)
        player = PLAYERS.index(mover)
        if ply > self.max_plies or ply % 2 != player or (ply == 0) != (last == n * n + 1) or ko == n * n:
            raise ValueError(f"go: {lines[n]!r} contradicts itself or the move cap of {self.max_plies} plies")
        if stones[0].sum() > ply - ply // 2 or stones[1].sum() > ply // 2:
            raise ValueError(f"go: more stones than moves at ply {ply}")
        if last < n * n and not stones[1 - player].reshape(-1)[last]:
            raise ValueError(f"go: no stone of the player before at the last move {match[3]}")
        over = match[5] is not None
        if over != (ply == self.max_plies) and not (over and last == n * n and ply > 1):
            raise ValueError(f"go: {lines[n]!r}, but a game ends by two passes or at {self.max_plies} plies")
        chains, atari = find_chains(stones)
        if ko < n * n and not is_ko_point(stones, ko, last, player):
            raise ValueError(f"go: {match[4]} is no ko after {match[3]}")
        state = dataclasses.replace(
            self.init(jax.random.key(0)),
            chains=jnp.asarray(chains),
            atari=jnp.asarray(atari),
            ko=jnp.asarray(min(ko, n * n), chains.dtype),
            last=jnp.asarray(last, chains.dtype),
            ply=jnp.uint16(ply),
            player=jnp.int8(player),
            terminated=jnp.bool(over),
        )
        if state.past is not None:
            state = dataclasses.replace(state, past=read_past(lines[n + 1 : n + 1 + self.history], n, state.past.dtype))
        if state.hashes is not None:
            hashes = np.zeros(state.hashes.shape, np.uint32)
            hashes[:ply] = read_hashes(lines[-1], ply)
            hashes[ply : ply + 1] = board_hash(state.chains, n)
            state = dataclasses.replace(state, hashes=jnp.asarray(hashes))
        return state

    def to_board(self, state: State) -> str:
        return named_board(self.to_text(state).split("\n")[: self.size], numbers(self.size, 1), COLUMNS[: self.size])

    def to_svg(self, state: State) -> str:
        n = self.size
        label = np.asarray(points(rows(state.chains, n), n))
        shapes = []
        for player, colors in enumerate((("#1c1b19", "#000000"), ("#faf8f2", "#5d5648"))):
            shapes += [disc(int(r), int(c), *colors) for r, c in np.argwhere(stones_of(label, np.int8(player)))]
        if state.last < n * n:
            shapes.append(ring(*divmod(int(state.last), n), "#d8432f"))
        if state.ko < n * n:
            shapes.append(cross(*divmod(int(state.ko), n), "#d8432f"))
        return line_board(n, star_points(n), shapes)


# Host side: text


def vertex(point: int, n: int) -> str:
    return "pass" if point == n * n else f"{COLUMNS[point % n]}{n - point // n}"


def read_vertex(text: str, n: int) -> int:
    """A point, N for the pass, N + 1 for `-`."""
    names = [vertex(point, n) for point in range(n * n + 1)] + ["-"]
    if text not in names:
        raise ValueError(f"go: {text!r} is not a vertex of a {n}×{n} board")
    return names.index(text)


def drawn(stones: Any) -> list[str]:
    return ["".join(row) for row in np.where(stones[0], "X", np.where(stones[1], "O", "."))]


def read_board(lines: list[str], n: int) -> np.ndarray:
    """bool[2, n, n]"""
    if len(lines) != n or any(len(line) != n or set(line) - set("XO.") for line in lines):
        raise ValueError(f"go: a board is {n} rows of {n} characters X, O or '.', got {'/'.join(lines)!r}")
    board = np.array([list(line) for line in lines])
    return np.stack([board == player for player in PLAYERS])


def read_past(lines: list[str], n: int, kind: np.dtype) -> jax.Array:
    if any(not line.startswith("before ") for line in lines):
        raise ValueError(f"go: expected a line 'before …' for each of {len(lines)} earlier positions")
    boards = np.stack([read_board(line.removeprefix("before ").split("/"), n) for line in lines])
    return jnp.asarray((boards << np.arange(n)).sum(-1).astype(kind))


def read_hashes(line: str, ply: int) -> np.ndarray:
    """u32[ply, 2]"""
    if not re.fullmatch(r"hashes (([0-9a-f]{16} )*[0-9a-f]{16})?", line) or line.count(" ") != max(ply, 1):
        raise ValueError(f"go: expected 'hashes' and {ply} numbers of 16 hex digits, got {line!r}")
    return np.array([[int(word[:8], 16), int(word[8:], 16)] for word in line.split()[1:]], np.uint32).reshape(ply, 2)


def beside(point: int, n: int) -> list[int]:
    row, column = divmod(point, n)
    sides = [(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)]
    return [r * n + c for r, c in sides if 0 <= r < n and 0 <= c < n]


def find_chains(stones: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool[2, n, n] -> the state's `chains` and `atari`."""
    n = stones.shape[1]
    owner = np.where(stones[0], 0, np.where(stones[1], 1, -1)).reshape(-1)
    label, atari = np.zeros(n * n, label_type(n)), np.zeros(-(-n * n // 32), np.uint32)
    for first in range(n * n):
        if owner[first] < 0 or label[first]:
            continue
        chain, frontier = {first}, [first]
        while frontier:
            new = {q for q in beside(frontier.pop(), n) if owner[q] == owner[first]} - chain
            chain |= new
            frontier += new
        liberties = {q for point in chain for q in beside(point, n) if owner[q] < 0}
        if not liberties:
            raise ValueError(f"go: the chain at {vertex(first, n)} has no liberty")
        label[list(chain)] = 1 + 2 * first + owner[first]
        if len(liberties) == 1:
            atari[first // 32] |= np.uint32(1 << first % 32)
    return np.pad(label.reshape(n, n), ((1, 1), (0, 1)), constant_values=wall(label)).reshape(-1), atari


def is_ko_point(stones: np.ndarray, ko: int, last: int, player: int) -> bool:
    """Whether the stone at `last` may have taken one at `ko`, and could be taken back."""
    n = stones.shape[1]
    free = ~stones.any(0).reshape(-1)
    other = stones[1 - player].reshape(-1)
    return (
        last < n * n
        and ko in beside(last, n)
        and bool(free[ko])
        and all(other[q] for q in beside(ko, n))
        and all(stones[player].reshape(-1)[q] for q in beside(last, n) if q != ko)
    )


def star_points(n: int) -> list[tuple[int, int]]:
    edge = 3 if n > 11 else 2
    lines = sorted({edge, n - 1 - edge, n // 2} if n % 2 and n > 12 else {edge, n - 1 - edge})
    stars = [(r, c) for r in lines for c in lines] if n > 6 else []
    return [*stars, (n // 2, n // 2)] if n % 2 and n <= 12 else stars
