"""Turns events into lines of NDJSON, and back for whoever is told about them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from typing import Any, SupportsFloat

_MOST_PREFIXES = 10_000
_prefixes: dict[tuple[str, str], str] = {}


@dataclass(frozen=True)
class RefusedEvent:
    """An event that is stored nowhere, and why, in the words of the service."""

    event: dict[str, Any]  # as far as it could be written: "namespace", "name", "timestamp", "value"
    reason: str


class NoEventError(ValueError):
    """What was tracked can't be written as JSON."""


def encode(namespace: str, name: str, value: SupportsFloat, timestamp: datetime | float | None = None) -> str:
    """Return an event as a line of NDJSON without its end; now where it has no timestamp.

    Names and times are for the service to judge. Raises NoEventError for a value that is no finite number, and for what
    JSON has no word for.
    """
    if type(value) is not float:
        value = _number(value)
    if not isfinite(value):
        raise NoEventError("value: A finite number is required.")
    try:
        prefix = _prefixes[namespace, name]
    except (KeyError, TypeError):
        prefix = _prefix(namespace, name)
    if timestamp is None:
        seconds, microseconds = divmod(time.time_ns() // 1_000, 1_000_000)
        return f'{prefix}{seconds}.{microseconds:06d},"value":{value!r}}}'
    return f'{prefix}{_time(timestamp)},"value":{value!r}}}'


def decode(line: str) -> dict[str, Any]:
    """Return the event of a line that ``encode`` made."""
    event: dict[str, Any] = json.loads(line)
    return event


def _number(value: object) -> float:
    # float() would take these, and the service doesn't
    if not isinstance(value, bool | str | bytes | bytearray):
        try:
            return float(value)  # type: ignore[arg-type]
        except Exception:  # noqa: S110 (whatever its __float__ raises, as a tensor's a RuntimeError)
            pass
    raise NoEventError("value: A valid number is required.")


def _prefix(namespace: object, name: object) -> str:
    try:
        prefix = f'{{"namespace":{json.dumps(namespace)},"name":{json.dumps(name)},"timestamp":'
    except (TypeError, ValueError, RecursionError) as error:
        raise NoEventError(f"namespace, name: {error}.") from None
    if isinstance(namespace, str) and isinstance(name, str):
        if len(_prefixes) >= _MOST_PREFIXES:
            _prefixes.clear()
        _prefixes[namespace, name] = prefix
    return prefix


def _time(timestamp: object) -> str:
    try:
        return json.dumps(timestamp.isoformat() if isinstance(timestamp, datetime) else timestamp, allow_nan=False)
    except Exception as error:  # a datetime's tzinfo may be anybody's
        raise NoEventError(f"timestamp: {error}.") from None
