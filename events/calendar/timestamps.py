"""Owns how the API reads and writes instants: ISO 8601 or unix time in, UTC out."""

import re
from calendar import isleap
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_FLOOR, Context, Decimal
from math import floor, isfinite, ulp

ACCEPTED = "ISO 8601 text such as 2020-11-12T11:10:00Z, or a unix timestamp as a number, within the years 1 to 9999"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

_LEAST = -62_135_596_800_000_000  # 0001-01-01T00:00:00Z
_MOST = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z
_DAY = 86_400_000_000
_LAST_SECOND = 86_399  # of a day in UTC: a leap second can follow no other second
_MILLISECONDS_FROM = 10**11  # read as seconds that would be the year 5138, as milliseconds it is 1973
_SECOND, _MILLISECOND, _HALF = Decimal(1_000_000), Decimal(1_000), Decimal("0.5")
_EXACT = Context(prec=80, rounding=ROUND_FLOOR)  # an operation in it is exact, however many digits it is given
_UNIX_TEXT = re.compile(r"([+-])?([0-9]{1,20})(?:\.([0-9]{0,20}))?")
# The usual spellings: calendar and week dates, extended or basic. A basic date needs a time after it, as digits alone
# are unix time.
_OFTEN = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-W[0-9]{2}-[1-7]|[0-9]{8}(?=[T ])|[0-9]{4}W[0-9]{2}[1-7](?=[T ]))"
    r"(?:[T ](?:[01][0-9]|2[0-3])(?::?[0-5][0-9](?::?[0-5][0-9](?P<fraction>[.,][0-9]+)?)?)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-5][0-9])?)?)?"
)
# All spellings, with the seldom ones: ordinal dates, a blank before the offset, 24 for midnight, 60 for a leap second.
_ISO_8601 = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-W[0-9]{2}-[1-7]|[0-9]{8}(?=[T ])|[0-9]{4}W[0-9]{2}[1-7](?=[T ])"
    r"|(?P<ordinal>[0-9]{4}-[0-9]{3}|[0-9]{7}(?=[T ])))"
    r"(?:[T ](?:(?:[01][0-9]|2[0-3])(?::?[0-5][0-9](?::?(?:[0-5][0-9]|(?P<leap>60))(?P<fraction>[.,][0-9]+)?)?)?"
    r"|(?P<midnight>24)(?::?00(?::?00(?:[.,]0+)?)?)?)"
    r"(?:(?P<blank> )?(?:Z|[+-][0-9]{2}(?::?[0-5][0-9])?))?)?"
)
_PYTHON_PLACES = 7  # the length of a fraction, with its point, that Python reads in full; it cuts off the rest
_LOST_PLUS = re.compile(r" (?=[0-9])")
_DATE = re.compile(r"[0-9]{4}-(?:[0-9]{2}-[0-9]{2}|W[0-9]{2}-[1-7]|[0-9]{3})")


class WrittenFloat(float):
    """A double that knows the digits it was read from."""

    __slots__ = ("digits",)

    def __init__(self, digits: str) -> None:
        self.digits = digits


class DigitsNeeded(ValueError):
    """How a double is rounded depends on the digits it was read from: some would be rounded up, others down."""


class AmbiguousText(ValueError):
    """Digits are unix time by the rules but look like a date; the message says how to write each of the two."""


# What digits without a sign may mean by their looks: a pattern, the meaning in words, and how to write it plainly.
_DATE_DIGITS = re.compile(r"(?!0000)([0-9]{4})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])")
_READINGS = (
    (_DATE_DIGITS, "the date {0}-{1}-{2}", "{0}-{1}-{2}"),
    (re.compile(r"(?!0000)([0-9]{4})([0-9]{3})"), "the date {0}-{1}", "{0}-{1}"),
    (re.compile(r"(?!0000)([0-9]{4})(0[1-9]|1[0-2])"), "the month {0}-{1}", "{0}-{1}-01"),
    (re.compile(r"(?!0000)([0-9]{4})"), "the year {0}", "{0}-01-01"),
)
_LEAST_PLAIN_DIGITS = 9  # unix time has as many from 1973 on, and no date does
_UNSIGNED_FROM = 31_536_000  # 1971-01-01T00:00:00Z
_SPREADSHEET_DAYS = range(20_000, 80_000)  # 1954-10-03 to 2119-01-10, as spreadsheets count days
_SPREADSHEET_EPOCH = datetime(1899, 12, 30, tzinfo=UTC)


