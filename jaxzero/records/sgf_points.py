"""Points of a Go board as SGF writes them: two letters, column and row from the top left."""

import functools

from jaxzero.records.game import RecordError

LETTERS = "abcdefghijklmnopqrs"


def region(line: int, value: str, size: int) -> list[slice]:
    """The rows of points of `aa`, or of the rectangle `aa:cc`."""
    corners = [action(line, 0, corner, size) for corner in value.split(":")] if value.count(":") < 2 else []
    if not corners or size**2 in corners:
        raise RecordError(line, 0, f"[{value}] is no point of a board of size {size}")
    (top, left), (bottom, right) = divmod(corners[0], size), divmod(corners[-1], size)
    return [slice(row * size + left, row * size + right + 1) for row in range(top, bottom + 1)]


def action(line: int, number: int, point: str, size: int) -> int:
    """`aa` is the top left point, `` (and `tt` up to 19×19) a pass."""
    found = named_points(size).get(point)
    if found is None:
        raise RecordError(line, number, f"[{point}] is no point of a board of size {size}")
    return found


@functools.cache
def named_points(size: int) -> dict[str, int]:
    return {letters(point, size): point for point in range(size**2)} | {"": size**2, "tt": size**2}


def letters(point: int, size: int) -> str:
    return LETTERS[point % size] + LETTERS[point // size]
