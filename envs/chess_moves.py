"""Rules of chess on bitboards: all legal moves of a position at once, and the position after a move.

A board is a set of bits (`envs.bits`), 8·rank + file, so a1 is bit 0. Everything is as the player to move sees it:
their pawns go up the board, and after a move the ranks are mirrored (files stay).

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
from envs.bits import ALL, bit, joined, packed, split, with_64_bits

PLANES = 73
NO_FILE = 255  # en passant: none
K_SIDE, Q_SIDE = 1, 2  # castling rights of the mover; those of the other are four times these


def rotate(board: Any, amount: Any) -> jax.Array:
    """The board rotated up by `amount` u64 squares (1 to 63, one for each lane); bits wrap around its end."""
    return board << amount | board >> 64 - amount


N, NE, E, SE, S, SW, W, NW = range(8)
LANE = np.arange(8)
RAYS = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]  # files, ranks
JUMPS = [(1, 2), (2, 1), (2, -1), (1, -2), (-1, -2), (-2, -1), (-2, 1), (-1, 2)]
UP = [(-1, 1), (0, 1), (1, 1)]
WALKS = [[(k * x, k * y) for x, y in RAYS] for k in range(1, 8)]  # by distance and direction


class Leap(NamedTuple):
    """Steps, one for each lane: the distance in squares modulo 64, and the squares where a step on the board can arrive
    and start."""

    up: np.ndarray  # u64[…]
    down: np.ndarray  # u64[…]  the same backwards
    arrive: np.ndarray  # u64[…]
    start: np.ndarray  # u64[…]

    def forth(self, board: Any) -> jax.Array:
        """The squares that the pieces on `board` step to."""
        return rotate(board, self.up) & self.arrive

    def back(self, board: Any) -> jax.Array:
        """The squares from which a step arrives on `board`."""
        return rotate(board, self.down) & self.start


def leap(steps) -> Leap:
    """The steps by (files, ranks) of each lane, […, 2]."""
    files, ranks = np.moveaxis(np.array(steps)[..., None], -2, 0)  # [..., 1]
    file, rank = np.arange(64) % 8, np.arange(64) // 8

    def inside(files, ranks):
        to_file, to_rank = file + files, rank + ranks
        return packed((to_file >= 0) & (to_file < 8) & (to_rank >= 0) & (to_rank < 8))

    offset = (8 * ranks + files)[..., 0]
    up, down = (offset % 64).astype(np.uint64), (-offset % 64).astype(np.uint64)
    return Leap(up, down, inside(-files, -ranks), inside(files, ranks))


WALK, JUMP = leap(WALKS), leap(JUMPS)  # lanes [7, 8], [8]
SLIDE, DOUBLE = leap(WALKS[0]), leap(WALKS[1])
# Row 0: from the king; rows 1, 2: the same after an en passant capture to NE, NW; row 3: from the sliders of the
# other player, in the opposite direction, so that lane d of row 3 looks at the king along the ray of lane d of row 0.
LOOK = leap(np.stack([WALKS] * 3 + [np.roll(WALKS, 4, axis=1)], 1))  # lanes [7, 4, 8]
ROW = np.arange(4)[:, None]
DIAGONAL = LANE % 2 == 1
OFFSETS = np.array([8 * up + right for right, up in [*chain(*WALKS), *JUMPS, *UP * 3]])  # i64[73]


def lane_mask(*lanes: int) -> np.ndarray:
    """All squares in these lanes, none in the others."""
    return np.where(np.isin(LANE, lanes), ALL, np.uint64(0))


CAPTURES, BELOW = lane_mask(NE, NW), lane_mask(SE, SW)
SECOND, SEVENTH = np.uint64(0xFF << 8), np.uint64(0xFF << 48)  # ranks
DARK = np.uint64(0xAA55AA55AA55AA55)


def lane_or(board: jax.Array) -> jax.Array:
    return jnp.bitwise_or.reduce(board, -1)  # pyright: ignore[reportCallIssue]


def lane_and(board: jax.Array) -> jax.Array:
    return jnp.bitwise_and.reduce(board, -1)  # pyright: ignore[reportCallIssue]


class Pieces(NamedTuple):
    """A position: the mover's pieces, and the kind on each square as three bits, spread over three boards."""

    mine: jax.Array
    a: jax.Array  # pawn, bishop, queen
    b: jax.Array  # knight, rook, queen
    c: jax.Array  # king, bishop, rook, queen

    @property
    def taken(self) -> jax.Array:
        return self.a | self.b | self.c

    @property
    def pawns(self) -> jax.Array:
        return self.a & ~self.b & ~self.c

    @property
    def knights(self) -> jax.Array:
        return self.b & ~self.a & ~self.c

    @property
    def kings(self) -> jax.Array:
        return self.c & ~self.a & ~self.b

    @property
    def diagonal(self) -> jax.Array:
        """Bishops and queens."""
        return self.a & self.c

    @property
    def straight(self) -> jax.Array:
        """Rooks and queens."""
        return self.b & self.c


