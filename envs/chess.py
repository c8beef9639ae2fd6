"""Chess by the rules of FIDE. Moves are written as in UCI (`e2e4`, `e7e8q`), positions as FEN.

Rule differences: the third occurrence of a position and the 50-move rule (100 plies) end the game at once; nobody has
to claim them. Other draws are stalemate, insufficient material as in python-chess, and a game of `max_plies`. Mate
comes before all draws.

Actions are AlphaZero's 8×8×73 = 4672 in the mover's view (planes: `envs.chess_moves`).

A position repeats another if pieces, mover, castling rights and legal en passant captures are the same. The state
stores 64-bit fingerprints of the positions since the last capture or pawn move, indexed by the 50-move clock.
"""

import dataclasses
import functools
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs import backend
from envs import chess_moves as rules
from envs.bits import ALL, joined, packed, split, with_64_bits
from envs.chess_moves import KINDS, NO_FILE, PLANES
from envs.core import Env, where
from envs.host import parse_action
from envs.svg import chess_board
from envs.text import letters, named_board, numbers

START = "rnbqkbnr/pppppppp/8/8/8/8/PPPPPPPP/RNBQKBNR w KQkq - 0 1"
CLOCK = 100  # plies without capture or pawn move that end a game
FIELDS = 21  # planes of an observation without history
HAS = np.array([[kind >> i & 1 == 1 for kind in KINDS.values()] for i in range(3)])  # [3, 6]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    board: jax.Array  # u32[4, 2]  bitboards in the mover's view: theirs to move, and three bits of the kind of piece
    castling: jax.Array  # u8[]  bits: mover's king side, queen side, the other's king side, queen side
    file: jax.Array  # u8[]  of a pawn that can be captured en passant, or 255
    clock: jax.Array  # u8[]  plies since the last capture or pawn move
    ply: jax.Array  # u16[]
    last: jax.Array  # u8[2]  squares of the last move in the mover's view, a1 = 0; equal if there was none
    seen: jax.Array  # u32[2, 100]  fingerprints of the positions since then, by their clock; 0 elsewhere
    past: jax.Array | None  # u32[history, 4, 2]  earlier boards, latest first, in the mover's view
    player: jax.Array  # i8[]  0 is white
    terminated: jax.Array  # bool[]
    rewards: jax.Array  # f32[2]


def men(board: jax.Array) -> jax.Array:
    """A board u32[4, 2] -> bitboards u64[12]: the six kinds of pieces of the mover, then of the other player."""
    mine, *kinds = joined(board)
    kinds = functools.reduce(jnp.bitwise_and, [jnp.where(has, x, ~x) for has, x in zip(HAS, kinds, strict=True)])
    return jnp.concatenate([kinds & mine, kinds & ~mine])


def repeats(state: State) -> jax.Array:
    """How often the position has occurred before, u8[]."""
    index = jnp.arange(CLOCK, dtype=jnp.uint8)
    here = jnp.where(index == state.clock, state.seen, 0).sum(-1, dtype=jnp.uint32)
    same = (state.seen == here[:, None]).all(0) & (index < state.clock)
    return same.sum(dtype=jnp.uint8)


@with_64_bits
def settled(state: State, max_plies: int) -> State:
    """Adds the position to `seen`, drops an en passant right without a legal move, and ends the game if it is over."""
    moves = rules.legal_moves(state.board, state.castling, state.file)
    file = jnp.where(moves.en_passant, state.file, NO_FILE).astype(jnp.uint8)
    mark = rules.fingerprint(state.board, state.castling, file, state.player)
    index = jnp.arange(CLOCK, dtype=jnp.uint8)[None]
    earlier = jnp.where(index < state.clock, state.seen, 0)
    state = dataclasses.replace(state, file=file, seen=jnp.where(index == state.clock, mark[:, None], earlier))
    stuck = ~(moves.origins != 0).any()
    drawn = (repeats(state) >= 2) | (state.clock >= CLOCK) | rules.dead(state.board) | (state.ply >= max_plies)
    mate = stuck & moves.checked
    winner = jnp.where(jnp.arange(2, dtype=jnp.int8) == state.player, -1.0, 1.0).astype(jnp.float32)
    return dataclasses.replace(state, terminated=stuck | drawn, rewards=jnp.where(mate, winner, 0.0))


@with_64_bits
def planes(state: State) -> jax.Array:
    """The binary planes of an observation, u8[rank, plane] with a bit for each file."""
    flags = [repeats(state) > 0, *(state.castling >> i & 1 == 1 for i in range(4)), state.player == 1]
    full = jnp.where(jnp.stack([*flags, *[jnp.bool(True)] * 2]), ALL, 0)
    past = [] if state.past is None else [men(board) for board in state.past]
    passed = rules.behind(state.file)[None]
    return rules.by_rank(backend.materialized(jnp.concatenate([men(state.board), passed, full, *past])))


