"""Writes the line of log of each request, as text or as JSON."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

import msgspec
from django.conf import settings

from events.observability.observation import Observation

_STANDARD_ERROR = 2
_PATH_CHARACTERS = 1_000  # keeps a line below the 4096 bytes that a pipe takes in one piece
_FIELD_CHARACTERS = 60
_SAFE = "/~:@!$&'()*+,;=-._"
_is_plain = re.compile(r"[\w/~:@!$&'()*+,;=.-]*", re.ASCII).fullmatch
_BOARD_TOKEN = re.compile(r"(/(?:boards/public|api/boards)/)[^/]+")


def write_line(seen: Observation, seconds: float) -> None:
    """Write the line of a request, and how long it took, to standard error."""
    line = _json_line if settings.LOG_FORMAT == "json" else _text_line
    # One write, so that lines of several threads and processes don't mix; `logging` would take four times as long.
    # Where nobody reads standard error any longer, the request is answered all the same.
    with suppress(OSError):
        os.write(_STANDARD_ERROR, line(seen, seconds))


def hide_token(text: str) -> str:
    """Replace the token of a board's public link, in a path or in a line that has one, by asterisks."""
    return _BOARD_TOKEN.sub(r"\1***", text)


def instant_text(timestamp: float) -> str:
    """Return a unix time in seconds as logs show it: ``2020-11-12T11:10:00.000Z``."""
    second, microseconds = divmod(round(timestamp * 1_000_000), 1_000_000)
    return f"{_second_text(second)}.{microseconds // 1000:03}Z"


@lru_cache(maxsize=1)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()[:-6]


def _on_one_line(text: str, encoding: str = "utf-8") -> str:
    # percent-encoded, as the text may have been sent; of a URL only the path, as a query may hold a secret
    return text if _is_plain(text) else quote(text, _SAFE, encoding, "replace")


@lru_cache(maxsize=128)  # most requests have one of a few paths, and a long one is no longer than a head
def _path_text(path: str) -> str:
    text = _on_one_line(hide_token(path)[: _PATH_CHARACTERS + 1], "latin-1")
    return text if len(text) <= _PATH_CHARACTERS else f"{text[:_PATH_CHARACTERS]}…"


def _field_text(field: str) -> str:
    # an unknown field may have any name that a client thinks of
    return _on_one_line(field[:_FIELD_CHARACTERS])


def _text_line(seen: Observation, seconds: float) -> bytes:
    return (
        f"{instant_text(time.time())} INFO request: {seen.method} {_path_text(seen.path)} {seen.status}"
        f" ms={seconds * 1000:.2f} bytes={seen.size_bytes} events={seen.events}"
        f" client={_on_one_line(seen.client) or '-'} request={seen.request_id}"
        f"{f' refusal={seen.refusal}' if seen.refusal else ''}"
        f"{f' field={_field_text(seen.field)} reason={seen.reason}' if seen.field else ''}\n"
    ).encode()


def _json_line(seen: Observation, seconds: float) -> bytes:
    line = {
        "time": instant_text(time.time()),
        "level": "INFO",
        "logger": "request",
        "method": seen.method,
        "path": _path_text(seen.path),
        "status": seen.status,
        "milliseconds": round(seconds * 1000, 2),
        "bytes": seen.size_bytes,
        "events": seen.events,
        "client_id": seen.client or None,
        "request_id": seen.request_id,
        "refusal": seen.refusal or None,
        "field": _field_text(seen.field) or None,
        "reason": seen.reason or None,
    }
    return msgspec.json.encode(line) + b"\n"
