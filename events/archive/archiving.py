"""Writes the events of a series' month to a file of the archive, and merges the files of a month that is over.

Each step leaves the list in a state that the next run goes on from, whenever this process is killed: a file counts once
it is listed, it is listed once it was read back, and no event is deleted before.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from heapq import merge
from itertools import islice
from operator import itemgetter

from django.db import DatabaseError, IntegrityError, InterfaceError, transaction
from django.db.models import Count, Q
from django.utils import timezone

from events.archive import parquet
from events.archive.models import ArchivedFile, ArchivedFileQuerySet, month_of
from events.archive.parquet import Content, Stretch
from events.archive.store import ArchiveAwayError, ArchiveError, Draft, new_path, store, told
from events.calendar.timestamps import microseconds_of
from events.database import partitions
from events.log.models import Event, EventQuerySet
from events.processes import this_process
from events.rollups.marks import Marks
from events.rollups.models import Watermark

# Events that are in memory at a time, and one step of whoever archives beside other work.
_BATCH_EVENTS = 50_000


class BusyError(ArchiveError):
    """Another process archives the series."""


def check() -> None:
    """Raise ArchiveAwayError unless the archive can be written."""
    parquet.check()
    store().check()


def archive(namespace: str, name: str, start: datetime, end: datetime, marks: Marks) -> Iterator[int]:
    """Write the events of a series from ``start`` up to ``end``, of one month, to a file, and list it.

    Nothing may change these events any more. Yields 0 after each step of some thousand events. Raises
    ArchiveError where the file can't be written, or is not what was written; the list then holds nothing of it.
    """
    events = Event.objects.of_series(namespace, name)
    events = events.filter(timestamp__gte=start, timestamp__lt=end).up_to(marks)
    of_origins = {str(origin): last for origin, last in marks.by_origin.items()}
    making = _begin(ArchivedFile(namespace=namespace, name=name, start=start, end=end, marks=of_origins))
    State = ArchivedFile.State

    def list_it(content: Content, size_bytes: int) -> bool:
        there = events.count()
        # events of a series that was merged into this one may be there, but then the file is not ours any more
        if there != content.events and making.move_on(State.WRITING):
            raise ArchiveError(f"The file holds {content.events} events, of {there} in the log.")
        return making.move_on(
            State.LISTED, events=content.events, sum=content.sum, bytes=size_bytes, changed=timezone.now()
        )

    yield from _make(making, _in_order(events), list_it)


def merge_months(
    namespace: str, name: str, before: datetime, most_months: int | None = None
) -> Generator[int, None, bool]:
    """Merge the files of each month of a series that is over before an instant, where there are several.

    Yields 0 after each step of some thousand events, and returns whether there are more months than it may merge.
    Raises ArchiveError, once all others are merged where a month can't be for one of its files.
    """
    kept = ArchivedFile.objects.of_series(namespace, name).kept()
    months = kept.order_by("month").values("month").annotate(files=Count("pk")).filter(files__gt=1)
    merged, wrong = 0, None
    for month in list(months.values_list("month", flat=True)):
        end = month_of(datetime(month.year, month.month, 1, tzinfo=UTC))[1]
        if end is not None and end <= before:
            if merged == most_months:
                return True
            try:
                yield from _merge(list(kept.filter(month=month)))
                merged += 1
            except (ArchiveAwayError, BusyError):
                raise
            except ArchiveError as error:
                wrong = error
    if wrong:
        raise wrong
    return False


def remove_replaced() -> None:
    """Remove the files that others stand for by now, or whose series is gone. Raises ArchiveError."""
    for _ in removing_replaced():
        pass


def removing_replaced() -> Iterator[int]:
    """Remove these files in steps: yield 0 after each one, as a series that is gone may have had very many."""
    for file in ArchivedFile.objects.filter(state=ArchivedFile.State.REPLACED):
        if file.path:  # a fault has none
            store().remove(file.path)
        file.delete()
        yield 0


def _merge(files: Sequence[ArchivedFile]) -> Iterator[int]:
    namespace, name = files[0].namespace, files[0].name
    marks = files[-1].marks
    making = _begin(
        ArchivedFile(
            namespace=namespace, name=name, marks=marks,
            start=min(file.start for file in files), end=max(file.end for file in files),
        )
    )  # fmt: skip
    State = ArchivedFile.State

    def put_in_their_place(content: Content, size_bytes: int) -> bool:
        there = sum(file.events for file in files)
        if there != content.events:
            raise ArchiveError(f"The merged file holds {content.events} events, of {there} in those of the list.")
        values = {"events": content.events, "sum": content.sum, "bytes": size_bytes, "changed": timezone.now()}
        with transaction.atomic():
            # its own row first, in the order of series_changes
            is_moved = making.move_on(State.KEPT, **values)
            replaced = ArchivedFile.objects.of_series(namespace, name).kept().filter(pk__in=[file.pk for file in files])
            is_done = is_moved and replaced.update(state=State.REPLACED) == len(files)
            transaction.set_rollback(not is_done)
            return is_done

    rows = merge(*(_rows(file) for file in files), key=itemgetter(0))
    yield from _make(making, _stretches(rows), put_in_their_place)
    yield from removing_replaced()


def _begin(making: ArchivedFile) -> ArchivedFile:
    """Store that this process makes a file of a series, and remove what others have left of one. Raises BusyError.

    No file may be listed whose events are still in the log. The commit of a process that was killed may come after its
    end, and one that was taken to be gone may come back: such a file is listed by the time that its row is waited for.
    No file may be begun either once the series is being moved, as what begins a move decides what becomes of its files.
    """
    of_series = ArchivedFile.objects.of_series(making.namespace, making.name)
    for other in of_series.in_the_making():
        if other.is_being_made():
            raise BusyError(f"Another process archives it: {other.maker}.")
        _give_up(of_series.in_the_making().filter(pk=other.pk), other)
    making.month = making.start.replace(day=1).date()
    making.path = new_path(making.namespace, making.name, f"{making.month:%Y-%m}")
    making.maker = this_process()
    try:
        with transaction.atomic():
            watermark = Watermark.objects.locked(partitions.partition_of(making.namespace, making.name))
            if move := watermark.move_of(making.namespace, making.name):
                raise BusyError(f"{move}.")
            making.save(force_insert=True)
            if of_series.listed().exists():
                raise BusyError("Another process has archived it just now.")
    except IntegrityError:
        raise BusyError("Another process archives it.") from None
    return making


def _make(making: ArchivedFile, stretches: Iterator[Stretch], list_it: Callable[[Content, int], bool]) -> Iterator[int]:
    """Write, sync, read back and list a file, or leave no trace of it.

    A process that was taken to be gone may come back: what it makes then has lost its row, and counts for nothing.
    """
    is_listed = False
    try:
        with closing(store().draft(making.path)) as draft, told():
            content, size_bytes = yield from _written(making, draft, stretches)
            draft.publish()
            is_listed = list_it(content, size_bytes)
            if not is_listed:
                raise BusyError("Another process has taken over.")
    except ArchiveError as error:
        if not making.move_on(ArchivedFile.State.WRITING):  # who took it over has removed the file
            raise BusyError("Another process has taken over.") from error
        raise
    finally:
        if not is_listed:
            _clear_up(making)


def _written(
    making: ArchivedFile, draft: Draft, stretches: Iterator[Stretch]
) -> Generator[int, None, tuple[Content, int]]:
    with closing(parquet.Writer(draft.file, making.namespace, making.name)) as writer:
        for stretch in stretches:
            writer.write(stretch)
            if not making.say_at_it():
                raise BusyError("Another process has taken over.")
            yield 0
    size_bytes = draft.file.tell()
    draft.sync()
    found = Content()
    with draft.reading() as file:
        for stretch in parquet.read(file, making.path):
            found.add(stretch)
            yield 0
    if difference := found.differs_from(writer.content):
        raise ArchiveError(f"The file was not read back as it was written: {difference}.")
    return found, size_bytes


def _clear_up(making: ArchivedFile) -> None:
    """Remove what was made in vain; where that fails too, the next run does it."""
    with suppress(ArchiveError, DatabaseError, InterfaceError):
        _give_up(
            ArchivedFile.objects.filter(pk=making.pk, state=ArchivedFile.State.WRITING, maker=making.maker), making
        )


def _give_up(rows: ArchivedFileQuerySet, file: ArchivedFile) -> None:
    """Remove a file, unless it is listed: by its maker, or in a commit whose answer never came."""
    is_mine = rows.update(state=ArchivedFile.State.REPLACED) == 1  # waits for a commit that is under way
    if is_mine or not ArchivedFile.objects.filter(pk=file.pk).exists():
        if file.path:
            store().remove(file.path)
        ArchivedFile.objects.filter(pk=file.pk, state=ArchivedFile.State.REPLACED).delete()


def check_there(file: ArchivedFile) -> None:
    """Raise ArchiveError unless a file is in the archive, and ArchiveAwayError where that can't be told for now."""
    try:
        with told(), closing(store().open(file.path)):
            return
    except ArchiveAwayError as error:
        if not error.is_wrong:
            raise
        raise ArchiveError(f"{file.path} can't be read, so its events stay in the log: {error}") from error


