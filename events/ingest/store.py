"""Stores the events of a request, once for each idempotency key."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from events.access.usage import usage_meter
from events.http.exceptions import IdempotencyKeyReused
from events.ingest.decoding import Batch
from events.ingest.models import IdempotencyKey
from events.log import append
from events.observability.observation import current

MOST_KEY_CHARACTERS = 100


def idempotency_key_of(request: Request) -> str | None:
    """Return the ``Idempotency-Key`` header of a request; None without one. Raises ValidationError."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not 1 <= len(key) <= MOST_KEY_CHARACTERS:
        raise ValidationError({"Idempotency-Key": [f"Must have 1 to {MOST_KEY_CHARACTERS} characters."]})
    # readers differ in how they decode other characters of a header (RFC 9110, 5.5), and so in which key it is
    if not (key.isascii() and key.isprintable()):
        raise ValidationError({"Idempotency-Key": ["Must be of printable ASCII characters only."]})
    return key


def store(batch: Batch, client: str, idempotency_key: str | None) -> dict[str, Any]:
    """Commit the events, all or none, and return the answer.

    Where this client used the key before for the same events, nothing is stored and the answer is the one of the first
    time. A request under way with the same key is waited for. Raises IdempotencyKeyReused where the key was used for
    other events. One query without a key; with one five at most, in one transaction.
    """
    if idempotency_key is None:
        append.append(batch.rows)
        count_stored(batch, client)
        return batch.answer()
    digest = batch.digest()
    with transaction.atomic():
        first, is_new = IdempotencyKey.objects.get_or_create(
            client=client, key=idempotency_key, defaults={"digest": digest}
        )
        if is_new:
            append.append(batch.rows)
    if is_new:
        count_stored(batch, client)
    if first.digest != digest:
        raise IdempotencyKeyReused
    return batch.answer()  # it follows from the events, so it equals the answer of the first time


def count_stored(batch: Batch, client: str) -> None:
    """Count events that are committed, for their client and in the record of the request."""
    current().events = len(batch.rows)
    usage_meter.count_events(client, len(batch.rows))
