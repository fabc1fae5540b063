"""Gets access tokens, and keeps each until shortly before it expires."""

from __future__ import annotations

import base64
import threading
import time
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from tracking_client.errors import CredentialsRefused, RequestRefused
from tracking_client.retries import RETRIED, retry_after_of
from tracking_client.transport import Answer, Transport

_MOST_EARLIER_SECONDS = 60.0


class TryLater(Exception):
    """The service says that the same request may be well later."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status}: {answer.text}")
        self.answer = answer
        self.retry_after = retry_after_of(answer.headers)


@dataclass(frozen=True)
class _Token:
    text: str
    until: float  # by the monotonic clock, which nobody sets


class Tokens:
    """The tokens of one client, one for each scope, shared by all threads."""

    def __init__(self, transport: Transport, client_id: str, client_secret: str) -> None:
        self._transport = transport
        # RFC 6749, 2.3.1: both are form-encoded first
        pair = f"{quote(client_id, safe='')}:{quote(client_secret, safe='')}"
        self._basic = "Basic " + base64.b64encode(pair.encode()).decode()
        self._tokens: dict[str, _Token] = {}
        self.forget_locks()

    def forget_locks(self) -> None:
        """Make locks anew, as in a forked process, where a thread of the parent may have held them."""
        self._lock = threading.RLock()  # as a signal's handler may interrupt whoever holds it

    def get(self, scope: str) -> str:
        """Return a token with this scope, a new one where there is none or it is about to expire.

        Raises Unreachable, TryLater, or CredentialsRefused where the service gives none.
        """
        with self._lock:  # one thread asks, the others wait for what it gets
            token = self._tokens.get(scope)
            if token is None or time.monotonic() >= token.until:
                token = self._tokens[scope] = self._fetch(scope)
            return token.text

    def forget(self, text: str) -> None:
        """Let the next call fetch a new token where it would have returned this one, which the service refused."""
        with self._lock:
            self._tokens = {scope: token for scope, token in self._tokens.items() if token.text != text}

    def _fetch(self, scope: str) -> _Token:
        asked_at = time.monotonic()
        headers = {"Authorization": self._basic, "Content-Type": "application/x-www-form-urlencoded"}
        form = urlencode({"grant_type": "client_credentials", "scope": scope})
        answer = self._transport.request("POST", "/o/token/", headers, form)
        if answer.status in RETRIED:
            raise TryLater(answer)
        found = answer.json()
        if answer.status in (400, 401, 403):
            raise CredentialsRefused(answer.status, answer.text)
        if answer.status != 200 or not isinstance(found, dict) or not isinstance(found.get("access_token"), str):
            raise RequestRefused(answer.status, answer.text)
        seconds = found.get("expires_in")
        seconds = float(seconds) if isinstance(seconds, int | float) else 3_600.0
        return _Token(found["access_token"], asked_at + seconds - min(_MOST_EARLIER_SECONDS, seconds / 10))
