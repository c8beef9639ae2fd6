"""Rules of chess on bitboards: all legal moves of a position at once, and the position after a move.

A board of 64 bits is a pair of 32-bit words; bit 8·rank + file, so a1 is bit 0. Everything is as the player to move
sees it: their pawns go up the board, and after a move the ranks are mirrored (files stay).

Moves of one kind (direction and distance) are one bitboard of the squares where such a move may start. So the legal
moves of a position are 73 bitboards, found without a loop over squares, moves or pieces: the eight directions are the
eight lanes of a vector, and pins, checks and attacks come from the same walk along them.

Planes, the 8×8×73 encoding of AlphaZero (Silver et al. 2018, table S2); an action is 73·(square of origin) + plane:
     0–55   8·(distance − 1) + direction, directions N NE E SE S SW W NW; a pawn that reaches the last rank so
            becomes a queen; castling is the king's move by two squares
    56–63   knight moves, clockwise from north-north-east
    64–72   64 + 3·piece + side: a pawn becomes a knight, bishop or rook, going to the left, straight, to the right
Letters: D = 8 directions.
"""

from itertools import chain
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import backend

PLANES = 73
ALL = np.uint32(0xFFFFFFFF)
NO_FILE = 255  # en passant: none
K_SIDE, Q_SIDE = 1, 2  # castling rights of the mover; those of the other are four times these


class Board(NamedTuple):
    """Bitboards, u32[…] twice. A NamedTuple, so that it is a pytree."""

    lo: Any  # ranks 1–4
    hi: Any  # ranks 5–8

    def __and__(self, other):
        return Board(self.lo & other.lo, self.hi & other.hi)

    def __or__(self, other):
        return Board(self.lo | other.lo, self.hi | other.hi)

    def __xor__(self, other):
        return Board(self.lo ^ other.lo, self.hi ^ other.hi)

    def __invert__(self):
        return Board(~self.lo, ~self.hi)

    def some(self) -> jax.Array:
        """bool[…]: not empty."""
        return (self.lo | self.hi) != 0

    def lanes(self, index) -> "Board":
        return Board(self.lo[index], self.hi[index])


def constant(bits) -> Board:
    """Bitboards of numpy from Python integers or bool[…, 64]."""
    bits = np.asarray(bits)
    if bits.dtype == bool:
        bits = (bits.astype(np.uint64) << np.arange(64, dtype=np.uint64)).sum(-1, dtype=np.uint64)
    bits = bits.astype(np.uint64)
    return Board((bits & np.uint64(0xFFFFFFFF)).astype(np.uint32), (bits >> np.uint64(32)).astype(np.uint32))


def where(condition, yes: Board, no: Board) -> Board:
    return Board(jnp.where(condition, yes.lo, no.lo), jnp.where(condition, yes.hi, no.hi))


def rotate(board: Board, amount) -> Board:
    """Every bit moved up by `amount` u32 squares (below 64, one a lane), around the end of the board."""
    crosses, amount = amount >= 32, amount & np.uint32(31)
    lo, hi = jnp.where(crosses, board.hi, board.lo), jnp.where(crosses, board.lo, board.hi)
    back = np.uint32(32) - amount  # a shift by 32 gives 0
    return Board(lo << amount | hi >> back, hi << amount | lo >> back)


N, NE, E, SE, S, SW, W, NW = range(8)
LANE = np.arange(8)
RAYS = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]  # files, ranks
JUMPS = [(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)]
UP = [(-1, 1), (0, 1), (1, 1)]
WALKS = [[(k * x, k * y) for x, y in RAYS] for k in range(1, 8)]  # by distance and direction


class Leap(NamedTuple):
    """Steps, one a lane: how far in squares modulo 64, and where they arrive and start without leaving the board."""

    up: np.ndarray  # u32[…]
    down: np.ndarray  # u32[…]  the same backwards
    arrive: Board  # of numpy
    start: Board

    def forth(self, board: Board) -> Board:
        """Where the pieces on `board` arrive."""
        return rotate(board, self.up) & self.arrive

    def back(self, board: Board) -> Board:
        """Where pieces start that arrive on `board`."""
        return rotate(board, self.down) & self.start


