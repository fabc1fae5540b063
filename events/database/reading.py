"""Tells which database a request reads, the primary or its replica; all that it writes goes to the primary."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

REPLICA = "replica"

_T = TypeVar("_T")
_alias: ContextVar[str] = ContextVar("reading", default=DEFAULT_DB_ALIAS)


def connection() -> BaseDatabaseWrapper:
    """Return this thread's connection to the database that is read."""
    return connections[_alias.get()]


def is_of_replica() -> bool:
    """Tell whether the replica is read, so that nothing can be written there, nor need be for its sake."""
    return _alias.get() == REPLICA


@contextmanager
def reading(alias: str) -> Iterator[None]:
    """Read this database within the block, by the ORM and by ``connection``."""
    token = _alias.set(alias)
    try:
        yield
    finally:
        _alias.reset(token)


def kept(items: Generator[_T, None, None]) -> Generator[_T, None, None]:
    """Have a generator that runs later, perhaps in another thread, read the database that this thread reads now."""
    return _kept(items, _alias.get())


def _kept(items: Generator[_T, None, None], alias: str) -> Generator[_T, None, None]:
    # set anew for each item, as what a generator sets would hold for its caller too between two of them
    try:
        while True:
            with reading(alias):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item
    finally:
        with reading(alias):
            items.close()


class ReplicaRouter:
    """Leads the ORM's reads to the database that is read, and everything else to the primary."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Return the replica where it is read; None elsewhere, for which Django takes the primary."""
        return REPLICA if is_of_replica() else None

    def db_for_write(self, model: Any, **hints: Any) -> str:
        """Return the primary, also for objects that came from the replica."""
        return DEFAULT_DB_ALIAS

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        """Allow every relation, as both databases hold the same rows."""
        return True

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Refuse to migrate the replica, which takes over the primary's tables."""
        return False if db == REPLICA else None
