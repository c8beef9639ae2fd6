"""Moves of chess as in PGN (standard algebraic notation, SAN): `Nbd7`, `exd8=Q`, `O-O`; and many games played at once.

Which move `Nd7` means depends on the position, so that a record is read and written along its replay through the env.

Other forms are read too: `Nb8-d7`, `b8d7`, `Pe4`, `e7e8q`, `e8/Q`, `e8(Q)`, `e:d5`, `exd6e.p.`, `0-0`, `♞d7`, dashes of
all lengths, and signs behind a move, such as `Nd7+-`.
"""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs import chess_moves as rules
from envs.chess import Chess, square_name, unpacked
from jaxzero.messages import shortened
from jaxzero.records.game import CHUNK, first_states

PLAIN = str.maketrans(dict(zip("♔♕♖♗♘♙♚♛♜♝♞♟‐‑–—−×", "KQRBNPKQRBNP-----x", strict=True)) | {"½": "1/2"})
SIGN = r"(?:\+/?-{1,2}|-{1,2}/?\+|\+/?=|=/?\+|[=±∓⩲⩱∞□])"  # who stands better; not the null move `--`
MARKS = rf":?[+#†‡]*{SIGN}?"  # not checked
# Piece, file and rank of the origin, goal, promotion.
MOVE = re.compile(rf"([PNBRQK]?)([a-h]?)([1-8]?)[-x:]?([a-h][1-8])(?:[=/]?\(?=?([NBRQnbrq])\)?)?(?:/?e\.?p\.?)?{MARKS}")
CASTLING = re.compile(rf"([Oo0]-[Oo0])(-[Oo0])?{MARKS}")
LETTERS = {bits: kind for kind, bits in rules.KINDS.items()}
SQUARES = [[square_name(square, player) for square in range(64)] for player in range(2)]


class Move(NamedTuple):
    action: int
    kind: str  # a letter of PNBRQK
    origin: str  # square
    goal: str
    captures: bool
    promotion: str  # a letter of NBRQ, or none
    castles: str  # O-O, O-O-O, or none


class SanPosition(NamedTuple):
    label: str  # of the move to come: `12.`, for black `12...`
    moves: dict[int, Move]  # the legal ones by action; none after the end
    checked: bool
    over: bool
    result: tuple[float, ...]  # rewards of the last move


def legal_moves(board: np.ndarray, legal: np.ndarray, player: int) -> dict[int, Move]:
    """board u32[4, 2] in the mover's view, legal bool[A]."""
    _, a, b, c = unpacked(board)
    kinds = a + 2 * b + 4 * c
    names = SQUARES[player]
    found = {}
    for action in np.flatnonzero(legal).tolist():
        origin, plane = divmod(action, rules.PLANES)
        goal = origin + int(rules.OFFSETS[plane])
        kind = LETTERS[int(kinds[origin])]
        promotion = "NBR"[(plane - 64) // 3] if plane >= 64 else "Q" if kind == "P" and goal >= 56 else ""
        captures = bool(kinds[goal]) or (kind == "P" and (goal - origin) % 8 != 0)  # en passant too
        castles = {2: "O-O", -2: "O-O-O"}.get(goal - origin, "") if kind == "K" else ""
        found[action] = Move(action, kind, names[origin], names[goal], captures, promotion, castles)
    return found


def read(text: str, moves: dict[int, Move]) -> Move:
    """The legal move that is meant.

    Raises:
        ValueError: no move, or not exactly one.
    """
    plain, shown = text.translate(PLAIN), shortened(text, 30)
    if castling := CASTLING.fullmatch(plain):
        found = [move for move in moves.values() if move.castles == ("O-O-O" if castling[2] else "O-O")]
    elif match := MOVE.fullmatch(plain):
        kind, file, rank, goal, promotion = match.groups()
        kinds = kind or ("PNBRQK" if file and rank else "P")  # from square to square, as in UCI
        if not kind and not file:
            file = goal[0]  # a pawn that captures names its file
        found = [
            move
            for move in moves.values()
            if (move.goal, move.promotion) == (goal, (promotion or "").upper())
            and move.kind in kinds
            and move.origin[0] == (file or move.origin[0])
            and move.origin[1] == (rank or move.origin[1])
        ]
    else:
        raise ValueError(f"{shown!r} is no move such as e4, Nbd7, exd8=Q, O-O")
    if not found:
        raise ValueError(f"{shown} is not legal here")
    if len(found) > 1:
        raise ValueError(f"{shown} is ambiguous: {' or '.join(write(move, moves) for move in found)}")
    return found[0]


def write(move: Move, moves: dict[int, Move]) -> str:
    """SAN without the mark of check."""
    if move.castles:
        return move.castles
    takes, promotes = "x" * move.captures, f"={move.promotion}" if move.promotion else ""
    if move.kind == "P":
        return (move.origin[0] if takes else "") + takes + move.goal + promotes
    same = (move.kind, move.goal)
    others = [other.origin for other in moves.values() if (other.kind, other.goal) == same and other != move]
    if not others:
        origin = ""
    elif all(other[0] != move.origin[0] for other in others):
        origin = move.origin[0]
    else:
        origin = move.origin[1] if all(other[1] != move.origin[1] for other in others) else move.origin
    return move.kind + origin + takes + move.goal


@partial(jax.jit, static_argnums=0)
def advance(env: Chess, states: Any, actions: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
    """Plays i32[G], nothing where negative -> positions, their legal actions bool[G, A], whether in check bool[G]."""

    def ply(state, action):
        after = env.step(state, jnp.maximum(action, 0))
        state = jax.tree.map(lambda new, old: jnp.where(action >= 0, new, old), after, state)
        checked = rules.legal_moves(state.board, state.castling, state.file).checked
        return state, env.legal_actions(state) & ~state.terminated, checked

    return jax.vmap(ply)(states, actions)


def walk(env: Chess, starts: Sequence[str | None], choose: Callable[[int, SanPosition], int | None]) -> None:
    """Plays games side by side: `choose(index of the game, its position)` gives the next action, which has to be legal,
    until it gives None."""
    for first in range(0, len(starts), CHUNK):
        part = starts[first : first + CHUNK]
        states, actions = first_states(env, part), np.full(CHUNK, -1, np.int32)
        live = list(range(len(part)))
        while live:
            states, legal, checked = advance(env, states, actions)
            seen = states.board, states.player, states.ply, states.terminated, states.rewards, legal, checked
            positions = list(zip(*jax.device_get(seen), strict=True))
            actions = np.full(CHUNK, -1, np.int32)
            for g in live:
                board, player, ply, over, rewards, able, check = positions[g]
                label = f"{ply // 2 + 1}{'...' if player else '.'}"
                moves = legal_moves(board, able, int(player))
                action = choose(first + g, SanPosition(label, moves, bool(check), bool(over), tuple(rewards.tolist())))
                actions[g] = -1 if action is None else action
            live = [g for g in live if actions[g] >= 0]