def leap(steps) -> Leap:
    """From (files, ranks) of each lane, […, 2]."""
    files, ranks = np.moveaxis(np.array(steps)[..., None], -2, 0)  # [..., 1]
    file, rank = np.arange(64) % 8, np.arange(64) // 8

    def inside(files, ranks):
        to_file, to_rank = file + files, rank + ranks
        return constant((to_file >= 0) & (to_file < 8) & (to_rank >= 0) & (to_rank < 8))

    offset = (8 * ranks + files)[..., 0]
    up, down = (offset % 64).astype(np.uint32), (-offset % 64).astype(np.uint32)
    return Leap(up, down, inside(-files, -ranks), inside(files, ranks))


WALK, JUMP = leap(WALKS), leap(JUMPS)  # lanes [7, 8], [8]
SLIDE, DOUBLE = leap(WALKS[0]), leap(WALKS[1])
# Row 0: from the king; rows 1, 2: the same after an en passant capture to NE, NW; row 3: from the sliders of the
# other player, in the opposite direction, so that lane d of row 3 looks at the king along the ray of lane d of row 0.
LOOK = leap(np.stack([WALKS] * 3 + [np.roll(WALKS, 4, axis=1)], 1))  # lanes [7, 4, 8]
ROW = np.arange(4)[:, None]
DIAGONAL = LANE % 2 == 1
OFFSETS = np.array([8 * up + right for right, up in [*chain(*WALKS), *JUMPS, *UP * 3]])  # i64[73]


def lane_mask(*lanes: int) -> Board:
    """All squares in these lanes, none in the others."""
    words = np.where(np.isin(LANE, lanes), ALL, np.uint32(0))
    return Board(words, words)


def ranks(*numbers: int) -> Board:
    return constant(sum(0xFF << 8 * (number - 1) for number in numbers))


CAPTURES, BELOW = lane_mask(NE, NW), lane_mask(SE, SW)
DARK = Board(np.uint32(0xAA55AA55), np.uint32(0xAA55AA55))


def bit(square: jax.Array) -> Board:
    """The board with one bit; none for a square of 64 or more."""
    square = square.astype(jnp.uint32)
    return Board(np.uint32(1) << square, np.uint32(1) << (square - np.uint32(32)))  # a shift by 32 or more gives 0


def lane_or(board: Board, axis: int = -1) -> Board:
    return Board(*(jnp.bitwise_or.reduce(word, axis) for word in board))  # pyright: ignore[reportCallIssue]


def lane_and(board: Board) -> Board:
    return Board(*(jnp.bitwise_and.reduce(word, -1) for word in board))  # pyright: ignore[reportCallIssue]


class Pieces(NamedTuple):
    """A position: the mover's pieces, and the kind on each square as three bits, spread over three boards."""

    mine: Board
    a: Board  # pawn, bishop, queen
    b: Board  # knight, rook, queen
    c: Board  # king, bishop, rook, queen

    @property
    def taken(self) -> Board:
        return self.a | self.b | self.c

    @property
    def pawns(self) -> Board:
        return self.a & ~self.b & ~self.c

    @property
    def knights(self) -> Board:
        return self.b & ~self.a & ~self.c

    @property
    def kings(self) -> Board:
        return self.c & ~self.a & ~self.b

    @property
    def diagonal(self) -> Board:
        """Bishops and queens."""
        return self.a & self.c

    @property
    def straight(self) -> Board:
        """Rooks and queens."""
        return self.b & self.c


def unpack(board: jax.Array) -> Pieces:
    """u32[4, 2] -> boards of scalars."""
    return Pieces(*(Board(board[i, 0], board[i, 1]) for i in range(4)))