def unpack(board: jax.Array) -> Pieces:
    """u32[4, 2] -> boards u64[]."""
    return Pieces(*joined(board))


def mirrored(boards: jax.Array) -> jax.Array:
    """The board u32[…, 4, 2] as the other player sees it: ranks (bytes of 64 bits) reversed, colours exchanged."""
    x = boards[..., ::-1]
    x = x << 16 | x >> 16
    x = (x & np.uint32(0x00FF00FF)) << 8 | (x >> 8) & np.uint32(0x00FF00FF)
    mine, kinds = x[..., :1, :], x[..., 1:, :]
    a, b, c = jnp.split(kinds, 3, -2)
    return jnp.concatenate([(a | b | c) & ~mine, kinds], -2)


KINDS = {"P": 0b001, "N": 0b010, "B": 0b101, "R": 0b110, "Q": 0b111, "K": 0b100}  # bits c b a


class Moves(NamedTuple):
    origins: jax.Array  # u64[73]  where a move of each plane may start
    checked: jax.Array  # bool[]  the mover's king is attacked
    en_passant: jax.Array  # bool[]  such a capture is legal


@backend.compiled_once
@with_64_bits
def legal_moves(board: jax.Array, castling: jax.Array, file: jax.Array) -> Moves:
    """`board` u32[4, 2]; `castling` u8[]; `file` u8[] of a pawn that just went two squares, or NO_FILE."""
    pieces = unpack(board)
    mine, taken = pieces.mine, pieces.taken
    theirs, empty = taken & ~mine, ~taken
    king, pawns = pieces.kings & mine, pieces.pawns & mine
    sliders = jnp.where(DIAGONAL, pieces.diagonal, pieces.straight)  # [D], of both players
    hostile = sliders & theirs

    passed = behind(file)
    around = SLIDE.forth(passed)
    victim = around[S]
    right, left = around[SW] & pawns, around[SE] & pawns  # they capture to NE, NW

    captured = jnp.where(ROW == 1, right, left) ^ victim ^ passed
    through = jnp.where(ROW % 3 == 0, empty, empty ^ captured)
    through = jnp.where(ROW == 3, through | king, through)  # a king does not hide the squares behind it
    begin = jnp.where(ROW == 3, hostile[None], king)

    def look(seen: jax.Array, step: Leap) -> tuple[jax.Array, None]:  # arrives by this step, or on from farther away
        return step.forth(begin) | rotate(through, step.up) & seen, None

    seen, _ = jax.lax.scan(look, jnp.zeros_like(begin), LOOK, reverse=True, unroll=backend.accelerated() or 1)
    ray = seen[0]  # [D] from the king up to the first piece
    pinned = ray & mine & seen[3]
    near, jumps = SLIDE.forth(king), JUMP.forth(king)
    by_slider, by_knight = ray & hostile, jumps & pieces.knights & theirs
    by_pawn = near & pieces.pawns & theirs & CAPTURES
    cover = jnp.where(by_slider != 0, ray, ALL) & jnp.where(by_knight != 0, by_knight, ALL)
    cover = lane_and(cover & jnp.where(by_pawn != 0, by_pawn, ALL))  # stops every check; empty in double check
    hits = seen[1:3] & hostile[None]
    others = by_knight | by_pawn & ~victim
    stopped = (hits | others[None] != 0).any(-1)  # bool[2]
    attacked = lane_or(
        seen[3] | JUMP.forth(pieces.knights & theirs) | SLIDE.forth(theirs & (pieces.kings | pieces.pawns & BELOW))
    )
    any_pin = lane_or(pinned)
    free = ~any_pin | pinned | jnp.roll(pinned, 4)  # [D] may move along this line

    goal = cover & ~mine
    ahead = pawns & free & SLIDE.back(cover & (empty & lane_mask(N) | theirs & CAPTURES))
    passing = jnp.where(stopped[0], 0, right & lane_mask(NE)) | jnp.where(stopped[1], 0, left & lane_mask(NW))
    first = king & SLIDE.back(~mine & ~attacked) | ahead | passing
    double = pawns & free & SECOND & SLIDE.back(empty) & DOUBLE.back(empty & cover) & lane_mask(N)
    second = double | castle(castling, taken, attacked)
    hops = pieces.knights & mine & ~any_pin & JUMP.back(goal)
    top = ahead & SEVENTH

    low = [top[NW:], top[: NE + 1]] * 3
    origins = jnp.concatenate([first, second, jnp.zeros(40, jnp.uint64), hops, *low])

    def slide(carry: tuple[jax.Array, jax.Array], step: tuple[jax.Array, Leap]):
        """`path`: starting squares from which all squares before this step are empty."""
        path, origins = carry
        k, leap = step
        here = path & leap.back(goal) | jax.lax.dynamic_slice(origins, (8 * k,), (8,))
        origins = jax.lax.dynamic_update_slice(origins, here, (8 * k,))
        return (path & rotate(empty, leap.down), origins), None

    steps: Any = np.arange(7, dtype=np.int32), WALK
    (_, origins), _ = jax.lax.scan(slide, (sliders & mine & free, origins), steps, unroll=backend.accelerated() or 1)
    return Moves(origins, cover != ALL, (passing != 0).any())


