"""Owns the exceptions. Tracking raises none of them; reading and annotating do."""

from __future__ import annotations


class TrackingError(Exception):
    """Anything that keeps a question from being answered, or an annotation from being stored."""


class Unreachable(TrackingError):
    """No whole answer came: no connection, one that broke off, or a time that ran out."""


class RequestRefused(TrackingError):
    """The service answered with an error; ``status`` and ``body`` are its own."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class CredentialsRefused(RequestRefused):
    """The service gives no token for this client id, secret and scope."""
