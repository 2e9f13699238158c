"""Tables of gaze as files: CSV, TSV (also compressed) and Parquet, as columns of NumPy."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unisal.errors import UserError

TEXT_SUFFIXES = (".csv", ".tsv", ".txt", ".csv.gz", ".tsv.gz", ".txt.gz")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (*TEXT_SUFFIXES, *PARQUET_SUFFIXES)
"""Endings of tables, in lower or upper case."""
SEPARATORS = ("\t", ";", ",", "|")
SPACES = " "
"""Stands for any number of spaces; it is tried last."""
COMMENT = "#"
MISSING = ("", ".", "-", "na", "n/a", "nan", "null", "none", "<na>")
"""What stands for no value, in lower case; EyeLink writes a full stop."""
ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")
UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")
GZIP_MARK = b"\x1f\x8b"

Column = NDArray[Any]
"""The values of a column: text (`object`) or numbers."""


@dataclass(frozen=True)
class Table:
    """The columns of a table."""

    path: Path
    columns: Mapping[str, Column]
    """The columns by their names, all of one length."""
    n_broken: int = 0
    """The number of lines that had another number of cells than the header, and are left out."""

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(next(iter(self.columns.values()), ()))


def is_table(path: Path) -> bool:
    """Return whether the name of a file is that of a table."""
    return path.name.lower().endswith(SUFFIXES) and not path.name.startswith(".")


def read_table(path: Path, separator: str | None = None, encoding: str | None = None) -> Table:
    """Read a table.

    The separator of a text file is found by itself, and so are its encoding and compression. Lines
    that begin with `#` and empty ones are skipped; the first other line holds the names of the
    columns.

    Args:
        path: the file.
        separator: what separates the cells; None to find out.
        encoding: that of the text; None to find out.

    Raises:
        UserError: the file is missing, empty or damaged, two columns have one name, or Parquet is
            not installed.
    """
    if path.name.lower().endswith(PARQUET_SUFFIXES):
        return _read_parquet(path)
    lines = _text(path, encoding).splitlines()
    start = next((i for i, x in enumerate(lines) if x.strip() and not x.startswith(COMMENT)), None)
    if start is None:
        raise UserError(f"{path} is empty; expected a line with the names of the columns")
    lines = lines[start:]
    separator = separator or _find_separator(lines)
    try:
        if separator == SPACES:
            rows = [line.split() for line in lines]
        else:
            rows = list(csv.reader(lines, delimiter=separator))
    except (csv.Error, TypeError) as error:
        raise UserError(f"{path} cannot be read as a table: {error}") from None
    return _from_rows(path, rows)


def to_numbers(values: Column, name: str, path: Path) -> NDArray[np.float64]:
    """Convert a column to numbers.

    A full stop alone and other words for nothing become NaN. If a comma is the decimal separator,
    it is read as such.

    Args:
        values: the column.
        name: its name, for the message.
        path: the table, for the message.

    Raises:
        UserError: a value is not a number; names the first one.
    """
    if values.dtype != object:
        return values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        try:
            return values.astype(np.float64)
        except (TypeError, ValueError):
            pass
    known: dict[Any, float] = {}
    try:
        for value in set(values.tolist()):
            known[value] = _number(value)
    except ValueError as error:
        raise UserError(
            f"{path}: the column {name!r} holds {str(error)!r}, which is not a number; name other "
            "columns in gaze.json"
        ) from None
    return np.array([known[value] for value in values.tolist()], dtype=np.float64)


def to_text(values: Column) -> NDArray[np.object_]:
    """Convert a column to text: whole numbers without a decimal point, nothing as ""."""
    cells = values.tolist()
    known = {cell: _word(cell) for cell in dict.fromkeys(cells)}
    return np.array([known[cell] for cell in cells], dtype=object)


def to_codes(values: Column) -> NDArray[np.int64]:
    """Return a number for each value of a column, the same for equal values.

    All NaN count as equal.
    """
    if values.dtype != object:
        return np.unique(values, return_inverse=True)[1].ravel().astype(np.int64)
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(v, len(numbers)) for v in values.tolist()], dtype=np.int64)


def joint_codes(columns: Sequence[Column]) -> NDArray[np.int64]:
    """Return a number for each row of several columns, the same for equal rows."""
    joint = to_codes(columns[0])
    for column in columns[1:]:
        codes = to_codes(column)
        joint = to_codes(joint * (codes.max(initial=0) + 1) + codes)
    return joint


def _word(value: Any) -> str:
    """Return a cell as text."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if isinstance(value, float):
        value = "" if value != value else int(value) if value.is_integer() else value
    word = "" if value is None else str(value).strip()
    return "" if word.lower() in MISSING else word


