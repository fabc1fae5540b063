"""Builds the columns of the rows that buckets are merged from: texts of instants, keys of groups, and NULLs."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Value
from django.db.models.functions import Cast
from typing_extensions import override

# “2024-01-01 00:00:00” and “2024-01-01 00:00:00.000001”
_SECOND_CHARACTERS, _MICROSECOND_CHARACTERS = 19, 26


class Nothing(Cast):
    """NULL of a type, by which rows are not grouped: that would keep the database from grouping them by an index."""

    def __init__(self, output_field: models.Field[Any, Any]) -> None:
        super().__init__(Value(None), output_field)

    @override
    def get_group_by_cols(self) -> list[Any]:
        return []


class KeyText(Cast):
    """The text of ``start``, by which rows are grouped; it stays out of GROUP BY, so as to be made once for a group."""

    def __init__(self) -> None:
        super().__init__("start", models.TextField())

    @override
    def get_group_by_cols(self) -> list[Any]:
        return []


class KeyNumber(KeyText):
    """``start`` in whole seconds, as the clocks may show the year 0 or 10000; on SQLite, the text of ``start``."""

    @override
    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        sql, parameters = compiler.compile(self.source_expressions[0])
        return f"EXTRACT(EPOCH FROM {sql})::bigint", parameters


class InstantText(Cast):
    """The text of an instant in UTC, as both databases write it: reading a text costs a tenth of reading a datetime."""

    def __init__(self, instant: Any) -> None:
        super().__init__(instant, models.TextField())

    @override
    def as_postgresql(self, compiler: Any, connection: BaseDatabaseWrapper, **context: Any) -> Any:
        """Leave the offset out, which is zero in every session; that is faster, too."""
        sql, parameters = compiler.compile(self.source_expressions[0])
        return f"({sql})::timestamp::text", parameters


# What the text of an instant ends with in the API, by its length: PostgreSQL leaves out the last zeros of a fraction.
ENDS = {_SECOND_CHARACTERS: "Z"} | {
    length: "0" * (_MICROSECOND_CHARACTERS - length) + "Z"
    for length in range(_SECOND_CHARACTERS + 2, _MICROSECOND_CHARACTERS + 1)
}


def iso_of(text: str) -> str:
    """Turn the text of an instant from either database into the text of the API."""
    return text.replace(" ", "T") + ENDS[len(text)]
