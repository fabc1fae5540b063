"""Instants as the API reads and writes them: ISO 8601 or unix time in, UTC out."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite

ACCEPTED = "ISO 8601 text such as 2020-11-12T11:10:00Z, or a unix timestamp as a number, within the years 1 to 9999"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECONDS_FROM = 10**11  # as seconds that would be the year 5138, as milliseconds it is 1973
_UNIX_TEXT = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?")
# Calendar and week dates, extended or basic. A basic date stands only before a time: digits alone are unix time.
_ISO_8601 = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-W[0-9]{2}-[1-7]|[0-9]{8}(?=[T ])|[0-9]{4}W[0-9]{2}[1-7](?=[T ]))"
    r"(?:[T ](?:[01][0-9]|2[0-3])(?::?[0-5][0-9](?::?[0-5][0-9](?:[.,][0-9]+)?)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-5][0-9])?)?)?"
)


def from_unix(number: float | Decimal) -> datetime:
    """The UTC instant of a unix time in seconds, or in milliseconds where its size is 1e11 or more.

    Exact to the microsecond. Raises ValueError outside the years 1 to 9999.
    """
    if isinstance(number, float):
        if not isfinite(number):
            raise ValueError(ACCEPTED)
        number = Decimal(repr(number))
    factor = 1_000 if abs(number) >= _MILLISECONDS_FROM else 1_000_000
    microseconds = round(number * factor)
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise ValueError(ACCEPTED) from None


def from_iso(text: str) -> datetime:
    """The UTC instant of an ISO 8601 text; UTC where it has no offset. Digits past the microsecond are cut off.

    Raises ValueError where the text is no ISO 8601 or the instant lies outside the years 1 to 9999.
    """
    if not _ISO_8601.fullmatch(text.upper()):
        raise ValueError(ACCEPTED)
    try:
        instant = datetime.fromisoformat(text.upper())
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(ACCEPTED) from None


def from_text(text: str) -> datetime:
    """What a form or a query holds, where everything is text: a unix time in digits, or ISO 8601.

    Raises ValueError as the other two.
    """
    if _UNIX_TEXT.fullmatch(text):
        return from_unix(Decimal(text))
    if "T" in text:
        text = text.replace(" ", "+")  # a "+01:00" that was put into a URL without escaping
    return from_iso(text)


def to_text(instant: datetime) -> str:
    """``2020-11-12T11:10:00Z``: UTC, with a fraction only where there is one."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")
