"""Moves users, clients, their grants and tokens, and what people wrote, from one database to another, as a file.

Rows are known by name, never by id, as another database gives out other ids. The file holds secrets as they are stored:
hashes of passwords and of clients' secrets, digests of tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple, TextIO

from django.apps import apps
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ValidationError
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models, transaction
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application
from typing_extensions import override

Row = dict[str, Any]

_HEAD = {"format": "Tracking API access", "version": 1}
# Rows that others refer to come first.
_ROOTS: tuple[type[models.Model], ...] = (Group, User, Application, AccessToken)
# The admin's log gives nobody any rights, the toolkit's other rows live too briefly to be moved, and what an alert is
# up to is found again.
_LEFT_OUT = {
    "admin.logentry",
    *(f"events.{name}" for name in ("alertstate", "firing", "delivery")),
    *(f"oauth2_provider.{name}" for name in ("grant", "refreshtoken", "idtoken", "devicegrant")),
}
# Not compared, as they change with each use, by being saved again, or by the worker.
_PASSING = dict.fromkeys(("last_login", "last_used", "updated", "changed_at", "problem"))
_NAMES: dict[type[models.Model], tuple[str, ...]] = {
    Permission: ("codename", "content_type__app_label", "content_type__model"),
    AccessToken: ("token_checksum",),
}


class AccessError(Exception):
    """A file can't be read or stored; the message says why."""


class Counts(NamedTuple):
    """How many rows were added, how many replaced, and how many were there already as they are in the file."""

    added: int
    replaced: int
    same: int


@cache
def moved_models() -> tuple[type[models.Model], ...]:
    """List the models that are moved: users, groups, clients, tokens, and of ours those that refer to them.

    Others of ours are moved too where their ``moved_by`` names the fields by which a row is known.
    """
    ours = [
        model
        for model in apps.get_app_config("events").get_models()
        if hasattr(model, "moved_by")
        or any(isinstance(field, models.ForeignKey) and field.related_model in _ROOTS for field in model._meta.fields)
    ]
    return (*_ROOTS, *ours)


def write(file: TextIO) -> int:
    """Write every row but expired tokens, a line each; return how many there were. To be called in a snapshot."""
    _write_line(file, _HEAD)
    count = 0
    for model in moved_models():
        rows: models.QuerySet[Any] = model._default_manager.order_by("pk")
        if model is AccessToken:
            rows = rows.filter(expires__gt=timezone.now())
        for row in rows.iterator():
            if not _is_of_token_that_is_gone(row):
                _write_line(file, {"model": model._meta.label_lower, "fields": _fields_of(row)})
                count += 1
    return count


@transaction.atomic
def read(file: TextIO, *, overwrite: bool) -> Counts:
    """Store the rows of a file, all or none.

    Raises AccessError where the file can't be understood, and where a row of the same name has another content, unless
    ``overwrite`` is set.
    """
    if next(_lines(file), None) != _HEAD:
        raise AccessError("This is no file of export_access, or one of another version.")
    known = {model._meta.label_lower: model for model in moved_models()}
    added = replaced = same = 0
    others = []
    for number, line in enumerate(_lines(file), start=2):
        try:
            model, fields = known[line["model"]], line["fields"]
            wanted, many = _row_of(model, fields)
            stored = _find(model, fields)
            if stored is None:
                _store(wanted, many)
                added += 1
            elif _fields_of(stored) | _PASSING == fields | _PASSING:
                same += 1
            elif overwrite:
                wanted.pk = stored.pk
                _store(wanted, many)
                replaced += 1
            else:
                others.append(f"{model._meta.verbose_name} {'/'.join(map(str, _name_of(stored)))}")
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            raise AccessError(f"Line {number} can't be understood: {type(error).__name__}: {error}.") from None
    if others:
        more = f" and {len(others) - 10} more" if len(others) > 10 else ""
        raise AccessError(f"There already, and not as in the file: {', '.join(others[:10])}{more}.")
    return Counts(added, replaced, same)


class _Encoder(DjangoJSONEncoder):
    @override
    def default(self, o: Any) -> Any:
        # Django's encoder cuts microseconds off to milliseconds
        return o.isoformat() if isinstance(o, datetime) else super().default(o)


def _write_line(file: TextIO, line: Row) -> None:
    file.write(f"{_json(line)}\n")


def _json(value: Row) -> str:
    return json.dumps(value, cls=_Encoder, ensure_ascii=False)


