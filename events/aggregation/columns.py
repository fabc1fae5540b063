"""Builds the columns of the rows that buckets are merged from: texts of instants, keys of groups, and NULLs."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Value
from django.db.models.functions import Cast
from typing_extensions import override

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


def text_of(instant: Any) -> Cast:
    """Build the text of an instant as the database writes it: reading a text costs a tenth of reading a datetime."""
    return Cast(instant, models.TextField())


def iso_of(text: str) -> str:
    """Turn a timestamp's text from either database into the text of the API."""
    text = text.removesuffix("+00")
    if len(text) > _SECOND_CHARACTERS:
        text = text.ljust(_MICROSECOND_CHARACTERS, "0")
    return f"{text[:10]}T{text[11:]}Z"