@jax.jit
def find(board: jax.Array) -> rules.Moves:
    """The moves of a board without castling and en passant."""
    return rules.legal_moves(board, jnp.uint8(0), jnp.uint8(NO_FILE))


settle = jax.jit(settled, static_argnums=1)


def unpacked(board: np.ndarray) -> np.ndarray:
    """u32[4, 2] -> u8[4, 64], the bits of each square."""
    words = np.ascontiguousarray(board, "<u4").view(np.uint8).reshape(4, 8)
    return np.unpackbits(words, axis=1, bitorder="little")


def fen_rows(board: np.ndarray, player: int) -> str:
    """The first field of a FEN of one board u32[4, 2] in the view of `player`."""
    letters = dict(zip(KINDS.values(), KINDS, strict=True)) | {0: "."}
    marks = [
        letters[a + 2 * b + 4 * c].upper() if bool(mine) != bool(player) else letters[a + 2 * b + 4 * c].lower()
        for mine, a, b, c in unpacked(board).T.tolist()
    ]
    rows = ["".join(marks[i : i + 8]) for i in range(0, 64, 8)]
    rows = rows if player else rows[::-1]
    return "/".join(re.sub(r"\.+", lambda run: str(len(run[0])), row) for row in rows)


def board_of(rows: str, player: int) -> np.ndarray:
    """The inverse: u32[4, 2]."""
    marks = [re.sub(r"[1-8]", lambda digit: "." * int(digit[0]), row) for row in rows.split("/")]
    if len(marks) != 8 or any(len(row) != 8 for row in marks) or set("".join(marks).upper()) - set("PNBRQK."):
        raise ValueError(f"chess: {rows!r} is not 8 rows of 8 squares, written with PNBRQKpnbrqk and digits")
    text = "".join(marks if player else marks[::-1])
    kinds = np.array([KINDS.get(mark.upper(), 0) for mark in text])
    mine = np.array([mark.islower() if player else mark.isupper() for mark in text])
    return split(packed(np.stack([mine, *(kinds >> i & 1 == 1 for i in range(3))])))


def check_men(rows: str) -> None:
    for side, men in (("white", rows), ("black", rows.swapcase())):
        count = {kind: men.count(kind) for kind in KINDS}
        if count["K"] != 1:
            raise ValueError(f"chess: {rows!r} has {count['K']} {side} kings")
        promoted = max(0, count["Q"] - 1) + sum(max(0, count[kind] - 2) for kind in "RBN")
        if count["P"] + promoted > 8:
            raise ValueError(f"chess: {rows!r} has more {side} pieces than a game can have")
    if set("Pp") & set(rows.split("/")[0] + rows.split("/")[-1]):
        raise ValueError(f"chess: {rows!r} has a pawn on the first or last rank")


