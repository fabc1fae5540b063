"""Window → pieces."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.aggregation.plan import plan
from events.models import Resolution

HOUR, MINUTE, EVENTS = Resolution.HOUR, Resolution.MINUTE, None
BOTH = [HOUR, MINUTE]
MICROSECOND = timedelta(microseconds=1)


def at(text):
    return datetime.fromisoformat(f"2024-02-29T{text}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("first", "last", "resolutions", "pieces"),
    [
        ("10:00", "11:59:59.999999", BOTH, [(HOUR, "10:00", "11:59:59.999999")]),
        ("10:00", "12:00", BOTH, [(HOUR, "10:00", "11:59:59.999999"), (EVENTS, "12:00", "12:00")]),
        (
            "09:58:30", "12:01:15", BOTH,
            [(EVENTS, "09:58:30", "09:58:59.999999"), (MINUTE, "09:59", "09:59:59.999999"), (HOUR, "10:00", "11:59:59.999999"),
             (MINUTE, "12:00", "12:00:59.999999"), (EVENTS, "12:01", "12:01:15")],
        ),
        (
            "09:58:30", "12:01:15", [HOUR],
            [(EVENTS, "09:58:30", "09:59:59.999999"), (HOUR, "10:00", "11:59:59.999999"), (EVENTS, "12:00", "12:01:15")],
        ),
        (
            "09:58:30", "10:01:15", [MINUTE],
            [(EVENTS, "09:58:30", "09:58:59.999999"), (MINUTE, "09:59", "10:00:59.999999"), (EVENTS, "10:01", "10:01:15")],
        ),
        ("09:58:30", "12:01:15", [], [(EVENTS, "09:58:30", "12:01:15")]),
        (
            "10:00:00.000001", "10:59:59.999999", BOTH,
            [(EVENTS, "10:00:00.000001", "10:00:59.999999"), (MINUTE, "10:01", "10:59:59.999999")],
        ),
        ("10:00", "10:00:59.999998", BOTH, [(EVENTS, "10:00", "10:00:59.999998")]),
        ("10:00", "10:00:59.999999", BOTH, [(MINUTE, "10:00", "10:00:59.999999")]),
        ("10:00:01", "10:00:01", BOTH, [(EVENTS, "10:00:01", "10:00:01")]),
        ("10:00:59", "10:01:01", BOTH, [(EVENTS, "10:00:59", "10:01:01")]),
    ],
)  # fmt: skip
def test_each_piece_is_as_coarse_as_it_can_be(first, last, resolutions, pieces):
    assert plan(at(first), at(last), resolutions) == [(resolution, at(a), at(b)) for resolution, a, b in pieces]


def test_it_reaches_both_ends_of_time():
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)

    assert plan(first, last, BOTH) == [(HOUR, first, last)]


@given(
    st.datetimes(datetime(1969, 1, 1), datetime(1971, 1, 1), timezones=st.just(UTC)),
    st.timedeltas(timedelta(0), timedelta(hours=5)),
    st.sampled_from([BOTH, [HOUR], [MINUTE], []]),
)
def test_pieces_cover_the_window_without_gap_or_overlap(first, length, resolutions):
    pieces = plan(first, first + length, resolutions)

    assert (pieces[0].first, pieces[-1].last) == (first, first + length)
    for piece, following in pairwise(pieces):
        assert piece.last + MICROSECOND == following.first
    for piece in pieces:
        assert piece.first <= piece.last
        if piece.resolution:
            assert piece.first.timestamp() % piece.resolution == 0
            assert (piece.last + MICROSECOND).timestamp() % piece.resolution == 0