def behind(file: jax.Array) -> jax.Array:
    """u64[], the square that a pawn of the other player has just passed on this file; none for NO_FILE."""
    return bit(file.astype(jnp.uint64) + 40)


def castle(castling: jax.Array, taken: jax.Array, attacked: jax.Array) -> jax.Array:
    """[D], where a king can castle in that direction."""
    king = (castling & K_SIDE != 0) & (taken & 0x60 == 0) & (attacked & 0x70 == 0)
    queen = (castling & Q_SIDE != 0) & (taken & 0x0E == 0) & (attacked & 0x1C == 0)
    return jnp.where(king & (LANE == E) | queen & (LANE == W), np.uint64(0x10), 0)


FILES = (1 << np.arange(8)).astype(np.uint8)[:, None]  # [8, 1]


def by_rank(boards: jax.Array) -> jax.Array:
    """Bitboards u64[K] -> ranks u8[8, K] with a bit for each file."""
    return jax.lax.bitcast_convert_type(boards, jnp.uint8).T


def spread(boards: jax.Array) -> jax.Array:
    """Bitboards u64[K] -> bool[8·8·K], in the order rank, file, K."""
    return backend.materialized(by_rank(boards)[:, None] & FILES[None] != 0).reshape(-1)


@with_64_bits
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
    pawn, king = pieces.pawns & start != 0, pieces.kings & start != 0
    passed = jnp.where(pawn, behind(file) & end, 0)
    gone = start | end | passed >> 8
    kinds = jnp.array([KINDS[kind] for kind in "NBR"], jnp.uint8)
    promoted = jnp.where(plane < 64, KINDS["Q"], kinds[jnp.maximum(plane - 64, 0) // 3])
    promotes = pawn & (goal >= 56)
    short, long = king & (goal - origin == 2), king & (goal - origin == -2)
    rook_from = jnp.where(short, np.uint64(0x80), jnp.where(long, np.uint64(0x01), 0))
    rook_to = jnp.where(short, np.uint64(0x20), jnp.where(long, np.uint64(0x08), 0))

    def moved(kind: jax.Array, i: int) -> jax.Array:
        here = jnp.where(promotes, promoted >> i & 1 == 1, kind & start != 0)
        kind = kind & ~(gone | rook_from) | jnp.where(here, end, 0)
        return kind | rook_to if i else kind  # a rook is b and c

    a, b, c = (moved(kind, i) for i, kind in enumerate(pieces[1:]))
    mine = pieces.mine & ~(start | rook_from) | end | rook_to
    capture = pieces.taken & end != 0
    touched = start | end
    lost = jnp.where(touched & 0x90 != 0, K_SIDE, 0) | jnp.where(touched & 0x11 != 0, Q_SIDE, 0)
    lost |= jnp.where(goal == 63, 4 * K_SIDE, 0) | jnp.where(goal == 56, 4 * Q_SIDE, 0)
    kept = castling & ~lost.astype(jnp.uint8)
    file = jnp.where(pawn & (goal - origin == 16), origin % 8, NO_FILE).astype(jnp.uint8)
    after, squares = mirrored(split(jnp.stack([mine, a, b, c]))), jnp.stack([origin, goal])
    return after, kept >> 2 | (kept & 3) << 2, file, ~pawn & ~capture, squares.astype(jnp.uint8)


@with_64_bits
def dead(board: jax.Array) -> jax.Array:
    """bool[]: neither player can mate by any play: bare kings, one knight, or bishops of one colour of squares only.

    The rule of python-chess (`is_insufficient_material`); positions that are dead because of their pawns are not seen.
    """
    pieces = unpack(board)
    knights, bishops = pieces.knights, pieces.diagonal & ~pieces.b
    heavy = (pieces.pawns | pieces.straight) != 0
    one_knight = (knights & (knights - 1) == 0) & (bishops == 0)  # or none
    one_color = (bishops & DARK == 0) | (bishops & ~DARK == 0)
    return ~heavy & (one_knight | (knights == 0) & one_color)


KEYS = np.random.default_rng(0).integers(1 << 32, size=(2, 9), dtype=np.uint32)


def fingerprint(board: jax.Array, castling: jax.Array, file: jax.Array, player: jax.Array) -> jax.Array:
    """A 64-bit hash u32[2] of a position: two sums of mixed words, each with its own keys."""
    rest = castling.astype(jnp.uint32) | file.astype(jnp.uint32) << 8 | player.astype(jnp.uint32) << 16
    x = jnp.concatenate([board.reshape(8), rest[None]])[None] ^ KEYS
    for multiplier in (0x7FEB352D, 0x846CA68B, 0x9E3779B1):
        x = (x ^ x >> 16) * np.uint32(multiplier)
    return (x ^ x >> 15).sum(-1, dtype=jnp.uint32)
