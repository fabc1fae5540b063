"""Says what becomes of a series' files where the series gets another name, or is deleted.

Whoever locks several of these takes the row of a file in the making first, then those of other files, then events: two
that took them in different orders would wait for each other.
"""

from __future__ import annotations

from django.db import transaction

from events.archive.archiving import remove_replaced
from events.archive.models import ArchivedFile
from events.archive.store import ArchiveError
from events.log.series import SeriesKey
from events.rollups.moves import Move


def follow(move: Move) -> None:
    """Have the files of a series go with it. To be called in the transaction that begins the move."""
    if move.into is None:
        deleted(SeriesKey(*move.old))
    else:
        renamed(SeriesKey(*move.old), SeriesKey(*move.into))


def renamed(old: SeriesKey, new: SeriesKey) -> None:
    """Have the files of a series count as those of another name, which may have files of its own.

    To be called in the transaction that renames the series, before its events are moved. The files stay as they are,
    with the old name in them: what reads them goes by the list. Of both series, events that a file holds already are
    deleted from the log first, as the file would otherwise be taken to hold events of the other one too. A file that is
    being written comes to nothing.
    """
    State = ArchivedFile.State
    for series in (old, new):
        of_series = ArchivedFile.objects.of_series(*series)
        of_series.in_the_making().filter(path="").delete()
        # what was begun is left to the list, so that the worker removes the file; this comes first, as it waits for a
        # commit that lists the file just now
        of_series.in_the_making().update(state=State.REPLACED)
        for file in of_series.listed().select_for_update():  # who deletes its events holds it, and is waited for
            events = file.in_log().order_by()
            events._raw_delete(events.db)
            of_series.filter(pk=file.pk).update(state=State.KEPT)
    ArchivedFile.objects.of_series(*old).update(namespace=new.namespace, name=new.name)


def deleted(series: SeriesKey) -> None:
    """Have the files of a series removed, once the transaction that deletes the series is committed.

    Where the archive is away then, the worker removes them later.
    """
    of_series = ArchivedFile.objects.of_series(*series)
    for files in (of_series.in_the_making(), of_series):
        files.update(state=ArchivedFile.State.REPLACED)
    transaction.on_commit(_remove)


def _remove() -> None:
    try:
        remove_replaced()
    except ArchiveError:
        return
