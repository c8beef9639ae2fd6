"""2048 for one player: slide the tiles of a 4 × 4 board, equal tiles merge, then a 2 or a 4 appears.

Actions 0 left, 1 up, 2 right, 3 down, as in Pgx; legal where they change the board. The reward of a step is the sum
of the tiles that it makes. Outcome = 2 · square + (the tile is a 4), square = 4 · row + column: an empty square drawn
uniformly, a 2 with probability 0.9. The game ends when nothing moves, or after `max_plies` moves.

A tile is stored as its exponent in four bits (0 empty, 1 the tile 2, …). Two words hold the upper and lower half of the
board, so that shifts and masks slide all rows at once.
"""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np

from envs.core import Env, Symmetry, direction_symmetries, where
from envs.host import parse_action
from envs.svg import CELL, cell_center, frame, grid_board

ACTIONS = ("left", "up", "right", "down")
MAX_PLIES = 16_381  # after so many moves all tiles sum to less than 2**16: an exponent fits four bits
EVERY = 0x11111111  # the lowest bit of each tile
ROW = 0x00010001  # … of each row; a word holds two
HALVES = np.uint32(0x00FF00FF)  # the left half of each row


Board = tuple[jax.Array, jax.Array]  # u32[], u32[]: upper and lower half


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    upper: jax.Array  # u32[]  squares 0–7: exponent of square s = 4 · row + column in bits 4 · s … 4 · s + 3
    lower: jax.Array  # u32[]  squares 8–15 likewise
    plies: jax.Array  # u16[]  moves played
    player: jax.Array  # i8[]
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[1]
    chance: jax.Array  # bool[]


def exponents(state: State) -> jax.Array:
    """Exponents u32[16], row by row."""
    halves = jnp.stack([state.upper, state.lower])
    return (halves[:, None] >> np.arange(0, 32, 4, dtype=np.uint32)[None] & 15).reshape(16)


def occupied(word: jax.Array) -> jax.Array:
    """The lowest bit of each tile that is not empty."""
    pairs = word | word >> 1
    return (pairs | pairs >> 2) & EVERY


def transpose(board: Board) -> Board:
    """Rows become columns: first within each 2 × 2 block, then the blocks."""
    swaps = [(word ^ word >> 12) & 0x0000F0F0 for word in board]
    upper, lower = (word ^ swap ^ swap << 12 for word, swap in zip(board, swaps, strict=True))
    return upper & HALVES | (lower & HALVES) << 8, lower & ~HALVES | (upper & ~HALVES) >> 8


def mirror(word: jax.Array) -> jax.Array:
    """Each row from right to left."""
    swapped = (word & HALVES) << 8 | word >> 8 & HALVES
    return (swapped & 0x0F0F0F0F) << 4 | swapped >> 4 & 0x0F0F0F0F


def closed(rows: jax.Array, column: int, hole: jax.Array) -> jax.Array:
    """Moves all tiles right of `column` one to the left, in the rows whose lowest bit is set in `hole`."""
    kept = ROW * ((1 << 4 * column) - 1)
    moved = rows & kept | rows >> 4 & (ROW * 0x0FFF & ~kept)
    return rows ^ (rows ^ moved) & hole * 0xFFFF


