"""Positions of Go as text, on the host: vertices, boards, and the chains and kos of a board that was read."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from envs.go_board import label_type, wall

COLUMNS = "abcdefghjklmnopqrst"
PLAYERS = "XO"


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
    """The state's `chains` and `atari` for stones bool[2, n, n]."""
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
