"""Finds the text and label columns by name or by 0-based index."""

import difflib
from collections.abc import Sequence

from fairlead.errors import ConfigError, DataError

COLUMNS_SHOWN = 20


def find_column(name: str, columns: Sequence[str], setting: str, where: str) -> int:
    """Position of column `name` in a header, or of the index that `name` is when no column has that name.

    Raises DataError, which names the nearest column and the columns there are.
    """
    if columns.count(name) > 1:
        positions = " and ".join(str(i) for i, column in enumerate(columns) if column == name)
        raise DataError(
            f"{where}: the header names {name!r} more than once (columns {positions}); set {setting} to an index"
        )
    if name in columns:
        return columns.index(name)
    if name.isdecimal() and int(name) < len(columns):
        return int(name)
    raise no_such_column(name, columns, setting, where)


def no_such_column(name: str, columns: Sequence[str], setting: str, where: str) -> DataError:
    """The error for a column that is not there."""
    near = difflib.get_close_matches(name, columns, n=1, cutoff=0.4)
    nearest = f" (nearest: {near[0]!r})" if near else ""
    shown = ", ".join(repr(column) for column in columns[:COLUMNS_SHOWN])
    more = f" and {len(columns) - COLUMNS_SHOWN} more" if len(columns) > COLUMNS_SHOWN else ""
    return DataError(f"{where}: there is no column {name!r}{nearest}; it has {shown}{more}: set {setting}")


def find_index(name: str, num_columns: int, setting: str, where: str) -> int:
    """The index that `name` is, for a file without a header. Raises ConfigError or DataError."""
    if not name.isdecimal():
        raise ConfigError(
            f"{where}: {setting} = {name!r} names a column, but the file has no header; set {setting} to a "
            "0-based index, or data.header=true"
        )
    if int(name) >= num_columns:
        raise DataError(
            f"{where}: there is no column {name}; its first row has columns 0 to {num_columns - 1}: set {setting}"
        )
    return int(name)
