"""Read the text files that users bring with their images: CSVs, and lists of one name per line.

Place in the flow: called by datasets (``pairs``, ``align``, ``pad_layouts``, ``lfw``). Imports ``files``, ``limits``
and ``errors``.

Spreadsheets write CSVs in many ways. A byte-order mark, UTF-16, tabs or semicolons, upper-case headers, blank lines and
comments before the header are accepted. An encoding that cannot be known (Latin-1 and its relatives) is reported, not
guessed: a wrongly guessed letter names another file.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faithface.errors import UsageError
from faithface.files import read_file
from faithface.limits import MAX_FIELD_CHARACTERS, MAX_TABLE_BYTES, MAX_TABLE_ROWS

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
SEPARATORS = ",;\t"


@dataclass(frozen=True)
class Table:
    """A CSV: its columns, in lower case, and its rows.

    Attributes:
        rows: (line number, value by column) each; values are stripped, missing ones "".
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_text(path: Path, what: str, encoding: str | None = None) -> str:
    """Return a text file's content, decoded by its byte-order mark, else as ``encoding``, else as UTF-8.

    Raises:
        UsageError: it cannot be read, is too large, or is in another encoding.
    """
    data = read_file(path, MAX_TABLE_BYTES, what)
    found = next((name for mark, name in _MARKS if data.startswith(mark)), encoding or "utf-8")
    try:
        text = data.decode(found)
    except LookupError:
        raise UsageError(f"{path}: no encoding is named {found!a}; such as: utf-8, latin-1, cp1252, gb18030") from None
    except (UnicodeDecodeError, UnicodeError) as error:
        at = getattr(error, "start", 0)
        line = data.count(b"\n", 0, at) + 1
        raise UsageError(
            f"{path}, line {line}: byte {data[at : at + 1].hex()} is not {found.upper()}; save the file as UTF-8"
            + ("" if encoding else ", or name its encoding where the dataset takes encoding=latin-1")
        ) from None
    if "\0" in text:
        raise UsageError(f"{path} is not a text file, or UTF-16 without its mark; save it as UTF-8")
    return text


def read_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """Return (line number, text) of the lines that are not blank, stripped."""
    lines = _lines(read_text(path, what))
    if len(lines) > MAX_TABLE_ROWS:
        raise too_long(path)
    return [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]


def read_table(path: Path, required: Sequence[str], what: str, encoding: str | None = None) -> Table:
    """Read a CSV with a header.

    Args:
        path: the file.
        required: columns that must be present.
        what: what it is, such as "pairs CSV".
        encoding: of a file without a byte-order mark; None: UTF-8.

    Raises:
        UsageError: it cannot be read, a column is missing or named twice, or it is beyond the limits on rows and
        fields.
    """
    lines = _lines(read_text(path, what, encoding))
    start = next((i for i, line in enumerate(lines) if line.strip() and not line.startswith("#")), 0)
    separator = max(SEPARATORS, key=lines[start].count)
    reader = csv.reader(lines[start:], delimiter=separator, skipinitialspace=True)
    expected = ",".join(required)
    try:
        columns = tuple(name.strip().lower() for name in next(reader, []))
        for column in required:
            if column not in columns:
                got = ",".join(columns)[:200] or "an empty file"
                raise UsageError(
                    f"{path}: column '{column}' is missing; the first line must name the columns, {expected}; got {got}"
                )
            if columns.count(column) > 1:
                raise UsageError(f"{path}: column '{column}' is given twice; expected {expected}")
        rows: list[tuple[int, dict[str, str]]] = []
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            number = start + reader.line_num
            if len(rows) >= MAX_TABLE_ROWS:
                raise too_long(path)
            if max(map(len, values)) > MAX_FIELD_CHARACTERS:
                raise UsageError(f"{path}, line {number}: a field is longer than {MAX_FIELD_CHARACTERS} characters")
            if len(values) > len(columns) and any(v.strip() for v in values[len(columns) :]):
                raise UsageError(
                    f"{path}, line {number}: {len(values)} fields for {len(columns)} columns; put a value that holds "
                    f"{separator!a} in double quotes"
                )
            filled = [value.strip() for value in values] + [""] * (len(columns) - len(values))
            rows.append((number, {name: value for name, value in zip(columns, filled, strict=False) if name}))
    except csv.Error as error:
        raise UsageError(f"{path}, line {start + reader.line_num}: not a CSV ({error})") from None
    return Table(columns, tuple(rows))


def too_long(path: Path) -> UsageError:
    return UsageError(f"{path} has more than {MAX_TABLE_ROWS:,} rows; split it")


def _lines(text: str) -> list[str]:
    """Split at line ends only; ``str.splitlines`` also splits at separators that may occur in a name."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
