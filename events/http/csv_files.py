"""Writes CSV files piece by piece, and guards texts in them from being taken for formulas by a spreadsheet."""

import csv
import re
from collections.abc import Iterable, Iterator
from io import StringIO
from typing import Any

_PIECE_CHARACTERS = 1 << 14

# Matches by the first characters: a formula, what may become one after a separator of another locale, and full-width
# forms of both.
_is_formula = re.compile(r"[\s\0]*[=+\-@;|%＝＋－＠；]|[\t\r\n]").match


def marked(text: str) -> str:
    """Return a text, after an apostrophe where a spreadsheet would take it for a formula, so that it stays a text."""
    return f"'{text}" if _is_formula(text) else text


def csv_pieces(rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    """Yield rows as comma-separated values (RFC 4180) in UTF-8, some thousand bytes at a time."""
    text = StringIO()
    writer = csv.writer(text)
    for row in rows:
        writer.writerow(row)
        if text.tell() >= _PIECE_CHARACTERS:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()
