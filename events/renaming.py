"""Owns what is decided when a series is renamed, merged into another one or deleted, and what else goes with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from django.core.exceptions import ValidationError
from django.db import transaction

from events.aggregation.catalogue import Series, find
from events.alerts import renaming as alerts
from events.archive import series_changes as archive
from events.boards import renaming as boards
from events.database import partitions
from events.log.models import Event
from events.log.series import SeriesKey
from events.rollups.models import Watermark
from events.rollups.moves import Move
from events.series import models as series_models
from events.series.models import FormerName
from events.worker import moving
from events.worker.moving import CannotMoveError

# What else holds a series by its name, besides the tables whose rows ``Mover`` changes in steps. Each is done in the
# transaction that begins the move, so few rows may be of it; a table that is new gets its place here.
_FOLLOWING: Sequence[Callable[[Move], None]] = (
    archive.follow,
    series_models.follow,
    alerts.follow,
    boards.follow,
)


def check(old: SeriesKey, into: SeriesKey | None, *, merge: bool) -> Series:
    """Return the line of a series that may be renamed, merged or, into None, deleted. Raises CannotMoveError."""
    line = find(old)
    if line is None:
        raise CannotMoveError(f"There is no series {_text(old)}.{_became_of(old)}")
    if into is not None:
        _check_name(into)
        if into == old:
            raise CannotMoveError(f"{_text(old)} has this name already.")
        if partitions.partition_of(*old) != partitions.partition_of(*into):
            raise CannotMoveError(
                f"{_text(old)} and {_text(into)} lie in different partitions, which no answer reads as of one moment. "
                "Such a series can't be renamed: export its events, import them under the new name, and delete it."
            )
        there = find(into)
        if merge and there is None:
            raise CannotMoveError(f"There is no series {_text(into)} to merge into.")
        if there is not None and not merge:
            count = there["count"]
            raise CannotMoveError(f"There is a series {_text(into)} already, of {count} events: merge into it.")
    return line


def move(
    old: SeriesKey, into: SeriesKey | None, *, merge: bool = False, is_wanted: Callable[[], bool] = lambda: True
) -> Move:
    """Rename a series, merge it into another one, or with None delete it; once this returns, every answer shows it.

    ``Mover`` then changes what is stored. Before a merge, minutes that were left out of the rollups are made again, as
    long as ``is_wanted`` says. Raises CannotMoveError.
    """
    partition = partitions.partition_of(*old)
    under_way = Watermark.objects.current(partition).move
    if under_way is not None and (under_way.old, under_way.into) == (old, into) and not under_way.is_emptied:
        return under_way
    check(old, into, merge=merge)  # before writers wait for the lock
    if merge and into is not None:
        moving.make_minutes([old, into], is_wanted)
    with transaction.atomic():
        Watermark.objects.locked(partition)
        if not moving.is_there(old) or (into is not None and moving.is_there(into) != merge):
            raise CannotMoveError("One of the series has changed meanwhile. Look again.")
        begun = moving.begin(old, into, is_merged=merge)
        for follow in _FOLLOWING:
            follow(begun)
    return begun


def _check_name(key: SeriesKey) -> None:
    try:
        "/".join(key).encode()
        Event(namespace=key.namespace, name=key.name).clean_fields(exclude=["timestamp", "value", "partition"])
        if "\0" in "".join(key):
            raise ValidationError("Null characters are not allowed.")
    except UnicodeEncodeError:
        raise CannotMoveError("The new name is no text in UTF-8.") from None
    except ValidationError as error:
        raise CannotMoveError(f"No series can be called {_text(key)}: {' '.join(error.messages)}") from None


def _became_of(key: SeriesKey) -> str:
    former = FormerName.objects.filter(namespace=key.namespace, name=key.name).first()
    if former is None:
        return ""
    became = f"is called {former.to_namespace}/{former.to_name}" if former.to_name else "is deleted"
    return f" The one that had this name {became} since {former.since:%Y-%m-%d %H:%M} UTC."


def _text(key: SeriesKey) -> str:
    return "/".join(key)
