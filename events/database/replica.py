"""Chooses between the primary and its replica for a request that reads, by how old the replica's data may be.

The replica is a streaming standby. Its age is never taken from its own word: a standby that hears nothing more would
say that it has replayed all it received. The primary is asked where its log ends, at most every half a second in a
process. A replica that has replayed up to there has every event that was acknowledged before that was asked. Else the
time of its last transaction counts, against the same clock of the primary. Both may only say too much.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from math import ceil
from typing import Any, NamedTuple, TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from typing_extensions import override

from events.database.errors import is_cancelled, is_database_away
from events.database.reading import REPLICA, reading

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_SAMPLE_SECONDS = 0.5
_KEPT_SAMPLES = 20
# What both must have in common: the server, the database, its migrations and its partitions.
_IDENTITY = """
    (SELECT system_identifier FROM pg_control_system()), current_database()::text,
    (SELECT count(*) FROM django_migrations), (SELECT count(*) FROM events_watermark)
"""
_ASK_PRIMARY = f"""
    SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), '0/0')::bigint, extract(epoch FROM clock_timestamp())::float8,
        {_IDENTITY}
"""  # noqa: S608
_ASK_REPLICA = f"""
    SELECT pg_is_in_recovery(), EXISTS (SELECT FROM pg_stat_wal_receiver),
        pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint,
        extract(epoch FROM pg_last_xact_replay_timestamp())::float8, {_IDENTITY}
"""  # noqa: S608


class Source(NamedTuple):
    """The database that an answer was read from; its text is what the header ``Tracking-Read`` says."""

    alias: str = DEFAULT_DB_ALIAS
    lag_seconds: float = 0.0

    @override
    def __str__(self) -> str:
        if self.alias != REPLICA:
            return "primary"
        return f"replica; lag={ceil(self.lag_seconds * 10) / 10}"  # rounded up, as it says how old at most


class _Sample(NamedTuple):
    at: float  # on this process's clock, just before the primary was asked
    position: int  # up to where the primary's log was on its disk
    clock: float  # the primary's, in unix seconds
    identity: tuple[Any, ...]


_PRIMARY = Source()
_samples: tuple[_Sample, ...] = ()
_rests_until = 0.0


def is_configured() -> bool:
    """Tell whether DATABASE_REPLICA_URL is set."""
    return REPLICA in settings.DATABASES


def read_from(source: str, read: Callable[[], _T]) -> tuple[_T, Source]:
    """Read, from the replica where ``source`` asks for that and it will do; return what was read, and where.

    Where the replica goes away meanwhile, or gives the reading up for the sake of its replay, the primary is read. A
    replica costs its reader one query, and the primary's log one more where the last one is half a second ago.
    """
    chosen = _choose() if source == REPLICA else _PRIMARY
    if chosen.alias == REPLICA:
        try:
            with reading(REPLICA):
                return read(), chosen
        except (DatabaseError, InterfaceError) as error:
            if is_cancelled(error) or not is_database_away(error):
                raise
            _rest(error)
    return read(), _PRIMARY


def find_fault() -> str | None:
    """Say why the replica would not be read, apart from its lag; None where all is well. Two queries.

    Raises DatabaseError where either database is out of reach.
    """
    return _look(_ask_primary())[1]


def _choose() -> Source:
    if not is_configured() or time.monotonic() < _rests_until:
        return _PRIMARY
    try:
        lag_seconds, fault = _look(_newest_sample())
    except (DatabaseError, InterfaceError) as error:
        _rest(error)
        return _PRIMARY
    if fault or lag_seconds > settings.READ_REPLICA_MAX_LAG_SECONDS:
        return _PRIMARY
    return Source(REPLICA, lag_seconds)


def _look(sample: _Sample) -> tuple[float, str | None]:
    """Return how old the replica's data is at most, and what is wrong with it, if anything."""
    is_standby, is_streaming, position, last_transaction, *identity = _ask(REPLICA, _ASK_REPLICA)
    server, database, *versions = identity
    if not is_standby:
        return 0.0, "it is no standby"
    if (server, database) != sample.identity[:2]:
        return 0.0, "it is a standby of another server, or another database there"
    if not is_streaming:
        return 0.0, "it receives nothing from a primary"
    if tuple(versions) != sample.identity[2:]:
        return 0.0, "it doesn't have the migrations or partitions of the primary yet"
    now = time.monotonic()
    ages = [now - each.at for each in _samples if each.position <= position]
    if last_transaction is not None:
        ages.append(now - sample.at + max(0.0, sample.clock - last_transaction))
    return min(ages, default=float("inf")), None


def _newest_sample() -> _Sample:
    if _samples and time.monotonic() - _samples[-1].at < _SAMPLE_SECONDS:
        return _samples[-1]
    return _ask_primary()


def _ask_primary() -> _Sample:
    global _samples
    at = time.monotonic()
    position, clock, *identity = _ask(DEFAULT_DB_ALIAS, _ASK_PRIMARY)
    sample = _Sample(at, position, clock, tuple(identity))
    _samples = (*_samples[1 - _KEPT_SAMPLES :], sample)  # a new tuple, as other threads read the one before
    return sample


def _ask(alias: str, sql: str) -> tuple[Any, ...]:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        row: tuple[Any, ...] = cursor.fetchone()
        return row


def _rest(error: Exception) -> None:
    """Leave the replica alone for a while, as every request would wait as long for a machine that is gone."""
    global _rests_until
    seconds = settings.DATABASE_TIMEOUT_SECONDS
    _rests_until = time.monotonic() + seconds
    logger.warning("The replica is not read for %s s: %s", seconds, str(error).strip().partition("\n")[0])
