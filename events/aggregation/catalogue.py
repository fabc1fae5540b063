"""Owns the catalogue: which series there are, by namespace and name, read from the rollups and the tail."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from heapq import merge
from itertools import chain, groupby, islice, starmap
from operator import itemgetter, or_
from typing import Any, NamedTuple, TypedDict

from django.conf import settings
from django.db.models import Case, Count, F, Func, Max, Min, Q, QuerySet, Subquery, Value
from django.db.models.functions import Collate, Concat
from rest_framework.exceptions import ValidationError

from events.calendar import timestamps
from events.database import partitions, reading
from events.database.dialect import is_postgresql
from events.database.snapshot import snapshot
from events.database.statement_timeout import restart_clock
from events.log.models import Event, EventQuerySet, belonging
from events.log.namespace_patterns import EVERYWHERE, Namespaces
from events.log.series import SeriesKey
from events.rollups.models import Rollup, Watermark
from events.rollups.moves import Move
from events.worker import pacing

_COLUMNS = ("namespace_key", "name_key", "count", "first_timestamp", "last_timestamp")
_ROWS_AT_A_TIME = 5_000
# Each part of a statement reads as many series as a page has, so a statement may not have many parts.
_PARTS_A_STATEMENT = 50
_Row = tuple[Any, ...]
_Rows = QuerySet[Any, _Row]
_LAST_CODE_POINT, _BEFORE_SURROGATES, _AFTER_SURROGATES = "\U0010ffff", "\ud7ff", "\ue000"


class Series(TypedDict):
    """One line of the catalogue: how many events a series has, and the timestamps of the first and the last."""

    namespace: str
    name: str
    count: int
    first_timestamp: datetime
    last_timestamp: datetime


class Page(NamedTuple):
    """Some series, and whether there are more after them."""

    series: list[Series]
    has_more: bool


@dataclass(frozen=True)
class Tail:
    """What is past the watermarks in a snapshot: of how many ids; of events, where there are several partitions."""

    watermarks: dict[int | None, Watermark]
    count: int

    @classmethod
    def look(cls) -> Tail:
        """Look the watermarks up. One query; two where there are several partitions, or none is stored."""
        if partitions.are_several():
            past = Event.objects.past_watermarks().values("pk")[: settings.ROLLUP_TAIL_EVENTS + 1]
            return cls({watermark.pk: watermark for watermark in Watermark.objects.all()}, past.count())
        newest = Event.objects.order_by("-pk").values("pk")[:1]
        found: Any = Watermark.objects.of_partition(None).annotate(newest_id=Subquery(newest)).first()
        if found is None:
            return cls({None: Watermark.objects.at_start(None)}, newest.values_list("pk", flat=True).first() or 0)
        return cls({None: found}, max(0, (found.newest_id or 0) - found.event_id))

    @property
    def moves(self) -> list[Move]:
        """List what is under way with series."""
        return [watermark.move for watermark in self.watermarks.values() if watermark.move]

    @property
    def is_there(self) -> bool:
        """Tell whether the log may have events that are not in the rollups of their series."""
        return bool(self.count or self.moves)

    @property
    def is_long(self) -> bool:
        """Tell whether it is to be rolled up first; on a replica nothing can be, and to wait would not help."""
        return self.count > settings.ROLLUP_TAIL_EVENTS and not reading.is_of_replica()

    def events(self) -> EventQuerySet:
        """Choose the events that no rollup of their series holds; ``belonging`` tells their series."""
        marks = self.watermarks[None].marks if None in self.watermarks else None
        return Event.objects.not_rolled_up(marks, self.moves)

    def names(self) -> list[F | Case]:
        """Return the expressions for the namespace and the name of the series that an event belongs to."""
        return [belonging(field, self.moves) for field in SeriesKey._fields]


@dataclass(frozen=True)
class Catalogue:
    """The series of some namespaces, of them only those with one of some names, and ``search`` in ``namespace/name``.

    ``search`` may be in upper or lower case. Series are ordered by the code points of namespace and name, not by the
    collation of the database.
    """

    namespaces: Namespaces = EVERYWHERE
    names: Namespaces = EVERYWHERE  # by patterns, too
    search: str = ""

    def page(self, limit: int, after: SeriesKey | None = None) -> Page:
        """Return the first series, or the first ones past ``after``, no more than ``limit``; ``after`` need not exist.

        The cost grows with ``limit`` and the length of the tail, not with the number of series, unless a name or a text
        is searched for. Three queries on one snapshot: the watermark, the rollups, and the tail where there is one. A
        tail longer than ROLLUP_TAIL_EVENTS is rolled up first, as far as that is done within a second.
        """
        with snapshot():
            tail = Tail.look()
            if not tail.is_long:
                return self._page(tail, limit, after)
        pacing.wait_for_catching_up()
        with snapshot():
            return self._page(Tail.look(), limit, after)

    def whole(self, after: SeriesKey | None = None) -> Page:
        """Return every series, on a single page. Raises ValidationError where there are more than ``MAX_SERIES``."""
        page = self.page(settings.MAX_SERIES, after)
        if page.has_more:
            advice = "ask for a limit of them at a time, after the last of those before, or for format=csv or ndjson"
            raise ValidationError({"limit": [f"There are more than {settings.MAX_SERIES} series; {advice}."]})
        return page

    def iterate(self, after: SeriesKey | None = None) -> Iterator[Series]:
        """Yield every series, with some thousands in memory at a time, from a snapshot that lasts until the last one.

        The database groups the tail, once for many parts.
        """
        shorten_tail()
        with snapshot():
            yield from self.within(Tail.look(), after)

    def within(self, tail: Tail, after: SeriesKey | None = None) -> Iterator[Series]:
        """Yield every series as ``iterate`` does, from the caller's snapshot, in which the tail was looked up."""
        return starmap(_line, self._grouped(tail, after))

    def keys(self) -> Iterator[SeriesKey]:
        """Yield the key of every series, as ``iterate`` yields its line, in a fraction of the time."""
        shorten_tail()
        with snapshot():
            yield from (SeriesKey(*key) for key, _ in self._grouped(Tail.look()))

    def _grouped(self, tail: Tail, after: SeriesKey | None = None) -> Iterator[tuple[tuple[str, str], Iterable[_Row]]]:
        parts = _parts(self.namespaces, after)
        while some := list(islice(parts, _PARTS_A_STATEMENT)):
            rolled_up = chain.from_iterable(_iterated(self._rolled_up(part)) for part in some)
            yield from _grouped(rolled_up, _iterated(self._tail(some, tail)) if tail.is_there else ())

    def _page(self, tail: Tail, limit: int, after: SeriesKey | None) -> Page:
        parts = _parts(self.namespaces, after)
        found: list[Series] = []
        while len(found) <= limit and (some := list(islice(parts, _PARTS_A_STATEMENT))):
            found += self._of_parts(some, tail, limit + 1 - len(found))
        return Page(found[:limit], len(found) > limit)

    def _of_parts(self, parts: Sequence[Q], tail: Tail, most: int) -> Iterable[Series]:
        """Return the first series of the parts, merged from the first ones of the rollups and of the tail."""
        rows = _fetch([self._rolled_up(part)[:most] for part in parts], most)
        if not tail.is_there:
            return map(_series, rows)
        of_tail = self._tail(parts, tail, SeriesKey(*rows[-1][:2]) if len(rows) == most else None)
        return islice(starmap(_line, _grouped(rows, of_tail[:most])), most)

    def _rolled_up(self, part: Q) -> _Rows:
        keys = {f"{field}_key": _by_code_point(F(field), of_rollups=True) for field in SeriesKey._fields}
        rollups = self._searched(Rollup.objects.whole_series().annotate(**keys), *map(F, SeriesKey._fields))
        rows: _Rows = rollups.filter(part).order_by(*keys).values_list(*_COLUMNS)
        return rows

    def _tail(self, parts: Sequence[Q], tail: Tail, last: SeriesKey | None = None) -> _Rows:
        """Choose the series of the tail up to ``last``; events are read by id, and only fitting ones are grouped."""
        names = tail.names()
        keys = {
            f"{field}_key": _by_code_point(name, of_rollups=False)
            for field, name in zip(SeriesKey._fields, names, strict=True)
        }
        events = self._searched(tail.events().order_by().annotate(**keys), *names)
        fits = reduce(or_, parts)
        if last is not None:
            fits &= Q(namespace_key__lt=last.namespace) | Q(namespace_key=last.namespace, name_key__lte=last.name)
        found = events.filter(fits).values(*keys).annotate(
            count=Count("pk"), first_timestamp=Min("timestamp"), last_timestamp=Max("timestamp")
        )  # fmt: skip
        rows: _Rows = found.order_by(*keys).values_list(*_COLUMNS)
        return rows

    def _searched(self, rows: Any, namespace: Any, name: Any) -> Any:
        if "" not in self.names.prefixes:
            beginnings = [Q(name_key__gte=text) & _before_end_of(text, "name_key") for text in self.names.prefixes]
            rows = rows.filter(reduce(or_, beginnings, Q(name_key__in=self.names.exact)))
        if not self.search:
            return rows
        rows = rows.alias(key=Concat(namespace, Value("/"), name))
        if not is_postgresql():  # its LIKE ignores case only for the letters A to Z
            return rows.filter(key__iregex=re.escape(self.search))
        return rows.filter(key__icontains=self.search)


