"""Guards texts in CSV files from being taken for formulas by a spreadsheet."""

import re

# Matches by the first characters: a formula, what may become one after a separator of another locale, and full-width
# forms of both.
_is_formula = re.compile(r"[\s\0]*[=+\-@;|%＝＋－＠；]|[\t\r\n]").match


def marked(text: str) -> str:
    """Return a text, after an apostrophe where a spreadsheet would take it for a formula, so that it stays a text."""
    return f"'{text}" if _is_formula(text) else text
