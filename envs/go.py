"""Go on 5×5 to 19×19 boards, area scoring (Tromp-Taylor: https://tromp.github.io/go.html).

Rule differences: unlike in Tromp-Taylor, suicide is illegal, as in Pgx, open_spiel and the rules of most countries.
`ko="simple"` forbids only the immediate recapture of a ko; `ko="positional"` forbids every move that repeats an earlier
whole-board position (Tromp-Taylor's rule 6). A pass is always legal. Two successive passes end the game, as does the
move cap.

Action = row · size + column, top row first; size² is the pass. Vertices as in GTP: columns a, b, … without i, rows
from the bottom.

Letters: n size, N = n², H earlier positions seen, M = max_plies.
"""

import dataclasses
import re
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from envs.backend import materialized
from envs.core import Env, Symmetry, appended, earned, square_symmetries
from envs.go_board import area, label_type, legal_points, packed, place, points, rows, stones_of, wall
from envs.go_superko import board_hash, repeating
from envs.go_text import (
    COLUMNS,
    PLAYERS,
    drawn,
    find_chains,
    is_ko_point,
    read_board,
    read_hashes,
    read_past,
    read_vertex,
    star_points,
    vertex,
)
from envs.host import parse_action
from envs.svg import cross, disc, line_board, ring
from envs.text import named_board, numbers

MINE, OTHER, KO, WHITE = 1, 2, 4, 8  # bits of a point as observed, a plane each


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
    marks = ("X (Black)", "O (White)")

    @property
    def packed(self) -> bool:
        """False with superko, which stores the hash of every earlier position."""
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
        return appended(legal.reshape(-1) | state.terminated, jnp.bool(True))

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
        kind = materialized(points(kind, n).reshape(-1, 1))
        planes = materialized((kind >> np.arange(4, dtype=np.uint8)[None] & 1).astype(jnp.float32)).reshape(n, n, 4)
        if state.past is None:
            return planes
        past = jnp.where(state.player == 0, state.past, state.past[:, ::-1]).reshape(-1, n)  # [2H, n]
        past = past.T[:, None] >> np.arange(n, dtype=past.dtype)[None, :, None] & 1
        return jnp.concatenate([planes, past.astype(jnp.float32)], -1)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The eight symmetries of the square; the pass stays."""
        return square_symmetries(self.size, extra_actions=1)

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
            rewards=earned(over * jnp.sign(area(packed(jnp.asarray(chains), n), n) - jnp.float32(self.komi))),
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

    def to_svg(self, state: State, before: State | None = None) -> str:
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