def _in_order(events: EventQuerySet) -> Iterator[Stretch]:
    """Yield events in the order of their timestamps and ids. A query for each stretch, and no snapshot is held."""
    rows = events.order_by("timestamp", "pk").values_list("timestamp", "pk", "value")
    found = list(rows[:_BATCH_EVENTS])
    while found:
        yield Stretch([microseconds_of(instant) for instant, _, _ in found], [value for _, _, value in found])
        last, pk, _ = found[-1]
        found = list(rows.filter(timestamp__gte=last).exclude(Q(timestamp=last, pk__lte=pk))[:_BATCH_EVENTS])


def _rows(file: ArchivedFile) -> Iterator[tuple[int, float]]:
    """Yield the events of a file. Raises ArchiveError where they are not those that the list says."""
    try:
        opened = store().open(file.path)
    except FileNotFoundError:
        raise ArchiveError(f"{file.path} is not in the archive any more.") from None
    start, end, found = microseconds_of(file.start), microseconds_of(file.end), Content()
    with told(), closing(opened):
        for stretch in parquet.read(opened, file.path):
            if not start <= min(stretch.microseconds) <= max(stretch.microseconds) < end:
                raise ArchiveError(f"{file.path} holds events that are not of its time; it may be damaged.")
            found.add(stretch)
            yield from zip(*stretch, strict=True)
    if (found.events, found.sum) != (file.events, file.sum):
        raise ArchiveError(f"{file.path} doesn't hold the {file.events} events that it held; it may be damaged.")


def _stretches(rows: Iterator[tuple[int, float]]) -> Iterator[Stretch]:
    while found := list(islice(rows, _BATCH_EVENTS)):
        yield Stretch([instant for instant, _ in found], [value for _, value in found])
