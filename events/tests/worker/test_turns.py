"""Turns at what is due each hour or day: none is given up for the next one, and each can be stopped in between."""

import pytest

from events.worker import turns
from events.worker.turns import Turns, with_breaks


def test_a_turn_that_is_begun_is_ended_before_another_begins():
    begun, ended = [], []

    def begin():
        number = len(begun)
        begun.append(number)
        try:
            yield from (number, number, number)
        finally:
            ended.append(number)

    hourly = Turns(begin)

    assert [hourly.step("1:00"), hourly.step("1:00")] == [0, 0]
    assert (hourly.step("3:00"), begun, ended) == (0, [0], [])  # it takes more than an hour
    assert (hourly.step("3:00"), begun, ended) == (1, [0, 1], [0])
    assert [hourly.step("3:00") for _ in range(4)] == [1, 1, None, None]
    assert (hourly.step("4:00"), begun, ended) == (2, [0, 1, 2], [0, 1])


def test_a_turn_that_ends_with_an_error_is_over_until_the_next_hour_or_the_wish_for_another():
    errors = [ValueError("the first"), ValueError("the second"), None]

    def begin():
        yield 7
        if error := errors.pop(0):
            raise error

    hourly = Turns(begin)

    assert hourly.step("1:00") == 7
    with pytest.raises(ValueError, match="the first"):
        hourly.step("1:00")
    assert hourly.step("1:00") is None
    assert hourly.step("2:00") == 7
    hourly.forget()
    with pytest.raises(ValueError, match="the second"):
        hourly.step("2:00")  # the wish doesn't end a turn
    assert [hourly.step("2:00"), hourly.step("2:00"), hourly.step("2:00")] == [7, None, None]


@pytest.mark.parametrize(
    ("look_seconds", "found"), [(0, ["a", None, "b", None]), (0.2, ["a", "b"]), (0.1, ["a", "b", None])]
)
def test_what_looks_at_many_things_has_breaks(monkeypatch, look_seconds, found):
    instants = iter(number / 16 for number in range(9))
    monkeypatch.setattr(turns, "time", type("Clock", (), {"monotonic": lambda: next(instants)}))
    monkeypatch.setattr(turns, "_LOOK_SECONDS", look_seconds)

    assert list(with_breaks("ab")) == found