def microseconds_of(instant: datetime) -> int:
    """Count the microseconds since 1970; an instant without a time zone counts as UTC.

    Raises ValueError outside the years 1 to 9999.
    """
    since = (instant.replace(tzinfo=UTC) if instant.tzinfo is None else instant) - EPOCH
    return _checked((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


def microseconds_of_unix(number: float | Decimal) -> int:
    """Count the microseconds since 1970 of a unix time in seconds, or in milliseconds where its size is 1e11 or more.

    Rounds half up, by the digits that the number was written with where it is a WrittenFloat. Raises ValueError
    outside the years 1 to 9999.
    """
    if isinstance(number, int):
        return _checked(number * (1_000 if abs(number) >= _MILLISECONDS_FROM else 1_000_000))
    if isinstance(number, float):
        try:
            return microseconds_of_double(number)
        except DigitsNeeded:
            if not isfinite(number):
                raise ValueError(ACCEPTED) from None
            number = Decimal(number.digits if isinstance(number, WrittenFloat) else repr(number))
    factor = _MILLISECOND if number.copy_abs() >= _MILLISECONDS_FROM else _SECOND
    return _checked(floor(_EXACT.fma(number, factor, _HALF)))


def microseconds_of_double(number: float) -> int:
    """Count as ``microseconds_of_unix`` does, faster, where all digits that are read as this double give one result.

    Raises DigitsNeeded where the result depends on the digits, ValueError outside the years 1 to 9999.
    """
    size = abs(number)
    factor = 1_000_000 if size < _MILLISECONDS_FROM else 1_000
    part = number % 1.0 * factor
    # the billionth covers the rounding of the remainder and of the product
    if not abs(part % 1.0 - 0.5) > ulp(number) * factor / 2 + 1e-9 or size == _MILLISECONDS_FROM:
        raise DigitsNeeded
    return _checked(floor(number) * factor + int(part + 0.5))


def from_microseconds(microseconds: int) -> datetime:
    """Return the instant in UTC that lies so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=microseconds)


def from_unix(number: float | Decimal) -> datetime:
    """Return the instant in UTC of a unix time, read and refused as ``microseconds_of_unix`` does."""
    return from_microseconds(microseconds_of_unix(number))


def from_iso(text: str) -> datetime:
    """Read an instant in ISO 8601 and return it in UTC, rounded half up to the microsecond.

    A text without an offset is UTC. 24:00:00 is the start of the next day, and the leap second 23:59:60 (UTC) is the
    start of the next second, as unix time counts it. Raises ValueError where the text is no ISO 8601 or the instant
    lies outside the years 1 to 9999.
    """
    text = text.upper()
    match = _OFTEN.fullmatch(text)
    if not match:
        return _from_seldom(text)
    start, end = match.span("fraction")
    if end - start <= _PYTHON_PLACES:
        instant = _parsed(text)
        if instant.tzinfo is UTC:
            return instant
        return instant.replace(tzinfo=UTC) if instant.tzinfo is None else from_microseconds(microseconds_of(instant))
    whole = microseconds_of(_parsed(text[:start] + text[end:]))
    return from_microseconds(_checked(whole + _microseconds_of_fraction(text[start + 1 : end])))


def _from_seldom(text: str) -> datetime:
    """Read a seldom spelling: rewrite it, from right to left, to one that ``datetime`` reads, and add what is lost."""
    match = _ISO_8601.fullmatch(text)
    if not match:
        raise ValueError(ACCEPTED)
    fraction, later = (match["fraction"] or "")[1:], 0
    if match["blank"]:
        text = _replaced(text, match, "blank", "")
    text = _replaced(text, match, "fraction", "") if fraction else text
    if match["leap"]:
        text, later = _replaced(text, match, "leap", "59"), 1_000_000
    if match["midnight"]:
        text, later = _replaced(text, match, "midnight", "00"), _DAY
    if match["ordinal"]:
        text = _replaced(text, match, "ordinal", _calendar_date(match["ordinal"]))
    instant = _parsed(text)
    whole = ((instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - EPOCH) // timedelta(microseconds=1)
    if match["leap"] and whole // 1_000_000 % 86_400 != _LAST_SECOND:
        raise ValueError(ACCEPTED)
    return from_microseconds(_checked(whole + later + _microseconds_of_fraction(fraction)))


def _replaced(text: str, match: re.Match[str], group: str, by: str) -> str:
    start, end = match.span(group)
    return text[:start] + by + text[end:]


def _calendar_date(ordinal: str) -> str:
    year, number = int(ordinal[:4]), int(ordinal[-3:])
    if year < 1 or not 1 <= number <= 365 + isleap(year):
        raise ValueError(ACCEPTED)
    return (date(year, 1, 1) + timedelta(days=number - 1)).isoformat()


def _parsed(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(ACCEPTED) from None


def _microseconds_of_fraction(digits: str) -> int:
    return (int(digits[:7].ljust(7, "0")) + 5) // 10


def from_text(text: str) -> datetime:
    """Read an instant of a form, a query or a CSV, where everything is text: a unix time in digits, or ISO 8601.

    Raises AmbiguousText where digits without a sign look like a date, and ValueError where ``from_iso`` and
    ``from_unix`` do.
    """
    match = _UNIX_TEXT.fullmatch(text)
    if not match:
        return from_iso(_with_lost_plus(text) if " " in text else text)
    sign, whole, fraction = match.groups()
    if sign:
        return from_unix(Decimal(text))
    if len(whole) < _LEAST_PLAIN_DIGITS or whole[0] == "0":
        _check_meant(text, whole, fraction)
    places = 7 if int(whole) < _MILLISECONDS_FROM else 4
    tenths = int(whole + (fraction or "")[:places].ljust(places, "0"))
    return from_microseconds(_checked((tenths + 5) // 10))


def _with_lost_plus(text: str) -> str:
    """Put back the plus of a “+01:00” that became a blank because it stood in a URL without being escaped."""
    day, separator, time = text.partition("T" if "T" in text else "t" if "t" in text else " ")
    return day + separator + _LOST_PLUS.sub("+", time)


def _check_meant(text: str, whole: str, fraction: str | None) -> None:
    """Refuse digits without a sign that may mean something else than unix time. Raises AmbiguousText."""
    seconds = int(whole)
    if fraction is not None:
        if seconds not in _SPREADSHEET_DAYS:
            return
    elif seconds >= _UNSIGNED_FROM and not _DATE_DIGITS.fullmatch(whole):
        return
    reading, written = _reading(text, seconds)
    unix = to_text(from_unix(Decimal(text)))
    raise AmbiguousText(
        f"“{text}” may mean {reading}, or unix time, {unix}. Write {written} for the first, +{text} (in a URL "
        f"%2B{text}) for the second."
    )


def _reading(text: str, seconds: int) -> tuple[str, str]:
    """Say what else digits may mean, and how to write that plainly."""
    for pattern, reading, written in _READINGS:
        if match := pattern.fullmatch(text):
            return reading.format(*match.groups()), written.format(*match.groups())
    if seconds in _SPREADSHEET_DAYS:
        day = to_text((_SPREADSHEET_EPOCH + timedelta(days=float(text))).replace(microsecond=0))
        return f"a spreadsheet's day, {day}", day
    return "a part of a date", "a whole one such as 2020-11-12"


def day_of(text: str) -> date | None:
    """Read a date alone in ISO 8601; return None for any other text, and for a date that doesn't exist."""
    text = text.upper()
    try:
        return from_iso(text).date() if _DATE.fullmatch(text) else None
    except ValueError:
        return None


def to_text(instant: datetime) -> str:
    """Write an instant as ``2020-11-12T11:10:00Z``: in UTC, with a fraction only where it has one."""
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _checked(microseconds: int) -> int:
    if not _LEAST <= microseconds <= _MOST:
        raise ValueError(ACCEPTED)
    return microseconds