def find(key: SeriesKey) -> Series | None:
    """Return the line of one series; None where it has no events. The queries are those of ``Catalogue.page``."""
    namespaces, names = (Namespaces(frozenset([text]), ()) for text in key)
    lines = Catalogue(namespaces, names).page(1).series
    return lines[0] if lines else None


def answered(series: Series) -> dict[str, Any]:
    """Write a series as the API returns it."""
    return {
        "namespace": series["namespace"],
        "name": series["name"],
        "count": series["count"],
        "firstTimestamp": timestamps.to_text(series["first_timestamp"]),
        "lastTimestamp": timestamps.to_text(series["last_timestamp"]),
    }


def shorten_tail() -> None:
    """Roll the tail up where it is longer than ROLLUP_TAIL_EVENTS, as far as that is done within a second."""
    if Tail.look().is_long:
        pacing.wait_for_catching_up()


def _by_code_point(field: F | Case, *, of_rollups: bool) -> F | Func:
    """Build an expression of a field that sorts and compares by code point; for rollups it can use their index."""
    if is_postgresql():
        return Collate(field, "C")
    # for the tail a text that no index has, or SQLite would read a whole index of the log instead of the tail's events
    return field if of_rollups and isinstance(field, F) else Concat(field, Value(""))


def _parts(namespaces: Namespaces, after: SeriesKey | None) -> Iterator[Q]:
    """Yield conditions on the keys that together choose the series of the namespaces past ``after``.

    No two conditions choose the same series, and they come in the order of the series.
    """
    patterns = [(text, True) for text in namespaces.exact] + [(text, False) for text in namespaces.prefixes]
    covering: str | None = None
    for text, is_exact in sorted(patterns):
        if covering is not None and text.startswith(covering):
            continue
        if not is_exact:
            covering = text
        if after is None or text > after.namespace:
            yield Q(namespace_key=text) if is_exact else Q(namespace_key__gte=text) & _before_end_of(text)
        elif text == after.namespace if is_exact else after.namespace.startswith(text):
            yield Q(namespace_key=after.namespace, name_key__gt=after.name)
            if not is_exact:
                yield Q(namespace_key__gt=after.namespace) & _before_end_of(text)


