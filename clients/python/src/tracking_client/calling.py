"""Calls the service while the program waits for what it says."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tracking_client.errors import RequestRefused, Unreachable
from tracking_client.retries import RETRIED, Backoff, retry_after_of
from tracking_client.tokens import Tokens, TryLater
from tracking_client.transport import Answer, Transport


class Caller:
    """Calls, and calls again where the service says so, for as long as ``timeout_seconds``."""

    def __init__(self, transport: Transport, tokens: Tokens, backoff: Backoff, timeout_seconds: float) -> None:
        self._transport = transport
        self._tokens = tokens
        self._backoff = backoff
        self._timeout_seconds = timeout_seconds

    def call(
        self, method: str, path: str, scope: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Return the answer, which is a 200 or a 201. Raises TrackingError."""
        deadline = time.monotonic() + self._timeout_seconds
        failures = 0
        refused_token = ""
        while True:
            failures += 1
            failure: Exception
            retry_after = None
            try:
                token = self._tokens.get(scope)
                given = {"Authorization": f"Bearer {token}", "Accept": "application/json", "Accept-Encoding": "gzip"}
                answer = self._transport.request(method, path, {**given, **(headers or {})}, body)
                if answer.status in (200, 201):
                    return answer
                failure = RequestRefused(answer.status, answer.text)
                if answer.status == 401 and not refused_token:
                    self._tokens.forget(token)
                    refused_token = token
                    continue
                if answer.status not in RETRIED:
                    raise failure
                retry_after = retry_after_of(answer.headers)
            except TryLater as later:
                failure = RequestRefused(later.answer.status, later.answer.text)
                retry_after = later.retry_after
            except Unreachable as error:
                failure = error
            wait = self._backoff.seconds(failures, retry_after)
            if time.monotonic() + wait > deadline:
                raise failure
            time.sleep(wait)