def pack(pieces: Pieces) -> jax.Array:
    return jnp.stack([jnp.stack(board) for board in pieces])


def mirrored(boards: jax.Array) -> jax.Array:
    """u32[…, 4, 2] as the other player sees it: the bytes of each 64 bits reversed, and the men of the other."""
    x = boards[..., ::-1]
    x = x << 16 | x >> 16
    x = (x & np.uint32(0x00FF00FF)) << 8 | (x >> 8) & np.uint32(0x00FF00FF)
    mine, kinds = x[..., :1, :], x[..., 1:, :]
    a, b, c = jnp.split(kinds, 3, -2)
    return jnp.concatenate([(a | b | c) & ~mine, kinds], -2)


KINDS = {"P": 0b001, "N": 0b010, "B": 0b101, "R": 0b110, "Q": 0b111, "K": 0b100}  # bits c b a


class Moves(NamedTuple):
    origins: jax.Array  # u32[2, 73]  where a move of each plane may start
    checked: jax.Array  # bool[]  the mover's king is attacked
    en_passant: jax.Array  # bool[]  such a capture is legal


@backend.compiled_once
def legal_moves(board: jax.Array, castling: jax.Array, file: jax.Array) -> Moves:
    """`board` u32[4, 2]; `castling` u8[]; `file` u8[] of a pawn that just went two squares, or NO_FILE."""
    pieces = unpack(board)
    mine, taken = pieces.mine, pieces.taken
    theirs, empty = taken & ~mine, ~taken
    king, pawns = pieces.kings & mine, pieces.pawns & mine
    sliders = where(DIAGONAL, pieces.diagonal, pieces.straight)  # [D], of both players
    hostile = sliders & theirs

    passed = Board(jnp.zeros_like(mine.lo), np.uint32(0x100) << file.astype(jnp.uint32))
    around = SLIDE.forth(passed)
    victim = around.lanes(S)
    right, left = around.lanes(SW) & pawns, around.lanes(SE) & pawns  # they capture to NE, NW

    through = where(ROW == 1, empty ^ right ^ victim ^ passed, where(ROW == 2, empty ^ left ^ victim ^ passed, empty))
    through = through | where(ROW == 3, king, constant(0))  # a king does not hide the squares behind it
    begin = where(ROW == 3, Board(hostile.lo[None], hostile.hi[None]), king)

    def look(seen: Board, step: Leap) -> tuple[Board, None]:  # arrives by this step, or on from farther away
        return step.forth(begin) | rotate(through, step.up) & seen, None

    nothing = Board(jnp.zeros_like(begin.lo), jnp.zeros_like(begin.lo))
    seen, _ = jax.lax.scan(look, nothing, LOOK, reverse=True, unroll=backend.accelerated() or 1)
    ray = seen.lanes(0)  # [D] from the king up to the first piece
    pinned = ray & mine & seen.lanes(3)
    near, jumps = SLIDE.forth(king), JUMP.forth(king)
    by_slider, by_knight = ray & hostile, jumps & pieces.knights & theirs
    by_pawn = near & pieces.pawns & theirs & CAPTURES
    full = constant(0xFFFFFFFFFFFFFFFF)
    cover = where(by_slider.some(), ray, full) & where(by_knight.some(), by_knight, full)
    cover = lane_and(cover & where(by_pawn.some(), by_pawn, full))  # stops every check; empty in double check
    hits = seen.lanes(slice(1, 3)) & Board(hostile.lo[None], hostile.hi[None])
    others = by_knight | by_pawn & ~victim
    stopped = (hits.some() | others.some()[None]).any(-1)  # bool[2]
    attacked = lane_or(
        seen.lanes(3)
        | JUMP.forth(pieces.knights & theirs)
        | SLIDE.forth(theirs & (pieces.kings | pieces.pawns & BELOW))
    )
    any_pin = lane_or(pinned)
    free = ~any_pin | pinned | Board(*(jnp.roll(word, 4) for word in pinned))  # [D] may move along this line

    goal = cover & ~mine
    ahead = pawns & free & SLIDE.back(cover & (empty & lane_mask(N) | theirs & CAPTURES))
    passing = where(right.some() & ~stopped[0], right & lane_mask(NE), constant(0)) | where(
        left.some() & ~stopped[1], left & lane_mask(NW), constant(0)
    )
    first = king & SLIDE.back(~mine & ~attacked) | ahead | passing
    double = pawns & free & ranks(2) & SLIDE.back(empty) & DOUBLE.back(empty & cover) & lane_mask(N)
    second = double | castle(castling, taken.lo, attacked.lo)
    hops = pieces.knights & mine & ~any_pin & JUMP.back(goal)
    top = ahead & ranks(7)

    def join(first, second, hops, top):
        low = [top[NW:], top[: NE + 1]] * 3
        return jnp.concatenate([first, second, jnp.zeros(40, jnp.uint32), hops, *low])

    def slide(carry: tuple[Board, jax.Array], step: tuple[jax.Array, Leap]):
        """`path`: the starts from which all squares before this step are empty."""
        path, origins = carry
        k, leap = step
        here = jnp.stack(path & leap.back(goal)) | jax.lax.dynamic_slice(origins, (0, 8 * k), (2, 8))
        origins = jax.lax.dynamic_update_slice(origins, here, (0, 8 * k))
        return (path & rotate(empty, leap.down), origins), None

    origins = jnp.stack([join(*words) for words in zip(first, second, hops, top, strict=True)])
    steps: Any = np.arange(7, dtype=np.int32), WALK
    (_, origins), _ = jax.lax.scan(slide, (sliders & mine & free, origins), steps, unroll=backend.accelerated() or 1)
    return Moves(origins, (cover.lo & cover.hi) != ALL, passing.some().any())


