"""Owns what a row's key may be where a form or a path sends one: any other text fails within the database's driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from typing_extensions import override


def is_key(model: type[Model], text: str) -> bool:
    """Tell whether a row could have the key: it is of the column's type, and not beyond its numbers."""
    try:
        model._meta.pk.clean(text, None)
    except ValidationError:
        return False
    return True


class KeysField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]  # it takes none when it runs
    """Rows by their keys, of which Django looks at the type alone; SQLite's driver takes 64 bits."""

    @override
    def clean(self, value: Sequence[str] | None) -> Any:
        model = cast(QuerySet[Any], self.queryset).model
        for text in value or ():
            if not is_key(model, text):
                raise ValidationError(self.error_messages["invalid_pk_value"], "invalid_pk_value", {"pk": text})
        return super().clean(value)
