"""Adds annotations: what happened and explains the numbers of a namespace."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime

from tracking_client.calling import Caller
from tracking_client.errors import RequestRefused

_PATH = "/api/annotations/"
Instant = datetime | float


def annotate(
    caller: Caller, namespace: str, title: str, timestamp: Instant | None, end: Instant | None, text: str,
    tags: Iterable[str],
) -> str:  # fmt: skip
    """Add an annotation, once however often it is sent, and return its id. Raises TrackingError."""
    annotation = {
        "namespace": namespace, "title": title, "text": text, "tags": [*tags],
        "timestamp": _written(datetime.now(UTC) if timestamp is None else timestamp),
        "end": None if end is None else _written(end),
    }  # fmt: skip
    headers = {"Content-Type": "application/json", "Idempotency-Key": uuid.uuid4().hex}
    answer = caller.call("POST", _PATH, "write", headers, json.dumps(annotation).encode())
    found = answer.json()
    if not isinstance(found, dict) or not isinstance(found.get("id"), str):  # something answers in place of the service
        raise RequestRefused(answer.status, answer.text)
    return str(found["id"])


def _written(instant: Instant) -> str | float:
    return instant.isoformat() if isinstance(instant, datetime) else instant
