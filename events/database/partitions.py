"""Tells which partition of the log a series is in: there is one on a single machine, and several on a cluster.

Everything that one answer merges lies in one partition: the events of a series, its rollups, how far it is pruned, and
the watermark of that partition. The rows of the watermarks say which partitions there are, so no setting can say
otherwise.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from hashlib import md5
from typing import TypeVar

from django.db import connection

from events.database.dialect import choose

# The key of the only partition. Its events have no key, which costs them no byte.
ONLY = 1
NODE = "node{}"  # a key of a watermark's JSON; SQLite would take one of digits for the place in a list
_WATERMARKS = "events_watermark"
# By the whole row, as the tables may be older than this column.
_KEYS = {
    "postgresql": f"SELECT mark.id, to_jsonb(mark) ->> 'of_nodes' FROM {_WATERMARKS} AS mark ORDER BY mark.id",  # noqa: S608
    "sqlite": f"SELECT id, NULL FROM {_WATERMARKS} ORDER BY id",  # noqa: S608
}

_KeyT = TypeVar("_KeyT", bound=tuple[str, str])

_known: tuple[int, ...] | None = None
_origins: tuple[int, ...] = (0,)


def keys() -> tuple[int, ...]:
    """Return the keys of the partitions in order; none where there is a single one. One query in a process."""
    global _known
    if _known is None:
        with connection.cursor() as cursor:
            cursor.execute(choose(**_KEYS))
            rows = cursor.fetchall()
        _known = tuple(key for key, _ in rows) if len(rows) > 1 else ()
        for _, of_nodes in rows:
            learn_origins(int(node.removeprefix(NODE.format(""))) for node in json.loads(of_nodes or "{}"))
    return _known


def every() -> tuple[int | None, ...]:
    """Return the keys of the partitions, and None for the only one where there is a single one."""
    return keys() or (None,)


def are_several() -> bool:
    """Tell whether the log has several partitions."""
    return bool(keys())


def origins() -> tuple[int, ...]:
    """Return the origins of ids that this process has seen a mark of, in order. No query.

    Others may have come since, so this is for finding events fast, and must not decide which ones are found.
    """
    return _origins


def learn_origins(found: Iterable[int]) -> None:
    """Remember that there are these origins."""
    global _origins
    if new := set(found).difference(_origins):
        _origins = tuple(sorted(new.union(_origins)))


def partition_of(namespace: str, name: str) -> int | None:
    """Return the key of a series' partition; None where there is a single one."""
    return _partition_of(namespace, name) if keys() else None


def by_partition(series: Iterable[_KeyT]) -> dict[int | None, list[_KeyT]]:
    """Return the series of each partition that has any of them."""
    found: defaultdict[int | None, list[_KeyT]] = defaultdict(list)
    for key in series:
        found[partition_of(*key)].append(key)
    return dict(found)


def and_within(partition: int | None, table: str) -> str:
    """Write the rest of a condition that chooses the rows of a partition; nothing for the only one, which is None."""
    return "" if partition is None else f" AND {table}.partition = {partition}"


def forget() -> None:
    """Look the keys up again when they are needed next."""
    global _known
    _known = None
    _partition_of.cache_clear()


@lru_cache(maxsize=100_000)
def _partition_of(namespace: str, name: str) -> int:
    return key_of(keys(), namespace, name)


def key_of(of: Sequence[int], namespace: str, name: str) -> int:
    """Return the key of the partition that a series has among those with the keys ``of``."""
    digest = md5(f"{namespace}/{name}".encode(), usedforsecurity=False).hexdigest()
    return of[int(digest[:8], 16) % len(of)]