def castle(castling: jax.Array, taken: jax.Array, attacked: jax.Array) -> Board:
    """[D], where a king can castle in that direction; `taken`, `attacked` u32[] of the lower ranks."""
    king = (castling & K_SIDE != 0) & (taken & 0x60 == 0) & (attacked & 0x70 == 0)
    queen = (castling & Q_SIDE != 0) & (taken & 0x0E == 0) & (attacked & 0x1C == 0)
    goal = jnp.where(king & (LANE == E), np.uint32(0x10), np.uint32(0))
    goal = goal | jnp.where(queen & (LANE == W), np.uint32(0x10), np.uint32(0))
    return Board(goal, jnp.zeros_like(goal))


FILES = (1 << np.arange(8)).astype(np.uint8)[:, None]  # [8, 1]


def by_rank(boards: jax.Array) -> jax.Array:
    """u32[2, K] -> u8[8, K], a bit for each file.

    On a CPU in a loop over the two words, so that XLA keeps the result: it would compute `boards` anew for each square
    that is read.
    """
    if backend.accelerated():
        return jax.lax.bitcast_convert_type(boards, jnp.uint8).swapaxes(1, 2).reshape(8, -1)
    _, rows = jax.lax.scan(lambda _, word: (None, jax.lax.bitcast_convert_type(word, jnp.uint8).T), None, boards)
    return rows.reshape(8, -1)


def spread(boards: jax.Array) -> jax.Array:
    """u32[2, K] -> bool[8·8·K], in the order of rank, file and K."""
    return backend.alone(by_rank(boards)[:, None] & FILES[None] != 0).reshape(-1)


