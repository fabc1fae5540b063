"""Errors of the API that REST framework has no class for."""

from django.conf import settings
from rest_framework import status
from rest_framework.exceptions import APIException

MOST_ITEMS_NAMED = 100  # an error names this many wrong items of a batch


class RequestTooLarge(APIException):
    """413: more than a limit allows; the detail names the limit."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class IdempotencyKeyReused(APIException):
    """422: the client used the key before, for other events."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"
    default_detail = "This Idempotency-Key was used for another body."


class RateLimited(APIException):
    """429 with ``Retry-After``: the client has sent too much, and may send the request again later."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_code = "rate_limited"

    def __init__(self, reason: str, wait_seconds: int) -> None:
        super().__init__(f"{reason}; try again in {wait_seconds} s.")
        self.wait = wait_seconds  # REST framework turns it into Retry-After


class ServiceUnavailable(APIException):
    """503 with ``Retry-After``: the service can't answer now; the client may send the request again."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "The database can't be reached or is busy; try again."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.wait = settings.RETRY_AFTER_SECONDS  # REST framework turns it into Retry-After


class StatementCancelled(ServiceUnavailable):
    """503: the database took longer than STATEMENT_TIMEOUT_SECONDS, so the statement was cancelled."""

    def __init__(self) -> None:
        super().__init__(f"Cancelled after {settings.STATEMENT_TIMEOUT_SECONDS} s; ask for less, or try again.")
