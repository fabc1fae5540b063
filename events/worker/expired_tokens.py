"""Deletes access tokens that have expired, in steps beside other work."""

from __future__ import annotations

import time
from collections.abc import Iterator

from django.utils import timezone
from oauth2_provider.models import AccessToken

STEP_TOKENS = 1_000
_PERIOD_SECONDS = 3_600


class ExpiredTokens:
    """The worker's turn at expired tokens: once an hour, and first at its start, all of them are deleted."""

    def __init__(self) -> None:
        self._due = time.monotonic()
        self._steps: Iterator[int] | None = None

    def delete_some(self) -> int:
        """Take one step where any is due; return how many tokens it deleted."""
        if self._steps is None:
            if time.monotonic() < self._due:
                return 0
            self._steps = delete_expired()
        steps, self._steps = (
            self._steps,
            None,
        )  # kept only once the step is done, so that after an error the next call begins anew
        deleted = next(steps, None)
        if deleted is None:
            self._due = time.monotonic() + _PERIOD_SECONDS
            return 0
        self._steps = steps
        return deleted


def delete_expired() -> Iterator[int]:
    """Delete all tokens that have expired by now; yield after each step how many tokens it deleted.

    The steps go by id, as the toolkit has no index of the expiry: each one reads STEP_TOKENS tokens, and no token is
    read twice.
    """
    now, last_id = timezone.now(), 0
    while tokens := list(
        AccessToken.objects.filter(pk__gt=last_id).order_by("pk").values_list("pk", "expires")[:STEP_TOKENS]
    ):
        expired = [pk for pk, expires in tokens if expires <= now]
        # the expiry is asked for again, as a token may have been prolonged meanwhile
        _, deleted = AccessToken.objects.filter(pk__in=expired, expires__lte=now).delete()
        last_id = tokens[-1][0]
        yield deleted.get(AccessToken._meta.label, 0)
