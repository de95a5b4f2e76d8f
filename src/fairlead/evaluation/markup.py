"""Pieces of a report's HTML, with every text escaped."""

from collections.abc import Iterable, Sequence
from html import escape

Cell = str | int | float


def figure(svg: str, caption: str) -> str:
    """A picture with its caption."""
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def table(heads: Iterable[str], rows: Sequence[Sequence[Cell]]) -> str:
    """A table; nothing without rows."""
    if not rows:
        return ""
    return f"<table>{row('th', heads)}{''.join(row('td', cells) for cells in rows)}</table>"


def row(tag: str, cells: Iterable[Cell]) -> str:
    """A row of `th` or `td`."""
    return "<tr>" + "".join(_cell(tag, cell) for cell in cells) + "</tr>"


def _cell(tag: str, cell: Cell) -> str:
    if isinstance(cell, str):
        return f"<{tag}>{escape(cell)}</{tag}>"
    return f"<{tag} class=n>{cell:.4f}</{tag}>" if isinstance(cell, float) else f"<{tag} class=n>{cell:,}</{tag}>"