def after_move(
    board: jax.Array, castling: jax.Array, file: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """The position after a move, as the other player sees it.

    Returns:
        board, castling, `file` of a pawn that went two squares (whether or not it can be captured), whether the move
        was neither capture nor pawn move, u8[2] its squares in the view of who made it.
    """
    pieces = unpack(board)
    origin, plane = action // PLANES, action % PLANES
    goal = origin + jnp.asarray(OFFSETS.astype(np.int32))[plane]
    start, end = bit(origin), bit(goal)
    pawn, king = (pieces.pawns & start).some(), (pieces.kings & start).some()
    victim = Board(jnp.zeros_like(start.lo), jnp.where(pawn, np.uint32(0x100) << file.astype(jnp.uint32), 0)) & end
    gone = start | end | Board(victim.hi << 24, victim.hi >> 8)
    kinds = jnp.array([KINDS[kind] for kind in "NBR"], jnp.uint8)
    promoted = jnp.where(plane < 64, KINDS["Q"], kinds[jnp.maximum(plane - 64, 0) // 3])
    promotes = pawn & (goal >= 56)
    short, long = king & (goal - origin == 2), king & (goal - origin == -2)
    rook_from = jnp.where(short, np.uint32(0x80), jnp.where(long, np.uint32(0x01), np.uint32(0)))
    rook_to = jnp.where(short, np.uint32(0x20), jnp.where(long, np.uint32(0x08), np.uint32(0)))

    def moved(kind: Board, i: int) -> Board:
        here = jnp.where(promotes, promoted >> i & 1 == 1, (kind & start).some())
        kind = kind & ~gone | where(here, end, constant(0))
        return Board(kind.lo & ~rook_from | (rook_to if i else 0), kind.hi)  # a rook is b and c

    a, b, c = (moved(kind, i) for i, kind in enumerate(pieces[1:]))
    mine = pieces.mine & ~start | end
    mine = Board(mine.lo & ~rook_from | rook_to, mine.hi)
    capture = (pieces.taken & end).some()
    touched = start | end
    lost = jnp.where(touched.lo & 0x90 != 0, K_SIDE, 0) | jnp.where(touched.lo & 0x11 != 0, Q_SIDE, 0)
    lost |= jnp.where(end.hi & np.uint32(1 << 31) != 0, 4 * K_SIDE, 0)
    lost |= jnp.where(end.hi & np.uint32(1 << 24) != 0, 4 * Q_SIDE, 0)
    kept = castling & ~lost.astype(jnp.uint8)
    file = jnp.where(pawn & (goal - origin == 16), origin % 8, NO_FILE).astype(jnp.uint8)
    after, squares = mirrored(pack(Pieces(mine, a, b, c))), jnp.stack([origin, goal])
    return after, kept >> 2 | (kept & 3) << 2, file, ~pawn & ~capture, squares.astype(jnp.uint8)


def dead(board: jax.Array) -> jax.Array:
    """bool[]: neither player can mate by any play: bare kings, one knight, or bishops of one colour of squares only.

    The rule of python-chess (`is_insufficient_material`); positions that are dead because of their pawns are not seen.
    """
    pieces = unpack(board)
    knights, bishops = pieces.knights, pieces.diagonal & ~pieces.b
    heavy = (pieces.pawns | pieces.straight).some()
    one_word = jnp.where(knights.lo == 0, knights.hi, jnp.where(knights.hi == 0, knights.lo, ALL))
    one_knight = (one_word & (one_word - 1) == 0) & ~bishops.some()  # or none
    one_color = ~(bishops & DARK).some() | ~(bishops & ~DARK).some()
    return ~heavy & (one_knight | ~knights.some() & one_color)


KEYS = np.random.default_rng(0).integers(1 << 32, size=(2, 9), dtype=np.uint32)


def fingerprint(board: jax.Array, castling: jax.Array, file: jax.Array, player: jax.Array) -> jax.Array:
    """u32[2], 64 bits that tell positions apart: two sums of well mixed words, each under its own key."""
    rest = castling.astype(jnp.uint32) | file.astype(jnp.uint32) << 8 | player.astype(jnp.uint32) << 16
    x = jnp.concatenate([board.reshape(8), rest[None]])[None] ^ KEYS
    for multiplier in (0x7FEB352D, 0x846CA68B, 0x9E3779B1):
        x = (x ^ x >> 16) * np.uint32(multiplier)
    return (x ^ x >> 15).sum(-1, dtype=jnp.uint32)
