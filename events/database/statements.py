"""Keeps statements for later: the ORM builds each once, around values that are given whenever it is run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from django.db import connection, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Value
from typing_extensions import override


class Given(Value):
    """Stands for a value in a queryset's filters, until a statement that is made of it is given one by this name."""

    def __init__(self, name: str, output_field: models.Field[Any, Any]) -> None:
        super().__init__(name, output_field)
        self.name = name

    @override
    def as_sql(self, compiler: Any, connection: BaseDatabaseWrapper) -> Any:
        return "%s", [self]

    def take(self, value: Any) -> Any:
        """Return a value of the field as the driver takes it."""
        return self.output_field.get_db_prep_value(value, connection, prepared=True)


@dataclass(frozen=True)
class Statement:
    """A SELECT with its parameters, some of which may be still to be given."""

    sql: str
    parameters: tuple[Any, ...]
    template: tuple[Any, ...] | None = field(default=None, compare=False)
    """The parameters as they were before values were given, of a statement that may be prepared."""

    @classmethod
    def of(cls, rows: models.QuerySet[Any]) -> Self:
        """Have the ORM write the statement of a queryset."""
        sql, parameters = rows.query.sql_with_params()
        return cls(sql, tuple(parameters))

    def given(self, values: Mapping[str, Any], *, may_be_prepared: bool = False) -> Statement:
        """Return the statement with a value, by its name, in place of each ``Given``.

        It may be prepared where its best plan doesn't depend on the values.
        """
        given = (each.take(values[each.name]) if isinstance(each, Given) else each for each in self.parameters)
        return Statement(self.sql, tuple(given), self.parameters if may_be_prepared else None)
