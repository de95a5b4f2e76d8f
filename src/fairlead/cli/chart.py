"""Curves as text: braille dots where the terminal can show them, asterisks elsewhere."""

import math
from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]

# Dots of a braille character by column and row (Unicode 16.0, block U+2800), two wide and four high.
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
BLANK = 0x2800
LABEL_WIDTH = 8


def chart(title: str, points: Sequence[Point], width: int, height: int, braille: bool = True) -> list[str]:
    """A curve of `height` lines of at most `width` characters, title and axes included.

    Points are (step, value) in the order of steps; values that are not finite leave no dot.
    Points that share a column of dots are drawn as their mean.
    """
    columns, rows = max(2, width - LABEL_WIDTH - 1), max(2, height - 2)
    scale_x, scale_y = (2, 4) if braille else (1, 1)
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if not finite:
        return [title, " " * LABEL_WIDTH + " no values yet"]
    means = _means(finite, columns * scale_x)
    low, high = min(means.values()), max(means.values())
    heights = {x: _place(y, low, high, rows * scale_y) for x, y in means.items()}
    body = _draw(_joined(heights), columns, rows, braille)
    labels = [number(high), *[""] * (rows - 2), number(low)]
    first, last = f"{finite[0][0]:,.0f}", f"step {finite[-1][0]:,.0f}"
    axis = f"{'':{LABEL_WIDTH}} {first}{last:>{max(1, columns - len(first))}}"
    return [title[:width], *(f"{label:>{LABEL_WIDTH}} {line}" for label, line in zip(labels, body, strict=True)), axis]


def number(value: float) -> str:
    """A value in at most eight characters."""
    return f"{value:.4g}" if value == 0 or 1e-3 <= abs(value) < 1e6 else f"{value:.1e}"


def _means(points: Sequence[Point], num_columns: int) -> dict[int, float]:
    """The mean value of each column that has points."""
    first, last = points[0][0], points[-1][0]
    shares: dict[int, list[float]] = {}
    for x, y in points:
        shares.setdefault(_place(x, first, last, num_columns), []).append(y)
    return {column: sum(values) / len(values) for column, values in sorted(shares.items())}


def _place(value: float, low: float, high: float, count: int) -> int:
    """Which of `count` equal parts of low to high a value lies in."""
    return min(count - 1, int((value - low) / (high - low) * count)) if high > low else 0


def _joined(heights: dict[int, int]) -> list[tuple[int, int]]:
    """The dots (column, height) of a line through the given ones."""
    dots = list(heights.items())[:1]
    for (x1, y1), (x2, y2) in pairwise(heights.items()):
        num_steps = max(x2 - x1, abs(y2 - y1))
        dots += [
            (round(x1 + (x2 - x1) * i / num_steps), round(y1 + (y2 - y1) * i / num_steps))
            for i in range(1, num_steps + 1)
        ]
    return dots


def _draw(dots: Sequence[tuple[int, int]], columns: int, rows: int, braille: bool) -> list[str]:
    if not braille:
        return ["".join("*" if (x, rows - 1 - y) in dots else " " for x in range(columns)) for y in range(rows)]
    cells = [[0] * columns for _ in range(rows)]
    for x, y in dots:
        from_top = rows * 4 - 1 - y
        cells[from_top // 4][x // 2] |= DOTS[x % 2][from_top % 4]
    return ["".join(chr(BLANK + cell) if cell else " " for cell in line) for line in cells]
