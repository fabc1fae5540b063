"""Instants as the API reads and writes them: ISO 8601 or unix time in, UTC out."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite

ACCEPTED = "ISO 8601 text such as 2020-11-12T11:10:00Z, or a unix timestamp as a number, within the years 1 to 9999"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_LEAST = -62_135_596_800_000_000  # 0001-01-01T00:00:00Z
_MOST = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z
_MILLISECONDS_FROM = 10**11  # as seconds that would be the year 5138, as milliseconds it is 1973
_UNIX_TEXT = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{0,20})?")
# Calendar and week dates, extended or basic. A basic date stands only before a time: digits alone are unix time.
_ISO_8601 = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-W[0-9]{2}-[1-7]|[0-9]{8}(?=[T ])|[0-9]{4}W[0-9]{2}[1-7](?=[T ]))"
    r"(?:[T ](?:[01][0-9]|2[0-3])(?::?[0-5][0-9](?::?[0-5][0-9](?P<fraction>[.,][0-9]+)?)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-5][0-9])?)?)?"
)


def microseconds_of(instant: datetime) -> int:
    """Microseconds since 1970; an instant without time zone is UTC. Raises ValueError outside the years 1 to 9999."""
    since = (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant) - EPOCH
    return _checked((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def microseconds_of_unix(number: float | Decimal) -> int:
    """Microseconds since 1970 of a unix time in seconds, or in milliseconds where its size is 1e11 or more.

    Raises ValueError outside the years 1 to 9999.
    """
    if isinstance(number, float):
        if not isfinite(number):
            raise ValueError(ACCEPTED)
        number = Decimal(repr(number))
    factor = 1_000 if abs(number) >= _MILLISECONDS_FROM else 1_000_000
    return _checked(round(number * factor))


def from_microseconds(microseconds: int) -> datetime:
    """The UTC instant of microseconds since 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def from_unix(number: float | Decimal) -> datetime:
    """The UTC instant of a unix time, as ``microseconds_of_unix`` reads it."""
    return from_microseconds(microseconds_of_unix(number))


def from_iso(text: str) -> datetime:
    """The UTC instant of an ISO 8601 text; UTC where it has no offset. Rounded half up to the microsecond.

    Raises ValueError where the text is no ISO 8601 or the instant lies outside the years 1 to 9999.
    """
    text = text.upper()
    match = _ISO_8601.fullmatch(text)
    if not match:
        raise ValueError(ACCEPTED)
    start, end = match.span("fraction")
    tenths = int(text[start + 1 : end][:7].ljust(7, "0")) if end > 0 else 0
    try:
        instant = datetime.fromisoformat(text[:start] + text[end:] if end > 0 else text)
    except ValueError:
        raise ValueError(ACCEPTED) from None
    return from_microseconds(_checked(microseconds_of(instant) + (tenths + 5) // 10))


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


def _checked(microseconds: int) -> int:
    if not _LEAST <= microseconds <= _MOST:
        raise ValueError(ACCEPTED)
    return microseconds
