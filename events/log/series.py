"""Owns the key of a series, and the SQL that asks about many keys at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from events.database.dialect import is_postgresql

_FROM = {
    "postgresql": "FROM unnest(%s::text[], %s::text[]) AS series (namespace, name)",
    "sqlite": (
        "FROM (SELECT json_extract(value, '$[0]') AS namespace, json_extract(value, '$[1]') AS name"
        " FROM json_each(%s)) AS series"
    ),
}


class SeriesKey(NamedTuple):
    """The namespace and the name that together name a series."""

    namespace: str
    name: str


def from_series(keys: Sequence[tuple[str, str]]) -> tuple[str, list[Any]]:
    """Return the FROM clause that makes a table ``series (namespace, name)`` of the keys, and its parameters."""
    if is_postgresql():
        return _FROM["postgresql"], [[namespace for namespace, _ in keys], [name for _, name in keys]]
    return _FROM["sqlite"], [json.dumps(keys)]
