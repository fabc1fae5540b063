"""Decoding: the fast way and the serializer are of one mind."""

import json
from datetime import UTC, datetime, timedelta
from io import BytesIO

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rest_framework.exceptions import APIException

from events.ingest import decoding
from events.ingest.decoding import Batch, decode_json, decode_ndjson
from events.log import append
from events.log.append import Row
from events.models import Event
from events.tests.support.examples import few_of

texts = st.one_of(
    st.sampled_from(
        ["a", "", " ", "\u2003", ".", "..", "...", "a/b", "a" * 255, "ä" * 255, "ä" * 256, "\0", "a\0", "😀"]
    ),
    st.text(max_size=20),
    st.text(st.characters(), min_size=1, max_size=5),
    st.none() | st.booleans() | st.integers() | st.lists(st.integers(), max_size=1),
)
iso = st.builds(
    "{}{}{}{}".format,
    st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda instant: instant.strftime("%Y-%m-%d").rjust(10, "0")),
    st.sampled_from(["T", "t", " ", ""]),
    st.sampled_from(["00:00:00", "23:59:59", "24:00:00", "23:59:60", "11:10", "1:2:3", "111000", "12:00:00.5", "12:00:00,5",
                     "12:00:00.123456", "12:00:00.1234565", "12:00:00.12345649999", "23:59:59.9999999", "12:00:00.", ""]),
    st.sampled_from(["", "Z", "z", "+00:00", "-00:00", "+0530", "+05", "-23:59", "+24:00", "+14:60", " +01:00"]),
)  # fmt: skip
stamps = st.one_of(
    iso,
    st.sampled_from(
        [
            "2020-W46-4T11:10:00Z",
            "20201112T111000Z",
            "2020-317T24:00:00 Z",
            "2020317T11",
            "20201112",
            "0000-01-01T00:00:00Z",
            "1605179400",
            "now",
            "",
        ]
    ),
    st.integers(-(10**15), 10**15),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(1e9, 2e12),
    st.none() | st.booleans(),
)
values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
    st.sampled_from([10**300, 10**309, -(10**309), 2**53 + 1, "1", "", None, True, []]),
)
events = st.fixed_dictionaries(
    {"namespace": texts, "name": texts, "timestamp": stamps, "value": values},
    optional={"tags": st.just(1), "Value": st.just(1)},
)
mostly_valid = st.fixed_dictionaries(
    {
        "namespace": st.sampled_from(["a", "ä b"]),
        "name": st.sampled_from(["x", "…"]),
        "timestamp": iso | st.integers(0, 2 * 10**12) | st.floats(0, 2e12),
        "value": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60),
    }
)
# how JSON may be written, beyond what json.dumps writes
spellings = st.sampled_from(
    [None, ("1605179400", "1.6051794e9"), ('"a"', '"\\u0061"'), (":", " :\t"), ("1", "1e999"), ("1", "01")]
)


def spelled(item, spelling):
    text = json.dumps(item, ensure_ascii=True)
    if spelling:
        plain, other = spelling
        text = text.replace(plain, other, 1)
    return text.encode()


def verdict(decode, body):
    """The rows, or the error's status and text."""
    try:
        return list(decode(body).rows)
    except APIException as error:
        return error.status_code, error.get_full_details()


@pytest.fixture(scope="module")
def explained():
    """The decoders without their fast way."""

    def refuse(body):
        raise ValueError

    with pytest.MonkeyPatch.context() as patch:

        def without_fast(decode, body):
            with pytest.MonkeyPatch.context() as inner:
                inner.setattr(decoding, "_decode_event", refuse)
                inner.setattr(decoding, "_decode_events", refuse)
                return verdict(decode, body)

        yield without_fast
        patch.undo()


@pytest.mark.only_on("sqlite")
@given(item=events | mostly_valid, spelling=spellings)
@example(item={"namespace": "a", "name": "b", "timestamp": "9999-12-31T23:59:59.9999999Z", "value": 1}, spelling=None)
@example(item={"namespace": "a", "name": "b", "timestamp": "0001-01-01T00:00:00+00:01", "value": 1}, spelling=None)
@example(item={"namespace": "\ud800", "name": "b", "timestamp": 1, "value": 1}, spelling=None)
@settings(max_examples=few_of(600))
def test_both_ways_give_the_same_verdict_and_rows(explained, item, spelling):
    body = spelled(item, spelling)

    assert verdict(decode_json, body) == explained(decode_json, body)
    assert verdict(decode_ndjson, body) == explained(decode_ndjson, body)


@pytest.mark.only_on("sqlite")
@given(items=st.lists(mostly_valid | events, max_size=4))
@settings(max_examples=few_of(200))
def test_both_ways_agree_on_batches(explained, items):
    assert verdict(decode_json, json.dumps(items).encode()) == explained(decode_json, json.dumps(items).encode())
    lines = b"\n".join(json.dumps(item).encode() for item in items)
    assert verdict(decode_ndjson, lines) == explained(decode_ndjson, lines)