def _number(value: Any) -> float:
    """Return a cell as a number; raise a ValueError that holds its text."""
    word = _word(value)
    if not word:
        return np.nan
    try:
        return float(word)
    except ValueError:
        pass
    try:
        return float(word.replace(",", ".", 1))
    except ValueError:
        raise ValueError(word) from None


# ---- text ---------------------------------------------------------------------------------
def _text(path: Path, encoding: str | None) -> str:
    """Read and decode a text file."""
    content = _content(path)
    if encoding is None and content.startswith(UTF_16_MARKS):
        encoding = "utf-16"
    for known in (encoding,) if encoding else ENCODINGS:
        try:
            return content.decode(known)
        except UnicodeDecodeError:
            continue
        except LookupError:
            raise UserError(f"encoding is {encoding!r}, which Python does not know") from None
    raise UserError(f"{path} is not text in the encoding {encoding}")


def _content(path: Path) -> bytes:
    """Read a file, unpacked if it is compressed."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content.startswith(GZIP_MARK) else content
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _find_separator(lines: Sequence[str]) -> str:
    """Return the separator that cuts the first lines into most cells, equally many in each."""
    head = lines[: 1 + next((i for i, x in enumerate(lines[1:], 1) if x.strip()), 0)]

    def fitness(separator: str) -> tuple[bool, bool, int]:
        try:
            lengths = [len(row) for row in csv.reader(head, delimiter=separator)]
        except csv.Error:  # a cell that is too long
            return False, False, 0
        return lengths[0] > 1, len(set(lengths)) == 1, lengths[0]

    best = max(SEPARATORS, key=fitness)  # of ties the first, so decimal commas do no harm
    return best if fitness(best)[0] else SPACES


def _from_rows(path: Path, rows: list[list[str]]) -> Table:
    """Make a table from its rows, the first of which holds the names."""
    names = [name.strip() for name in rows[0]]
    while names and not names[-1]:  # a separator at the end of the line
        names.pop()
    _check_names(path, names)
    width = len(rows[0])
    cells = [row for row in rows[1:] if row]
    whole = [row for row in cells if len(row) == width]
    if len(names) < width and not whole:  # only the header ends with a separator
        whole = [row for row in cells if len(row) == len(names)]
    columns = list(zip(*whole, strict=True)) if whole else [()] * len(names)
    arrays = {n: np.array(c, dtype=object) for n, c in zip(names, columns, strict=False)}
    return Table(path, arrays, len(cells) - len(whole))


def _check_names(path: Path, names: Sequence[str]) -> None:
    if not names:
        raise UserError(f"{path} has no names of columns")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path} has two columns called {twice[0]!r}")


# ---- Parquet ------------------------------------------------------------------------------
def _read_parquet(path: Path) -> Table:
    """Read a Parquet file."""
    try:
        # Not a plain import, since only those who have such files need it: it is an extra.
        arrow, parquet = map(import_module, ("pyarrow", "pyarrow.parquet"))
    except ImportError:
        raise UserError(
            f'{path} is a Parquet file, which needs a package more: pip install "unisal[parquet]"; '
            "or save the table as CSV"
        ) from None
    try:
        content = parquet.read_table(io.BytesIO(path.read_bytes()))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (OSError, arrow.ArrowException) as error:
        raise UserError(f"{path} cannot be read as Parquet: {error}") from None
    _check_names(path, content.column_names)
    columns = {
        name: column.to_numpy(zero_copy_only=False)
        for name, column in zip(content.column_names, content.columns, strict=True)
    }
    return Table(path, {name: _plain(values) for name, values in columns.items()})


def _plain(values: Column) -> Column:
    """Return numbers as they are, times in milliseconds, and everything else as objects."""
    if values.dtype.kind in "mM":
        nanoseconds = values.astype(f"{values.dtype.kind}8[ns]").astype(np.int64)
        return np.where(np.isnat(values), np.nan, nanoseconds / 1e6)
    return values if values.dtype.kind in "biuf" else values.astype(object)