def _before_end_of(prefix: str, key: str = "namespace_key") -> Q:
    """Build the condition that a key sorts, by code point, before the first text past all that have a prefix."""
    shortened = prefix.rstrip(_LAST_CODE_POINT)
    if not shortened:
        return Q()
    last = shortened[-1]
    following = _AFTER_SURROGATES if last == _BEFORE_SURROGATES else chr(ord(last) + 1)
    return Q((f"{key}__lt", shortened[:-1] + following))


def _fetch(parts: Sequence[_Rows], most: int) -> list[_Row]:
    """Fetch the first rows of all parts, ``most`` at most, by one statement."""
    if len(parts) == 1:
        return list(parts[0])
    texts, parameters = zip(*(part.query.sql_with_params() for part in parts), strict=True)
    union = " UNION ALL ".join(f"SELECT * FROM ({text}) AS part" for text in texts)  # noqa: S608
    sql = f"SELECT * FROM ({union}) AS parts ORDER BY namespace_key, name_key LIMIT {most}"  # noqa: S608
    with reading.connection().cursor() as cursor:
        cursor.execute(sql, list(chain.from_iterable(parameters)))
        rows: list[_Row] = cursor.fetchall()
        return rows


def _iterated(rows: _Rows) -> Iterator[_Row]:
    if not is_postgresql():  # there the ORM takes longer to make instants of texts than all else takes together
        yield from _read(*rows.query.sql_with_params())
        return
    for number, row in enumerate(rows.iterator(_ROWS_AT_A_TIME)):
        if number % _ROWS_AT_A_TIME == 0:
            restart_clock(reading.connection())
        yield row


def _read(sql: str, parameters: Sequence[Any]) -> Iterator[_Row]:
    with reading.connection().cursor() as cursor:
        cursor.execute(sql, parameters)
        while rows := cursor.fetchmany(_ROWS_AT_A_TIME):
            restart_clock(reading.connection())
            yield from rows


def _grouped(rolled_up: Iterable[_Row], tail: Iterable[_Row]) -> Iterator[tuple[tuple[str, str], Iterable[_Row]]]:
    """Merge the rows of rollups and tail in order; those of a series, which may have some in each, are one group."""
    return groupby(merge(rolled_up, tail, key=itemgetter(0, 1)), itemgetter(0, 1))


def _line(_key: tuple[str, str], rows: Iterable[_Row]) -> Series:
    return reduce(_added, map(_series, rows))


def _added(one: Series, other: Series) -> Series:
    one["count"] += other["count"]
    one["first_timestamp"] = min(one["first_timestamp"], other["first_timestamp"])
    one["last_timestamp"] = max(one["last_timestamp"], other["last_timestamp"])
    return one


def _series(row: _Row) -> Series:
    namespace, name, count, first, last = row
    return Series(
        namespace=namespace, name=name, count=count, first_timestamp=_instant(first), last_timestamp=_instant(last)
    )


def _instant(given: datetime | str) -> datetime:
    """Return the instant in UTC; for raw SQL, SQLite's driver returns a text or an instant without a zone."""
    instant = datetime.fromisoformat(given) if isinstance(given, str) else given
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
