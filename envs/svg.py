"""Small SVG boards that read well on light and dark pages."""

from collections.abc import Iterable

CELL = 48


def grid_board(rows: int, columns: int, shapes: Iterable[str], fill: str = "#e8e3d8") -> str:
    """A rows × columns board with `shapes` (SVG elements in pixel coordinates, see `cell_center`) on it."""
    width, height = columns * CELL, rows * CELL
    lines = "".join(f'<path d="M{x * CELL} 0V{height}"/>' for x in range(1, columns))
    lines += "".join(f'<path d="M0 {y * CELL}H{width}"/>' for y in range(1, rows))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-4 -4 {width + 8} {height + 8}" '
        f'width="{width + 8}" height="{height + 8}">'
        f'<rect width="{width}" height="{height}" rx="6" fill="{fill}" stroke="#6b6457" stroke-width="3"/>'
        f'<g stroke="#a69d8c" stroke-width="1.5">{lines}</g>{"".join(shapes)}</svg>'
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
