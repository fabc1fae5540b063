"""The tables of what clients may do and have done, and of long-lived tokens."""

from __future__ import annotations

from functools import cached_property

from django.db import models
from typing_extensions import override

from events.log.namespace_patterns import ALL, Namespaces, validate_patterns


def _patterns() -> models.TextField[str, str]:
    return models.TextField(
        default=ALL,
        blank=True,
        validators=[validate_patterns],
        help_text="One pattern a line, case and blanks count: “Shop” is that namespace, “Shop-*” is all that begin "
        "with “Shop-”, “*” is all. Empty: the client may not ask for this scope.",
    )


def _limit(setting: str) -> models.PositiveIntegerField[int | None, int | None]:
    return models.PositiveIntegerField(null=True, blank=True, help_text=f"Empty: {setting} holds. 0: no limit.")


class Grant(models.Model):
    """What an OAuth2 application may do; one without a grant may do everything."""

    application = models.OneToOneField(
        "oauth2_provider.Application",
        on_delete=models.CASCADE,
        related_name="client_grant",  # the toolkit has a model Grant too, for authorization codes
    )
    write_namespaces = _patterns()
    read_namespaces = _patterns()
    aggregation_namespaces = _patterns()
    requests_a_minute = _limit("RATE_LIMIT_REQUESTS")
    events_a_minute = _limit("RATE_LIMIT_EVENTS")
    new_series_a_day = _limit("RATE_LIMIT_NEW_SERIES")

    @override
    def __str__(self) -> str:
        return f"{self.application}: {' '.join(sorted(self.scopes)) or 'nothing'}"

    @property
    def scopes(self) -> set[str]:
        """Return the scopes that the client may ask for: those with a namespace that it may use them in."""
        return {scope for scope, namespaces in self._namespaces.items() if namespaces}

    def namespaces(self, scope: str) -> Namespaces:
        """Return the namespaces in which the client may use a scope."""
        return self._namespaces[scope]

    @cached_property
    def _namespaces(self) -> dict[str, Namespaces]:
        return {
            "write": Namespaces.of(self.write_namespaces),
            "read": Namespaces.of(self.read_namespaces),
            "aggregation": Namespaces.of(self.aggregation_namespaces),
        }


class ClientUsage(models.Model):
    """What a client has sent so far, as `events.access.usage` counts it."""

    client = models.CharField(max_length=255)
    last_used = models.DateTimeField()
    requests = models.BigIntegerField()
    events = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["client"], name="client_usage_once_a_client")]
        default_permissions = ()
        verbose_name_plural = "client usage"

    @override
    def __str__(self) -> str:
        return f"{self.client}: {self.events} events"


class LongLivedToken(models.Model):
    """What is known of a long-lived token besides its row in the toolkit's table."""

    token = models.OneToOneField(
        "oauth2_provider.AccessToken",
        on_delete=models.CASCADE,
        primary_key=True,
        related_name="long_lived",
        db_constraint=False,  # with a constraint, whoever deletes a token in SQL would have to delete this row first
    )
    name = models.CharField(max_length=100)
    last_used = models.DateTimeField(null=True, help_text="To some seconds; `events.access.usage` writes it.")

    class Meta:
        default_permissions = ()

    @override
    def __str__(self) -> str:
        return self.name