@pytest.mark.only_on("sqlite")
@given(item=mostly_valid)
@settings(max_examples=few_of(200))
def test_the_fast_way_is_taken_for_ordinary_events(item):
    """A mistake in it that sent everything the slow way would go unnoticed otherwise."""
    item["timestamp"] = "2020-11-12T11:10:00Z" if isinstance(item["timestamp"], str) else item["timestamp"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "load_json", lambda body: pytest.fail("went the slow way"))
        assert len(decode_json(json.dumps(item).encode()).rows) == 1
        assert len(decode_json(json.dumps([item, item]).encode()).rows) == 2


# An event in pieces: any of its keys left out, repeated, in any order and spelling; texts full of what the count counts.
tricky = st.text(st.sampled_from(',"\\{}[]: é\n'), min_size=1, max_size=6)
members = st.one_of(
    st.tuples(st.sampled_from(["namespace", "name"]), tricky | st.just("a")),
    st.tuples(
        st.just("timestamp"), st.sampled_from([1, 1605179400.5, "2020-11-12T11:10:00Z", "2020-11-12T11:10:00,5Z"])
    ),
    st.tuples(st.just("value"), st.floats(-9, 9) | st.integers(-9, 9)),
    st.tuples(st.sampled_from(["tags", "Value"]), st.just(1)),
)
whole = st.tuples(
    st.tuples(st.just("namespace"), tricky), st.tuples(st.just("name"), tricky),
    st.just(("timestamp", 1)), st.just(("value", 1)),
)  # fmt: skip
objects = st.builds(lambda all_four, more: [*all_four, *more], whole, st.lists(members, max_size=2)) | st.lists(members)


@st.composite
def written(draw, pairs):
    """An object as JSON text, in which any character may be escaped."""

    def text(value):
        if not isinstance(value, str):
            return json.dumps(value)
        escapes = draw(st.lists(st.booleans(), min_size=len(value), max_size=len(value)))
        spelled = (f"\\u{ord(c):04x}" if e else json.dumps(c)[1:-1] for c, e in zip(value, escapes, strict=True))
        return f'"{"".join(spelled)}"'

    pairs = draw(st.permutations(pairs))
    return "{" + draw(st.sampled_from([",", " , "])).join(f"{text(key)}:{text(value)}" for key, value in pairs) + "}"


def repeats(text):
    """Whether Python's own decoder meets a key twice."""
    found = []
    json.loads(text, object_pairs_hook=lambda pairs: found.append(len(dict(pairs)) < len(pairs)))
    return any(found)


def accepts(decode, body):
    try:
        decode(body)
    except (APIException, *decoding.DECODE_ERRORS):
        return False
    return True


@pytest.mark.only_on("sqlite")
@given(items=st.lists(objects.flatmap(written), min_size=1, max_size=4))
@example(items=['{"namespace":"\\u002c","name":"b","timestamp":1,"value":1,"value":2}'])
@settings(max_examples=few_of(1000))
def test_no_repeated_key_slips_through_and_nothing_else_is_taken_for_one(items):
    """Compared with the decoder whose keys are all seen; whatever else is wrong with an event."""
    array, lines = f"[{','.join(items)}]".encode(), "\n".join(items).encode()
    once = [json.dumps(json.loads(item)) for item in items]  # as if the last of each key were the only one

    right = not any(map(repeats, items)) and accepts(decode_json, f"[{','.join(once)}]".encode())

    assert [accepts(decode_json, array), accepts(decode_ndjson, lines)] == [right, right]
    assert right or not accepts(decoding.decode_lines, BytesIO(lines))  # which leaves the rest to ``decode_line``
    for item in items:
        single = not repeats(item) and accepts(decode_json, json.dumps(json.loads(item)).encode())
        assert accepts(decode_json, item.encode()) == accepts(decoding.decode_line, item.encode()) == single


def test_json_that_stands_in_two_lines_is_no_line():
    item = b'{"namespace": "a", "name": "b",\n "timestamp": 1, "value": 1}'

    assert verdict(decode_ndjson, item)[0] == 400
    assert verdict(decode_json, item) == [Row("a", "b", 1_000_000, 1.0)]


instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999))


@pytest.mark.django_db
@pytest.mark.parametrize("copies", [1, 2])
def test_what_is_appended_is_what_the_orm_reads_and_would_have_written(copies):
    @given(
        st.tuples(
            st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=9)
        ),
        instants,
        st.floats(allow_nan=False, allow_infinity=False),
    )
    @settings(max_examples=few_of(100))
    def check(names, instant, value):
        Event.objects.all().delete()
        instant = instant.replace(tzinfo=UTC)
        microseconds = (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

        append.append([Row(names[0], "ü", microseconds, value)] * copies)

        found = Event.objects.of_series(names[0], "ü").filter(timestamp=instant, value=value)
        assert [event.natural_key() for event in found] == [(names[0], "ü", instant, value)] * copies

    check()


def test_the_digest_is_that_of_the_events():
    row = Row("a", "b", 1, 1.0)

    assert Batch([row]).digest() == Batch((Row("a", "b", 1, 1.0),)).digest()
    assert len({Batch([row]).digest(), Batch([row], single=True).digest(), Batch([row, row]).digest()}) == 3