def slide(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Slides two rows to the left. Returns them and the sum of the merged tiles u32[]."""
    for column in (2, 1, 0):
        rows = closed(rows, column, ~occupied(rows) >> 4 * column & ROW)
    points = jnp.uint32(0)
    for column in (0, 1, 2):  # a tile just made is left of those compared next: it does not merge again
        equal = (occupied(rows) & ~occupied(rows ^ rows >> 4)) >> 4 * column & ROW
        rows = closed(rows + (equal << 4 * column), column + 1, equal)
        made = rows >> 4 * column
        points += ((equal & 1) << (made & 15)) + ((equal >> 16) << (made >> 16 & 15))
    return rows, points


def move(board: Board, action: jax.Array) -> tuple[Board, jax.Array]:
    """The board after sliding, before a tile appears, and the sum of the merged tiles u32[]."""

    def turned(board: Board) -> Board:
        upper, lower = transpose(board)
        return jnp.where(action % 2 == 1, upper, board[0]), jnp.where(action % 2 == 1, lower, board[1])

    def flipped(word):
        return jnp.where(action >= 2, mirror(word), word)

    (upper, first), (lower, second) = (slide(flipped(rows)) for rows in turned(board))
    return turned((flipped(upper), flipped(lower))), first + second


def movable(board: Board) -> list[jax.Array]:
    """The actions that change the board, four bool[]: some tile has an empty or equal neighbour on that side."""
    upper, lower = board
    inner = ROW * 0x0111  # columns 0–2
    across = (upper, upper >> 4, inner), (lower, lower >> 4, inner)
    down = (upper, upper >> 16 | lower << 16, EVERY), (lower, lower >> 16, 0x1111)
    able = []
    for pairs in (across, down):
        to_first = to_second = jnp.uint32(0)
        for first, second, mask in pairs:
            a, b, equal = occupied(first), occupied(second), ~occupied(first ^ second)
            to_first |= b & (~a | equal) & mask
            to_second |= a & (~b | equal) & mask
        able.append((to_first != 0, to_second != 0))
    (left, right), (up, down) = able
    return [left, up, right, down]


def stuck(board: Board) -> jax.Array:
    left, up, right, down = movable(board)
    return ~(left | up | right | down)


def spawn(board: Board, number: jax.Array) -> Board:
    """Adds a tile drawn by a uniform number f32[] in [0, 1). The board must have an empty square."""
    free = [~occupied(word) & EVERY for word in board]
    ranks = [word * EVERY for word in free]  # in each square: how many are free up to it, in its half
    above, below = (word >> 28 for word in ranks)
    place = number * (above + below).astype(jnp.float32)
    whole = place.astype(jnp.uint32)
    four = (place - whole.astype(jnp.float32) >= 0.9).astype(jnp.uint32)
    nth = jnp.where(whole < above, whole + 1, 0), jnp.where(whole < above, 0, whole + 1 - above)
    here = [f & ~occupied(rank ^ n * EVERY) for f, rank, n in zip(free, ranks, nth, strict=True)]
    return board[0] | here[0] << four, board[1] | here[1] << four


def settled(state: State, board: Board) -> State:
    """The state after the chance outcome that makes `board` from the board of the afterstate."""
    upper, lower = board
    after = dataclasses.replace(state, upper=upper, lower=lower, terminated=stuck(board), chance=jnp.bool(False))
    return where(state.chance, after, state)


@dataclasses.dataclass(frozen=True)
class Game2048(Env):
    """A game that reaches `max_plies` moves ends there and keeps what it has earned. Moves add 2.2 to the sum of the
    tiles on average: 2,048 of them are enough for the tile 4,096, and far more than random play lasts (about 120)."""

    max_plies: int = 2048

    name = "2048"
    num_actions = 4
    num_players = 1
    observation_shape = (4, 4, 16)
    max_legal = 4
    num_outcomes = 32

    def __post_init__(self):
        if not 1 <= self.max_plies <= MAX_PLIES:
            raise ValueError(f"2048: max_plies is 1 to {MAX_PLIES}, got {self.max_plies}")

    def init(self, key: jax.Array) -> State:
        first, second = jax.random.uniform(key, (2,))
        upper, lower = spawn(spawn((jnp.uint32(0), jnp.uint32(0)), first), second)
        return State(upper, lower, jnp.uint16(0), jnp.int8(0), jnp.bool(False), jnp.zeros(1), jnp.bool(False))

    def step(self, state: State, action: jax.Array) -> State:
        (upper, lower), points = move((state.upper, state.lower), action)
        plies = state.plies + jnp.uint16(1)
        over = plies >= self.max_plies
        after = State(upper, lower, plies, state.player, over, points.astype(jnp.float32)[None], ~over)
        return where(state.terminated, dataclasses.replace(state, rewards=jnp.zeros(1)), after)

    def legal_actions(self, state: State) -> jax.Array:
        return state.terminated | jnp.stack(movable((state.upper, state.lower)))

    def outcome_logits(self, state: State) -> jax.Array:
        """Uniform where none is due."""
        empty = exponents(state) == 0
        tile = np.log(np.array([0.9, 0.1], np.float32)) - jnp.log(empty.sum(dtype=jnp.float32))
        logits = jnp.where(empty[:, None], tile[None], -jnp.inf).reshape(32)
        return jnp.where(state.chance, logits, -np.log(np.float32(32)))

    def resolve(self, state: State, outcome: jax.Array) -> State:
        square, four = outcome // 2, outcome % 2
        tile = (1 + four).astype(jnp.uint32) << (4 * (square % 8)).astype(jnp.uint32)
        lower = square >= 8
        return settled(state, (state.upper | jnp.where(lower, 0, tile), state.lower | jnp.where(lower, tile, 0)))

    def advance(self, state: State, action: jax.Array, key: jax.Array) -> State:
        """As in `Env`, but without computing the 32 probabilities."""
        state = self.step(state, action)
        return settled(state, spawn((state.upper, state.lower), jax.random.uniform(key)))

    def observe(self, state: State) -> jax.Array:
        """One plane for each exponent, that of empty squares first."""
        return (exponents(state).reshape(4, 4, 1) == np.arange(16).reshape(1, 1, 16)).astype(jnp.float32)

    @property
    def symmetries(self) -> tuple[Symmetry, ...]:
        """The eight symmetries of the square."""
        return direction_symmetries()

    def action_to_str(self, state: State, action: int) -> str:
        return ACTIONS[action]

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def to_text(self, state: State) -> str:
        """Four rows of tiles, `.` for none, then the number of moves played and `spawn` if a tile is due."""
        tiles = [str(1 << int(e)) if e else "." for e in exponents(state)]
        rows = [" ".join(f"{tile:>5}" for tile in tiles[row : row + 4]) for row in (0, 4, 8, 12)]
        return "\n".join([*rows, f"ply {state.plies}" + " spawn" * bool(state.chance)])

    def from_text(self, text: str) -> State:
        match = re.fullmatch(r"((?:[\d.]+\s+){16})ply (\d{1,5})( spawn)?", text.strip())
        if not match:
            raise ValueError(f"2048: a position is 16 tiles, 'ply' and the moves played, got {text!r}")
        known = {"."} | {str(1 << e) for e in range(1, 16)}
        tiles, plies, chance = match[1].split(), int(match[2]), bool(match[3])
        if wrong := [tile for tile in tiles if tile not in known]:
            raise ValueError(f"2048: a tile is a power of two from 2 to 32768 or '.', got {wrong[0]!r}")
        if plies > self.max_plies or (chance and (plies == self.max_plies or "." not in tiles)):
            raise ValueError(f"2048: no tile is due, or the game is over before, in {text!r}")
        words = [0 if tile == "." else int(tile).bit_length() - 1 for tile in tiles]
        packed = [sum(e << 4 * i for i, e in enumerate(words[half : half + 8])) for half in (0, 8)]
        board = jnp.uint32(packed[0]), jnp.uint32(packed[1])
        over = not chance and (plies == self.max_plies or bool(stuck(board)))
        return State(*board, jnp.uint16(plies), jnp.int8(0), jnp.bool(over), jnp.zeros(1), jnp.bool(chance))

    def to_svg(self, state: State, before: State | None = None) -> str:
        """The tile that has appeared is framed in red, those that the move has made in a dark colour."""
        new, old = (np.asarray(exponents(s)).astype(int).reshape(4, 4) for s in (state, before or state))
        shapes = [tile_svg(row, column, int(e)) for (row, column), e in np.ndenumerate(new)]
        for squares, color in zip(last_move(old, new), ("#4a3f35", "#d8432f"), strict=True):
            shapes += [frame(int(row), int(column), color) for row, column in np.argwhere(squares)]
        return grid_board(4, 4, shapes, fill="#b8ab9c")


def slid(row: list[int]) -> list[int]:
    """Exponents after a slide to the left; those of merged tiles are negative."""
    tiles, found = [e for e in row if e], []
    while tiles:
        merge = tiles[:1] == tiles[1:2]
        found.append(-tiles[0] - 1 if merge else tiles[0])
        tiles = tiles[1 + merge :]
    return found + [0] * (4 - len(found))


def last_move(old: np.ndarray, new: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The tiles that a move made, and the one that then appeared, bool[4, 4] each, from exponents [4, 4] before and
    after: by the first action that leads there, nothing if none does."""
    for action in range(len(ACTIONS)):
        rows = np.rot90(old, action).tolist()
        after = np.rot90([slid(row) for row in rows], -action)
        appeared = abs(after) != new
        if (abs(after) != old).any() and appeared.sum() <= 1 and not after[appeared].any():
            return after < 0, appeared
    nothing = np.zeros((4, 4), bool)
    return nothing, nothing


COLORS = (  # by exponent
    *("#cdc1b4", "#eee4da", "#ede0c8", "#f2b179", "#f59563", "#f67c5f", "#f65e3b", "#edcf72"),
    *("#edcc61", "#edc850", "#edc53f", "#edc22e", "#3c8f6d", "#2f7a8c", "#35589c", "#3c3a32"),
)


def tile_svg(row: int, column: int, exponent: int) -> str:
    x, y = cell_center(row, column)
    half = 0.44 * CELL
    text = str(1 << exponent) if exponent else ""
    return (
        f'<rect x="{x - half:g}" y="{y - half:g}" width="{2 * half:g}" height="{2 * half:g}" rx="4" '
        f'fill="{COLORS[exponent]}"/>'
        f'<text x="{x:g}" y="{y:g}" text-anchor="middle" dy="0.35em" font-family="sans-serif" '
        f'font-weight="bold" font-size="{(20, 20, 20, 17, 14, 12)[len(text)]}" '
        f'fill="{"#5f574f" if exponent < 3 else "#ffffff"}">{text}</text>'
    )
