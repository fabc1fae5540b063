"""Reads quoted cookies in time that grows with their length; older Pythons take time that grows with its square."""

from __future__ import annotations

import re
import sys
from http import cookies

# CVE-2024-7592: the first version of each series of Python that is mended
_MENDED = {(3, 11): (3, 11, 10), (3, 12): (3, 12, 6)}

_replace = re.compile(r"\\(?:([0-3][0-7][0-7])|(.))").sub


def _unquote(text: str | None) -> str | None:
    if text is None or len(text) < 2 or text[0] != '"' or text[-1] != '"':
        return text
    return _replace(_character, text[1:-1])


def _character(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 8)) if escape[1] else escape[2]


def read_in_linear_time() -> None:
    """Make Python and Django read quoted cookies in linear time, where this Python isn't mended."""
    if sys.version_info < _MENDED.get(sys.version_info[:2], (0,)):
        cookies._unquote = _unquote  # type: ignore[assignment]  # Python's own is overloaded
