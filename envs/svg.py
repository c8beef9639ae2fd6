"""Small SVG boards that read well on light and dark pages."""

import html
from collections.abc import Iterable

CELL = 48


def grid_board(rows: int, columns: int, shapes: Iterable[str], fill: str = "#e8e3d8", lines: str = "#a69d8c") -> str:
    """A rows × columns board with `shapes` (SVG elements in pixel coordinates, see `cell_center`) on it."""
    width, height = columns * CELL, rows * CELL
    grid = "".join(f'<path d="M{x * CELL} 0V{height}"/>' for x in range(1, columns))
    grid += "".join(f'<path d="M0 {y * CELL}H{width}"/>' for y in range(1, rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {width + 8} {height + 8}" '
        f'width="{width + 8}" height="{height + 8}">'
        f'<rect width="{width}" height="{height}" rx="6" fill="{fill}" stroke="#6b6457" stroke-width="3"/>'
        f'<g stroke="{lines}" stroke-width="1.5">{grid}</g>{"".join(shapes)}</svg>'
    )


def line_board(size: int, stars: Iterable[tuple[int, int]], shapes: Iterable[str], fill: str = "#dcb673") -> str:
    """A board whose size × size points are crossings of lines, dots at `stars`, with `shapes` on it."""
    first, last = cell_center(0, 0)[0], cell_center(0, size - 1)[0]
    lines = "".join(
        f'<path d="M{x:g} {first:g}V{last:g}M{first:g} {x:g}H{last:g}"/>'
        for x, _ in map(cell_center, [0] * size, range(size))
    )
    dots = "".join(f'<circle cx="{x:g}" cy="{y:g}" r="4"/>' for x, y in (cell_center(*star) for star in stars))
    width = size * CELL
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {width + 8} {width + 8}" '
        f'width="{width + 8}" height="{width + 8}">'
        f'<rect width="{width}" height="{width}" rx="6" fill="{fill}" stroke="#6b6457" stroke-width="3"/>'
        f'<g stroke="#5d4b2c" stroke-width="1.5" stroke-linecap="square">{lines}</g>'
        f'<g fill="#5d4b2c">{dots}</g>{"".join(shapes)}</svg>'
    )


def cell_center(row: int, column: int) -> tuple[float, float]:
    return (column + 0.5) * CELL, (row + 0.5) * CELL


def disc(row: int, column: int, fill: str, stroke: str = "#33302a") -> str:
    x, y = cell_center(row, column)
    return f'<circle cx="{x:g}" cy="{y:g}" r="{0.4 * CELL:g}" fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>'


def dot(row: int, column: int, fill: str) -> str:
    """A small dot that marks the last move."""
    x, y = cell_center(row, column)
    return f'<circle cx="{x:g}" cy="{y:g}" r="{0.1 * CELL:g}" fill="{fill}"/>'


def shade(row: int, column: int, fill: str) -> str:
    """A shaded square that marks the last move where a dot would not be seen; the piece is drawn over it."""
    inset = 0.06 * CELL
    x, y, side = column * CELL + inset, row * CELL + inset, CELL - 2 * inset
    return f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" rx="4" fill="{fill}"/>'


def frame(row: int, column: int, stroke: str) -> str:
    """The outline of a square, which marks the last move and covers nothing."""
    inset = 0.06 * CELL
    x, y, side = column * CELL + inset, row * CELL + inset, CELL - 2 * inset
    return (
        f'<rect x="{x:g}" y="{y:g}" width="{side:g}" height="{side:g}" rx="4" fill="none" '
        f'stroke="{stroke}" stroke-width="3"/>'
    )


def ring(row: int, column: int, stroke: str) -> str:
    x, y = cell_center(row, column)
    radius = 0.3 * CELL
    return f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="none" stroke="{stroke}" stroke-width="6"/>'


def cross(row: int, column: int, stroke: str) -> str:
    x, y = cell_center(row, column)
    r = 0.28 * CELL
    return (
        f'<path d="M{x - r:g} {y - r:g}l{2 * r:g} {2 * r:g}m0 {-2 * r:g}l{-2 * r:g} {2 * r:g}" '
        f'stroke="{stroke}" stroke-width="6" stroke-linecap="round"/>'
    )


BASE = "M11 41h26v-5q-3 -3 -6 -4h-14q-3 1 -6 4z"  # the base of every piece
PIECES = {  # silhouettes on a square of CELL × CELL
    "P": BASE + "M17 32q4 -5 4 -11h6q0 6 4 11zM16 21h16v-3h-16zM24 18a6 6 0 1 1 .01 0z",
    "R": BASE + "M16 32l1 -14h14l1 14zM13 18v-10h5v4h3.500v-4h5v4h3.500v-4h5v10z",
    "N": BASE + "M15 32q0 -7 8 -12l-7 2l-4 3l-3 -4l6 -9l3 -6l3 3q13 1 13 14q0 6 -2 9z",
    "B": BASE + "M18 32l-1 -3q-3 -4 -2 -8q2 -6 9 -11q7 5 9 11q1 4 -2 8l-1 3zM24 10a3 3 0 1 1 .01 0z",
    "Q": BASE + "M15 32l-6 -18l8 7l1 -12l6 11l6 -11l1 12l8 -7l-6 18z",
    "K": BASE + "M16 32q-8 -6 -6 -12q4 -6 11 -1l1.500 1v-7h-4v-4h4v-4h3v4h4v4h-4v7l1.500 -1q7 -5 11 1q2 6 -6 12z",
}


def chess_board(rows: list[str], marked: set[tuple[int, int]]) -> str:
    """An 8 × 8 board of `rows`, top row first, of letters `PNBRQK` (white), `pnbrqk` (black) and `.`; `marked` squares
    (row, column) in another colour."""
    shapes = []
    for r, row in enumerate(rows):
        for c, mark in enumerate(row):
            dark = (r + c) % 2
            color = ("#ecd66a", "#cfae3c")[dark] if (r, c) in marked else ("#efe4cf", "#b08b62")[dark]
            shapes.append(f'<rect x="{c * CELL}" y="{r * CELL}" width="{CELL}" height="{CELL}" fill="{color}"/>')
            if mark != ".":
                fill, stroke = ("#fffdf6", "#2b2722") if mark.isupper() else ("#2b2722", "#f3ead9")
                shapes.append(
                    f'<path transform="translate({c * CELL} {r * CELL})" d="{PIECES[mark.upper()]}" fill="{fill}" '
                    f'stroke="{stroke}" stroke-width="1.5" stroke-linejoin="round"/>'
                )
    return grid_board(len(rows), len(rows[0]), shapes)


def text_board(text: str) -> str:
    """Lines of text, as they are."""
    lines = text.split("\n")
    width, height = 16 + 10 * max(map(len, lines)), 16 + 20 * len(lines)
    rows = "".join(
        f'<text x="8" y="{24 + 20 * i}" xml:space="preserve">{html.escape(line)}</text>' for i, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
        f'<rect width="{width}" height="{height}" rx="6" fill="#e8e3d8"/>'
        f'<g font-family="monospace" font-size="16" fill="#33302a">{rows}</g></svg>'
    )
