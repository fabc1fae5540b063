"""What a spreadsheet makes of a text in a CSV file."""

import re

# By its first character: a formula, what may become one at a separator of another locale, and full-width forms of both.
_is_formula = re.compile(r"[\s\0]*[=+\-@;|%＝＋－＠；]|[\t\r\n]").match


def marked(text: str) -> str:
    """The text, after an apostrophe where a spreadsheet would take it for a formula; so it stays a text there."""
    return f"'{text}" if _is_formula(text) else text
