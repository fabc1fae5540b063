"""Owns the key of a series, and the SQL that asks about many keys at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from django.db.models import BooleanField
from django.db.models.expressions import RawSQL

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


def among(keys: Sequence[tuple[str, str]]) -> RawSQL:
    """Build the condition that a row is of one of the series, as one parameter or two, however many there are."""
    table, given = from_series(keys)
    chosen = f"(namespace, name) IN (SELECT series.namespace, series.name {table})"
    return RawSQL(chosen, given, output_field=BooleanField())  # noqa: S611  # a constant text
