"""Compares what clients ask for with what they are granted; a client without a grant may do everything."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from rest_framework.exceptions import PermissionDenied

from events.access.models import Grant
from events.http.exceptions import MOST_ITEMS_NAMED
from events.log.append import Row
from events.log.namespace_patterns import EVERYWHERE, Namespaces

_namespace_of = attrgetter("namespace")


def check_namespace(grant: Grant | None, scope: str, namespace: str) -> None:
    """Raise PermissionDenied where the client may not use the scope in a namespace, which need not exist."""
    if grant is not None and namespace not in grant.namespaces(scope):
        raise PermissionDenied({"namespace": [_refusal(scope, namespace)]})


def check_rows(grant: Grant | None, rows: Sequence[Row], *, single: bool) -> None:
    """Raise PermissionDenied where the client may not write all of the rows; of a batch it names the first by index."""
    if grant is None:
        return
    granted = grant.namespaces("write")
    refused = {namespace for namespace in set(map(_namespace_of, rows)) if namespace not in granted}
    if not refused:
        return
    if single:
        check_namespace(grant, "write", rows[0].namespace)
    indexes = [index for index, row in enumerate(rows) if row.namespace in refused][:MOST_ITEMS_NAMED]
    raise PermissionDenied({str(index): {"namespace": [_refusal("write", rows[index].namespace)]} for index in indexes})


def readable_namespaces(grant: Grant | None) -> Namespaces:
    """Return the namespaces whose series the client may list."""
    return EVERYWHERE if grant is None else grant.namespaces("read")


def _refusal(scope: str, namespace: str) -> str:
    return f"The client is not granted the scope {scope} in “{namespace}”."
