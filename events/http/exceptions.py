"""Errors of the API that REST framework has no class for."""

import sqlite3

import psycopg2.errors
from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError
from rest_framework import status
from rest_framework.exceptions import APIException

_SQLITE_AWAY = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN,
}  # fmt: skip
# Django knows them as InternalError, as it does mistakes of the database.
_POSTGRESQL_AWAY = (
    psycopg2.errors.ReadOnlySqlTransaction,  # another server has taken over, or there is no room
    psycopg2.errors.IdleInTransactionSessionTimeout,
    psycopg2.errors.TransactionTimeout,
)


def is_database_away(error: BaseException | None) -> bool:
    """Whether it says that the database is out of reach, locked, or takes no writes: the next attempt may succeed."""
    cause = error.__cause__ if error else None
    if isinstance(error, OperationalError) and isinstance(cause, sqlite3.Error):
        # SQLite has this one class for its own troubles and for mistakes in our statements
        return cause.sqlite_errorcode & 0xFF in _SQLITE_AWAY
    if type(error) is DatabaseError and isinstance(cause, psycopg2.Error):
        # what libpq says where it can't write any more, and where a warning was the last that it could read
        return cause.pgcode is None
    return isinstance(error, OperationalError | InterfaceError) or isinstance(cause, _POSTGRESQL_AWAY)


def is_read_only(error: BaseException | None) -> bool:
    """Whether it says that the server behind this connection takes no writes."""
    return isinstance(error.__cause__ if error else None, psycopg2.errors.ReadOnlySqlTransaction)


def is_cancelled(error: BaseException | None) -> bool:
    """Whether it says that the database cancelled a statement that took too long."""
    cause = error.__cause__ if error else None
    if isinstance(cause, sqlite3.Error):
        return getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_INTERRUPT
    return isinstance(cause, psycopg2.errors.QueryCanceled)


class RequestTooLarge(APIException):
    """413: more than a limit allows; the detail names the limit."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class IdempotencyKeyReused(APIException):
    """422: the key came before, with other events."""

    status_code = status.HTTP_422_UNPROCESSABLE_ENTITY
    default_code = "idempotency_key_reused"
    default_detail = "This Idempotency-Key was used for another body."


class RateLimited(APIException):
    """429 with ``Retry-After``: the client may send the request again."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_code = "rate_limited"

    def __init__(self, reason: str, wait_seconds: int) -> None:
        super().__init__(f"{reason}; try again in {wait_seconds} s.")
        self.wait = wait_seconds  # REST framework turns it into Retry-After


class ServiceUnavailable(APIException):
    """503 with ``Retry-After``: the client may send the request again."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "The database can't be reached or is busy; try again."

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.wait = settings.RETRY_AFTER_SECONDS  # REST framework turns it into Retry-After


class StatementCancelled(ServiceUnavailable):
    """503: the question took the database too long."""

    def __init__(self) -> None:
        super().__init__(f"Cancelled after {settings.STATEMENT_TIMEOUT_SECONDS} s; ask for less, or try again.")
