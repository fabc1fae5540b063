"""Stores annotations, each once for an ``Idempotency-Key``."""

from __future__ import annotations

import hashlib
import json
from uuid import UUID, uuid5

from django.db import transaction

from events.annotations.models import Annotation
from events.http.exceptions import IdempotencyKeyReused
from events.ingest.models import IdempotencyKey

_IDS = UUID("5b9c8a3e-3a63-4d0b-9b7e-6f6d1d3f2c41")


def store(annotation: Annotation, client: str, idempotency_key: str | None) -> None:
    """Store a new annotation.

    Where this client used the key before for the same annotation, nothing is stored, and the annotation gets the id
    that it got the first time. Raises IdempotencyKeyReused where the key was used for anything else.
    """
    if idempotency_key is None:
        annotation.save(force_insert=True)
        return
    content = {name: value for name, value in annotation.answered().items() if name != "id"}
    digest = hashlib.sha256(f"annotation {json.dumps(content)}".encode()).hexdigest()
    with transaction.atomic():
        first, is_new = IdempotencyKey.objects.get_or_create(
            client=client, key=idempotency_key, defaults={"digest": digest}
        )
        # the id follows from the first request, so that nothing more need be kept of it
        annotation.key = uuid5(_IDS, f"{first.created.timestamp():.6f} {client} {idempotency_key}")
        if is_new:
            annotation.save(force_insert=True)
    if first.digest != digest:
        raise IdempotencyKeyReused