def _lines(file: TextIO) -> Iterator[Any]:
    for line in file:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            raise AccessError(f"A line is no JSON: {error}.") from None


def _name_fields(model: type[models.Model]) -> tuple[str, ...]:
    """Return the names of the fields by which a row is known in any database: unique ones, but not its id."""
    if model in _NAMES:
        return _NAMES[model]
    if hasattr(model, "moved_by"):
        return tuple(model.moved_by)
    if hasattr(model, "USERNAME_FIELD"):
        return (model.USERNAME_FIELD,)
    return (next(field.name for field in _moved_fields(model) if field.unique),)


def _name_of(row: models.Model) -> list[Any]:
    """Return the values by which a row is known; for a reference, the values by which the other row is known."""
    values: list[Any] = []
    for path in _name_fields(type(row)):
        value: Any = row
        for part in path.split("__"):
            value = getattr(value, part)
        values += _name_of(value) if isinstance(value, models.Model) else [value]
    return values


def _name_paths(model: type[models.Model]) -> list[str]:
    paths = []
    for path in _name_fields(model):
        field = None if "__" in path else model._meta.get_field(path)
        if isinstance(field, models.ForeignKey):
            paths += [f"{path}__{further}" for further in _name_paths(field.related_model)]
        else:
            paths.append(path)
    return paths


def _named(model: type[models.Model], name: Any) -> models.Model:
    """Find the row with a name. Raises ValueError where there is none, like a permission that this release lacks."""
    row = model._default_manager.filter(**dict(zip(_name_paths(model), name, strict=True))).first()
    if row is None:
        raise ValueError(f"there is no {model._meta.verbose_name} {'/'.join(map(str, name))}")
    return row


def _moved_fields(model: type[models.Model]) -> list[models.Field[Any, Any]]:
    return [
        field
        for field in model._meta.fields
        if not (field.primary_key and field.related_model is None)  # a primary key that refers to a row is moved
        and not (isinstance(field, models.ForeignKey) and field.related_model._meta.label_lower in _LEFT_OUT)
    ]


def _is_of_token_that_is_gone(row: models.Model) -> bool:
    """Tell whether a row belongs to a token that has expired, or that was deleted in SQL."""
    names = [field.name for field in row._meta.fields if field.related_model is AccessToken]
    try:
        tokens = [getattr(row, name) for name in names]
    except AccessToken.DoesNotExist:
        return True
    return any(token is not None and token.expires <= timezone.now() for token in tokens)


def _fields_of(row: models.Model) -> Row:
    """Return the fields of a row as they are in the file: references by name, times as text."""
    fields: Row = {}
    for field in _moved_fields(type(row)):
        value = getattr(row, field.name)
        fields[field.name] = _name_of(value) if isinstance(value, models.Model) else value
    for many in row._meta.many_to_many:
        fields[many.name] = sorted(_name_of(each) for each in getattr(row, many.name).all())
    return dict(json.loads(_json(fields)))


def _row_of(model: type[models.Model], fields: Row) -> tuple[models.Model, dict[str, list[models.Model]]]:
    """Make the row to be stored, and list the rows that its many-to-many fields refer to, which are set afterwards.

    Raises KeyError where a field is missing, ValueError where one is unknown, ValidationError for a bad value.
    """
    fields = dict(fields)
    row = model()
    for field in _moved_fields(model):
        value = fields.pop(field.name)
        if isinstance(field, models.ForeignKey):
            setattr(row, field.name, None if value is None else _named(field.related_model, value))
        else:
            setattr(row, field.name, field.to_python(value))
    many = {
        each.name: [_named(each.related_model, name) for name in fields.pop(each.name)]
        for each in model._meta.many_to_many
    }
    if fields:
        raise ValueError(f"unknown are {', '.join(sorted(fields))}")
    return row, many


def _find(model: type[models.Model], fields: Row) -> models.Model | None:
    name: list[Any] = []
    for path in _name_fields(model):
        value = fields[path]
        name += value if isinstance(value, list) else [value]
    return model._default_manager.filter(**dict(zip(_name_paths(model), name, strict=True))).first()


def _store(row: models.Model, many: dict[str, list[models.Model]]) -> None:
    # raw saves the values as they are: secrets aren't hashed again, and dates aren't set anew
    models.Model.save_base(row, raw=True)
    for name, others in many.items():
        getattr(row, name).set(others)
