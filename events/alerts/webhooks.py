"""Sends a body to a webhook, signed, to an address that was checked, within some seconds; no redirect is followed.

Signatures are those of Standard Webhooks (https://www.standardwebhooks.com), which libraries of many languages check.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from http.client import HTTPException
from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from django.conf import settings
from django.core.exceptions import ValidationError
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from events.alerts.addresses import Refused, addresses_of, is_of_this_host

_CONNECT_SECONDS, _READ_SECONDS, _ALL_SECONDS = 5.0, 10.0, 20.0
_PREFIX = "whsec_"
_SECRET_BYTES = 32
_MOST_URL_CHARACTERS = 2_000
_MOST_DIGITS, _MOST_ADDRESSES = 6, 2
_PORTS = {"http": 80, "https": 443}


class Outcome(NamedTuple):
    """Whether a receiver took a delivery, and what came of it in our own words, with nothing of an answer's body."""

    is_delivered: bool
    words: str
    retry_after: int | None = None  # seconds


def validate_url(url: str) -> None:
    """Refuse what is no URL of a webhook. Raises Django's ValidationError."""
    try:
        parts = urlsplit(url)
        is_good = (
            parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0 and "@" not in parts.netloc
            and url.isascii() and url.isprintable() and " " not in url and len(url) <= _MOST_URL_CHARACTERS
        )  # fmt: skip
    except ValueError:
        is_good = False
    if not is_good:
        raise ValidationError("Enter an http or https URL, in ASCII and without user or password.", code="url")


def new_secret() -> str:
    """Make a secret to sign by."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()


def signature(secret: str, delivery_id: str, timestamp: int, body: bytes) -> str:
    """Sign a body: HMAC-SHA256 over id, time and body.

    A secret that begins with “whsec_” is the key in base64, any other is the key itself.
    """
    key = secret.encode()
    if secret.startswith(_PREFIX):
        with suppress(ValueError):  # no base64
            key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    signed = hmac.new(key, f"{delivery_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def send(url: str, secret: str, delivery_id: str, timestamp: int, body: bytes) -> Outcome:
    """Post a body to a URL once. Whatever goes wrong is an outcome that says so."""
    headers = {
        "Content-Type": "application/json; charset=utf-8",
        "User-Agent": "tracking-api",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
    }
    if secret:
        headers["webhook-signature"] = signature(secret, delivery_id, timestamp, body)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    try:
        addresses = addresses_of(host, port)
    except Refused as error:
        return Outcome(False, str(error))
    for address in addresses[:_MOST_ADDRESSES]:
        outcome = _post(parts, host, port, address, headers, body)
        if outcome is not None:
            return outcome
    return Outcome(False, "No connection.")


def _post(
    parts: SplitResult, host: str, port: int, address: str, headers: dict[str, str], body: bytes
) -> Outcome | None:
    """Post a body to one address; None where there is no connection to it."""
    # the name stands in the Host header and is what the certificate must be for, but nobody looks it up again
    connection = _connection(parts.scheme, host, port, address)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with _cut_off(connection):
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            return Outcome(False, f"The certificate is not good: {error.verify_message}"[:300])
        except (HTTPError, OSError):
            return None
        if not settings.ALERT_PRIVATE_TARGETS and is_of_this_host(connection.sock):
            return Outcome(False, "The host is this one, which ALERT_PRIVATE_TARGETS would allow.")
        connection.timeout = _READ_SECONDS
        try:
            connection.request(
                "POST", path, body=body, headers={"Host": parts.netloc, **headers}, preload_content=False
            )
            with closing(connection.getresponse()) as response:  # its body is not read at all
                return _outcome(response.status, str(response.headers.get("Retry-After", "")))
        except (HTTPError, HTTPException, OSError, ValueError) as error:
            return Outcome(False, f"No answer ({type(error).__name__}).")


def _outcome(status: int, retry_after: str) -> Outcome:
    is_delivered = 200 <= status < 300
    is_number = retry_after.isascii() and retry_after.isdigit() and len(retry_after) <= _MOST_DIGITS
    return Outcome(is_delivered, f"Answered {status}.", int(retry_after) if is_number and not is_delivered else None)


def _connection(scheme: str, host: str, port: int, address: str) -> HTTPConnection:
    if scheme == "http":
        return HTTPConnection(address, port, timeout=_CONNECT_SECONDS)
    return HTTPSConnection(address, port, timeout=_CONNECT_SECONDS, ssl_context=_tls(), server_hostname=host)


@cache
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


@contextmanager
def _cut_off(connection: HTTPConnection) -> Iterator[None]:
    """Close the connection at the end, and after some seconds: a timeout alone is for each piece that trickles in."""

    def cut() -> None:
        with suppress(OSError, AttributeError):  # it is not connected, or not any more
            socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(_ALL_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        connection.close()
