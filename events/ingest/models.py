"""Owns the idempotency keys: which requests were carried out, so that they do nothing when they are sent again."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone
from typing_extensions import override


class IdempotencyKeyQuerySet(models.QuerySet["IdempotencyKey"]):
    """Keys chosen by age."""

    def older_than(self, age: timedelta) -> IdempotencyKeyQuerySet:
        """Choose the keys whose requests came longer ago than an age."""
        return self.filter(created__lt=timezone.now() - age)


class IdempotencyKey(models.Model):
    """A request that was carried out: sent again by the same client with the same key, it does nothing."""

    client = models.CharField(max_length=255)
    key = models.CharField(max_length=100)
    digest = models.CharField(max_length=64, help_text="SHA-256 of the events.")
    created = models.DateTimeField(auto_now_add=True)

    objects = IdempotencyKeyQuerySet.as_manager()

    class Meta:
        # Serves the deletion of old keys.
        indexes = [models.Index(fields=["created"], name="idempotency_key_created")]
        constraints = [models.UniqueConstraint(fields=["client", "key"], name="idempotency_key_once_a_client")]

    @override
    def __str__(self) -> str:
        return f"{self.key} of {self.client}"