def square_name(square: int, player: int) -> str:
    square = square ^ 56 if player else square
    return "abcdefgh"[square % 8] + str(square // 8 + 1)


def square_of(name: str, player: int) -> int:
    if not re.fullmatch("[a-h][1-8]", name):
        raise ValueError(f"chess: {name!r} is not a square")
    square = "abcdefgh".index(name[0]) + 8 * (int(name[1]) - 1)
    return square ^ 56 if player else square


@dataclasses.dataclass(frozen=True)
class Chess(Env):
    """Options: `max_plies`, after which a game is drawn; `history`, how many earlier boards are observed."""

    max_plies: int = 512
    history: int = 0

    name = "chess"
    marks = ("White (capital letters)", "Black (small letters)")
    num_actions = 64 * PLANES
    max_legal = 218

    def __post_init__(self):
        if not 1 <= self.max_plies < 1 << 16:
            raise ValueError(f"chess: max_plies is {self.max_plies}, not 1 to 65535")
        if not 0 <= self.history <= 100:
            raise ValueError(f"chess: history is {self.history}, not 0 to 100")

    @property
    def observation_shape(self) -> tuple[int, ...]:
        return 8, 8, FIELDS + 12 * self.history

    def init(self, key: jax.Array) -> State:
        board = board_of(START.split()[0], 0)
        seen = jnp.zeros((2, CLOCK), jnp.uint32)
        castling, file, player = jnp.uint8(15), jnp.uint8(NO_FILE), jnp.int8(0)
        return State(
            board=jnp.asarray(board),
            castling=castling,
            file=file,
            clock=jnp.uint8(0),
            ply=jnp.uint16(0),
            last=jnp.zeros(2, jnp.uint8),
            seen=seen.at[:, 0].set(rules.fingerprint(jnp.asarray(board), castling, file, player)),
            past=jnp.zeros((self.history, 4, 2), jnp.uint32) if self.history else None,
            player=player,
            terminated=jnp.bool(False),
            rewards=jnp.zeros(2, jnp.float32),
        )

    def step(self, state: State, action: jax.Array) -> State:
        board, castling, file, quiet, last = rules.after_move(state.board, state.castling, state.file, action)
        past = state.past
        if past is not None:
            past = rules.mirrored(jnp.concatenate([state.board[None], past])[: self.history])
        after = dataclasses.replace(
            state,
            board=board,
            castling=castling,
            file=file,
            clock=jnp.where(quiet, state.clock + 1, 0).astype(jnp.uint8),
            ply=state.ply + jnp.uint16(1),
            last=last ^ jnp.uint8(56),
            past=past,
            player=1 - state.player,
        )
        ended = dataclasses.replace(state, rewards=jnp.zeros(2, jnp.float32))
        return where(state.terminated, ended, settled(after, self.max_plies))

    @with_64_bits
    def legal_actions(self, state: State) -> jax.Array:
        origins = rules.legal_moves(state.board, state.castling, state.file).origins
        origins = jnp.where(state.terminated, ALL, origins)
        return rules.spread(origins)

    def observe(self, state: State) -> jax.Array:
        """Planes f32[rank, file, plane], in the mover's view, their first rank first (as squares are numbered):

        0–11   pawns, knights, bishops, rooks, queens, king of the mover, then of the other
        12     the pawn's square behind it where it can be captured en passant
        13     the position has occurred before (once: a third time ends the game)
        14–17  castling rights: the mover's king side and queen side, the other's
        18     the mover is black
        19, 20 the 50-move clock / 100, the ply / max_plies
        then 12 planes for each earlier board, the latest first (0 before the first)
        """
        plane = np.arange(self.observation_shape[-1])
        scale = jnp.where(plane == 19, state.clock / CLOCK, jnp.where(plane == 20, state.ply / self.max_plies, 1.0))
        return jnp.where(planes(state)[:, None] & rules.FILES[None] != 0, scale[None, None], 0.0)

    def action_to_str(self, state: State, action: int) -> str:
        player, origin, plane = int(state.player), action // PLANES, action % PLANES
        goal = origin + int(rules.OFFSETS[plane])
        kind = "nbr"[(plane - 64) // 3] if plane >= 64 else ""
        _, *kind_bits = unpacked(np.asarray(state.board))[:, origin]
        if plane < 64 and goal >= 56 and kind_bits == [1, 0, 0]:
            kind = "q"
        return square_name(origin, player) + square_name(goal, player) + kind

    def action_from_str(self, state: State, text: str) -> int:
        return parse_action(self, state, text)

    def fen(self, state: State) -> str:
        """The position as FEN; the en passant square is given where such a capture is legal."""
        player, ply = int(state.player), int(state.ply)
        castling = int(state.castling)
        castling = castling >> 2 | (castling & 3) << 2 if player else castling
        rights = "".join(letter for i, letter in enumerate("KQkq") if castling >> i & 1) or "-"
        passed = "-" if int(state.file) == NO_FILE else square_name(40 + int(state.file), player)
        rows = fen_rows(np.asarray(state.board), player)
        return f"{rows} {'wb'[player]} {rights} {passed} {int(state.clock)} {ply // 2 + 1}"

    def to_text(self, state: State) -> str:
        """FEN and, where there is such, what FEN lacks: `last:` the last move, `seen:` fingerprints of the earlier
        positions since the last capture or pawn move (16 hexadecimal digits each), `past:` the boards of `history`."""
        player, clock = int(state.player), int(state.clock)
        words = [self.fen(state)]
        if state.last[0] != state.last[1]:
            words.append("last:" + "".join(square_name(int(square), player) for square in state.last))
        if (seen := np.asarray(state.seen)[:, :clock]).any():
            words.append("seen:" + "".join(f"{low:08x}{high:08x}" for low, high in seen.T.tolist()))
        if state.past is not None:
            words.append("past:" + ",".join(fen_rows(board, player) for board in np.asarray(state.past)))
        return " ".join(words)

    def from_text(self, text: str) -> State:
        """Reads FEN, with or without the further fields of `to_text`; without `seen:` no position has occurred yet.
        A game that starts so counts its plies from the move number."""
        parts = text.split()
        if len(parts) < 6:
            raise ValueError(f"chess: {text!r} is no FEN of 6 fields")
        rows, mover, rights, passed, clock, number = parts[:6]
        if mover not in ("w", "b"):
            raise ValueError(f"chess: the player to move is 'w' or 'b', not {mover!r}")
        player = "wb".index(mover)
        if not (clock.isdecimal() and int(clock) <= CLOCK):
            raise ValueError(f"chess: the 50-move clock is 0 to {CLOCK}, not {clock!r}")
        ply = 2 * int(number) - 2 + player if number.isdecimal() else -1
        if not 0 <= ply < 1 << 16:
            raise ValueError(f"chess: the move number is 1 to 32768, not {number!r}")
        board = board_of(rows, player)
        check_men(rows)
        if not re.fullmatch("K?Q?k?q?|-", rights):
            raise ValueError(f"chess: castling rights are some of KQkq or -, not {rights!r}")
        state = State(
            board=jnp.asarray(board),
            castling=jnp.uint8(castling_bits(rows, rights, player)),
            file=jnp.uint8(passed_file(board, passed, player)),
            clock=jnp.uint8(int(clock)),
            ply=jnp.uint16(ply),
            player=jnp.int8(player),
            terminated=jnp.bool(False),
            rewards=jnp.zeros(2, jnp.float32),
            **self.extras(parts[6:], int(clock), player),
        )
        other = np.asarray(rules.mirrored(state.board))
        if bool(find(other).checked):
            raise ValueError(f"chess: in {text!r} the player who has just moved is in check")
        return settle(state, self.max_plies)

    def extras(self, parts: list[str], clock: int, player: int) -> dict[str, Any]:
        """The leaves that FEN lacks, from the fields after it."""
        given = dict(part.split(":", 1) for part in parts if ":" in part)
        if len(given) < len(parts) or set(given) - {"last", "seen"} - ({"past"} if self.history else set()):
            raise ValueError(f"chess: {' '.join(parts)!r} after the FEN is not understood")
        last = given.get("last", "a1a1")
        seen = given.get("seen", "")
        if not re.fullmatch(f"([0-9a-f]{{{16 * clock}}})?", seen):
            raise ValueError(f"chess: 'seen:' has 16 hexadecimal digits for each of the {clock} plies of the clock")
        marks = np.zeros((2, CLOCK), np.uint32)
        for i in range(len(seen) // 16):
            marks[:, i] = int(seen[16 * i : 16 * i + 8], 16), int(seen[16 * i + 8 : 16 * i + 16], 16)
        squares = [square_of(last[:2], player), square_of(last[2:], player)]
        past = given["past"].split(",") if "past" in given else ["8/8/8/8/8/8/8/8"] * self.history
        if len(past) != self.history:
            raise ValueError(f"chess: 'past:' has {len(past)} boards, not {self.history}")
        boards = jnp.asarray(np.stack([board_of(rows, player) for rows in past])) if past else None
        if last[:2] == last[2:]:
            squares = [0, 0]
        return {"last": jnp.array(squares, jnp.uint8), "seen": jnp.asarray(marks), "past": boards}

    def to_board(self, state: State) -> str:
        """White below, in capital letters."""
        rows = re.sub(r"\d", lambda digit: "." * int(digit[0]), fen_rows(np.asarray(state.board), int(state.player)))
        return named_board(rows.split("/"), numbers(8, 1), letters(8))

    def to_svg(self, state: State, before: State | None = None) -> str:
        """White below, the last move marked."""
        player = int(state.player)
        rows = re.sub(r"\d", lambda digit: "." * int(digit[0]), fen_rows(np.asarray(state.board), player)).split("/")
        last = [int(square) ^ 56 if player else int(square) for square in state.last]
        marked = {(7 - square // 8, square % 8) for square in last} if last[0] != last[1] else set()
        return chess_board(rows, marked)


def castling_bits(rows: str, rights: str, player: int) -> int:
    """u8 in the mover's view; king and rook must stand where the game begins."""
    lines = [re.sub(r"\d", lambda digit: "." * int(digit[0]), row) for row in rows.split("/")]
    bits = 0
    for right in rights.strip("-"):
        line, king, rook = (lines[7], "K", "R") if right.isupper() else (lines[0], "k", "r")
        if line[4] != king or line[7 if right in "Kk" else 0] != rook:
            raise ValueError(f"chess: {right!r} in the castling rights, but king or rook of {rows!r} has moved")
        bits |= 1 << "KQkq".index(right)
    return bits >> 2 | (bits & 3) << 2 if player else bits


def passed_file(board: np.ndarray, passed: str, player: int) -> int:
    """The file of an en passant square, which must lie behind a pawn that has just gone two squares."""
    if passed == "-":
        return NO_FILE
    square = square_of(passed, player)
    mine, a, b, c = (int(lo) | int(hi) << 32 for lo, hi in board)
    pawn = a & ~b & ~c & ~mine
    if square // 8 != 5 or not pawn >> square - 8 & 1 or (a | b | c) >> square & 1 or (a | b | c) >> square + 8 & 1:
        raise ValueError(f"chess: no pawn has just passed the en passant square {passed!r}")
    return square % 8
