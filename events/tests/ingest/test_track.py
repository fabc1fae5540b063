"""``POST /api/track/``."""

import gzip
import json
from datetime import UTC, datetime

import pytest
from rest_framework.test import APIClient

from events.models import Event
from events.tests.support.bodies import PAGE_VIEW as EVENT
from events.tests.support.clients import client_with
from events.tests.support.errors import NO_TIMESTAMP

client = client_with("write")

STORED = {"namespace": "Frontend", "name": "pageView", "timestamp": "2020-11-12T11:10:00Z", "value": 142.5}
URLENCODED = "application/x-www-form-urlencoded"

REQUIRED = "This field is required."
NULL = "This field may not be null."
NO_STRING = "Not a valid string."
BLANK = "This field may not be blank."
SEGMENT = "This field may not contain “/” nor be “.” or “..”."
TOO_LONG = "Ensure this field has no more than 255 characters."
NUL = "Null characters are not allowed."
NO_NUMBER = "A valid number is required."
ACCEPTED_TYPES = (
    "Accepted: application/json, application/x-ndjson, application/x-www-form-urlencoded, multipart/form-data."
)
CUT = "The multipart form ends before its closing boundary."
UNKNOWN = "Unknown field. Accepted: namespace, name, timestamp, value."


@pytest.mark.parametrize("path", ["/api/track/", "/api/track"])
def test_it_stores_a_json_event(client, path, statements):
    with statements() as sent:
        response = client.post(path, EVENT)

    assert len(sent) == 2  # for the token and the event
    assert (response.status_code, response.json()) == (201, STORED)
    [event] = Event.objects.all()
    assert (event.namespace, event.name, event.timestamp, event.value) == (
        "Frontend",
        "pageView",
        datetime(2020, 11, 12, 11, 10, tzinfo=UTC),
        142.5,
    )


def test_it_stores_a_urlencoded_form(client):
    body = "namespace=Front%20end&name=p%C3%A4ge+%2B&timestamp=2020-11-12T11%3A10%3A00%2B01%3A00&value=1e2"

    response = client.post("/api/track/", body, content_type=URLENCODED)

    stored = {"namespace": "Front end", "name": "päge +", "timestamp": "2020-11-12T10:10:00Z", "value": 100.0}
    assert (response.status_code, response.json()) == (201, stored)
    assert list(Event.objects.values_list("namespace", "name")) == [("Front end", "päge +")]


def test_it_stores_a_multipart_form(client):
    response = client.post("/api/track/", {**EVENT, "name": "päge", "timestamp": "1605179400000"}, format="multipart")

    assert (response.status_code, response.json()) == (201, {**STORED, "name": "päge"})


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("2020-11-12T11:10:00Z", "2020-11-12T11:10:00Z"),
        ("2020-11-12T11:10:00", "2020-11-12T11:10:00Z"),
        ("2020-11-12 11:10", "2020-11-12T11:10:00Z"),
        ("2020-11-12", "2020-11-12T00:00:00Z"),
        ("20201112T111000Z", "2020-11-12T11:10:00Z"),
        ("2020-W46-4T11:10:00Z", "2020-11-12T11:10:00Z"),
        ("2020-11-12T11:10:00.5Z", "2020-11-12T11:10:00.500000Z"),
        ("2020-11-12T11:10:00.123456789+00:00", "2020-11-12T11:10:00.123457Z"),
        ("2020-11-12T11:10:00.1234565Z", "2020-11-12T11:10:00.123457Z"),
        ("20201112T111000.12345649Z", "2020-11-12T11:10:00.123456Z"),
        ("2020-11-12t11:10:00,25z", "2020-11-12T11:10:00.250000Z"),
        ("2020-11-12T11:10:00+05:45", "2020-11-12T05:25:00Z"),
        ("2020-02-29T23:59:59-0100", "2020-03-01T00:59:59Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999Z", "9999-12-31T23:59:59.999999Z"),
        (1605179400, "2020-11-12T11:10:00Z"),
        (1605179400.123456, "2020-11-12T11:10:00.123456Z"),
        (1605179400123, "2020-11-12T11:10:00.123000Z"),
        (1605179400123.456, "2020-11-12T11:10:00.123456Z"),
        (0, "1970-01-01T00:00:00Z"),
        (-1, "1969-12-31T23:59:59Z"),
        (99_999_999_999, "5138-11-16T09:46:39Z"),
        (100_000_000_000, "1973-03-03T09:46:40Z"),
        (-62135596800, "0001-01-01T00:00:00Z"),
        (253402300799999, "9999-12-31T23:59:59.999000Z"),
    ],
)
def test_it_reads_timestamps(client, sent, answered):
    response = client.post("/api/track/", {**EVENT, "timestamp": sent})

    assert (response.status_code, response.json()) == (201, {**STORED, "timestamp": answered})


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (1, 1.0),
        (-0.25, -0.25),
        (0, 0.0),
        (2**60, 2.0**60),
        (1.7976931348623157e308, 1.7976931348623157e308),
        (5e-324,) * 2,
    ],
)
def test_it_reads_values(client, sent, answered):
    response = client.post("/api/track/", {**EVENT, "value": sent})

    assert (response.status_code, response.json()) == (201, {**STORED, "value": answered})
    assert Event.objects.get().value == answered


@pytest.mark.parametrize("text", [" ", "a\nb", " pad ", "ü" * 255, "…", "%2F", "a?b#c&d=e", "...", "😀", "\\", "1"])
def test_it_stores_text_exactly_as_sent(client, text):
    text = f"x{text}" if text.isspace() else text
    response = client.post("/api/track/", {**EVENT, "namespace": text, "name": text})

    assert (response.status_code, response.json()) == (201, {**STORED, "namespace": text, "name": text})
    assert list(Event.objects.values_list("namespace", "name")) == [(text, text)]


BAD_TEXT = [
    (None, NULL), (1, NO_STRING), (True, NO_STRING), (["a"], NO_STRING), ({"a": 1}, NO_STRING),
    ("", BLANK), (" \t\n\u2003", BLANK), ("a/b", SEGMENT), (".", SEGMENT), ("..", SEGMENT),
    ("a" * 256, TOO_LONG), ("a\0b", NUL),
    ("\ud800", "Surrogate characters are not allowed: U+D800."),
]  # fmt: skip
BAD_TIMESTAMPS = [
    "", "now", "1605179400", "20201112", "2020", "2020-11", "2020-13-01", "2020-02-30", "2021-02-29T00:00:00Z", "12.11.2020",
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00",
    "2020-11-12T24:00:01Z", "2020-11-12T24:01Z", "2020-11-12T24:00:00.1Z", "2020-11-12T25:00:00Z", "9999-12-31T24:00:00Z",
    "2020-11-12T11:60:00Z", "2020-11-12T11:10:60Z", "2020-11-12T23:59:61Z", "2020-11-12T23:59:60+01:00",
    "9999-12-31T23:59:60Z", "2020-11-12T11:10:00+24:00", "2020-11-12T11:10:00  Z", "2020-11-12T11:10:00 01:00",
    "2020-000", "2019-366T11:10:00Z", "0000-001T11:10:00Z", "2020317", "+2020-317",
    "2020-11-12x11:10:00Z", "٢٠٢٠-11-12T11:10:00Z", "2020-11-12T11:10:00Z\n", "\0", "\ud800", "1e9",
    True, [1], {}, 253402300800000, -62135596801, -1e300, 1e300, int("9" * 400),
]  # fmt: skip
QUOTED = "Must be a JSON number, without quotes."
BAD_VALUES = ["", "abc", True, False, [], {}, "NaN", "Infinity", int("9" * 400), -int("9" * 400)]


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [(field, value, error) for field in ("namespace", "name") for value, error in BAD_TEXT]
    + [("timestamp", value, NO_TIMESTAMP) for value in BAD_TIMESTAMPS]
    + [("timestamp", None, NULL)]
    + [("value", value, NO_NUMBER) for value in BAD_VALUES]
    + [("value", value, QUOTED) for value in ("1", "-1.5e3", "+.5")]
    + [("value", None, NULL)],
)
def test_it_refuses_a_bad_field_and_names_it(client, field, value, error):
    response = client.post("/api/track/", json.dumps({**EVENT, field: value}), content_type="application/json")

    assert (response.status_code, response.json()) == (400, {field: [error]})
    assert not Event.objects.exists()


@pytest.mark.parametrize("field", EVENT)
def test_it_requires_every_field(client, field):
    response = client.post("/api/track/", {key: value for key, value in EVENT.items() if key != field})

    assert (response.status_code, response.json()) == (400, {field: [REQUIRED]})
    assert not Event.objects.exists()


def test_it_names_every_bad_field_at_once(client):
    response = client.post("/api/track/", {"name": "a/b", "timestamp": 1, "value": "x", "tags": 1, "id": 7})

    assert response.status_code == 400
    assert response.json() == {
        "namespace": [REQUIRED],
        "name": [SEGMENT],
        "value": [NO_NUMBER],
        "tags": [UNKNOWN],
        "id": [UNKNOWN],
    }
    assert not Event.objects.exists()


def test_it_names_an_unknown_field_that_no_answer_could_hold(client):
    body = json.dumps({**EVENT, "\ud800": 1, "x" * 500: 1})

    response = client.post("/api/track/", body, content_type="application/json")

    assert (response.status_code, response.json()) == (400, {"\\ud800": [UNKNOWN], "x" * 100: [UNKNOWN]})


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"{", "JSON parse error - Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"9" * 5000, "JSON parse error - number too long"),
        (b"\xff\xfe", "The body is not UTF-8: invalid start byte at byte 0."),
        (b"[" * 100_000, "JSON parse error - nested too deeply"),
        (
            b"\xef\xbb\xbf{",
            "JSON parse error - Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
        ),
        (b"\xef\xbb\xbf", "JSON parse error - Expecting value: line 1 column 1 (char 0)"),
        (
            b"\xef\xbb\xbf" * 2 + b"{}",
            "JSON parse error - Unexpected UTF-8 BOM (decode using utf-8-sig): line 1 column 1 (char 0)",
        ),
        (json.dumps({**EVENT, "value": float("nan")}).encode(), "JSON parse error - NaN is not JSON"),
        (json.dumps({**EVENT, "value": float("-inf")}).encode(), "JSON parse error - -Infinity is not JSON"),
    ],
)
def test_it_refuses_what_is_no_json(client, body, detail):
    response = client.post("/api/track/", body, content_type="application/json")

    assert (response.status_code, response.json()) == (400, {"detail": detail})
    assert not Event.objects.exists()


ONCE = "This field may be given only once."


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ('{"namespace":"a","name":"b","timestamp":1,"value":1,"value":2}', {"value": [ONCE]}),
        ('{"namespace":"a","name":"b","timestamp":1,"value":1,"value":1}', {"value": [ONCE]}),
        ('{"namespace":"a","name":"b","timestamp":1,"value":"x","value":1}', {"value": [ONCE]}),
        ('{"name":"a,b","namespace":"a","na\\u006de":"b","timestamp":1,"value":1}', {"name": [ONCE]}),
        # what could make up for the comma of a repeated key in a careless count
        ('{"namespace":"\\u002c","name":"b","timestamp":1,"value":1,"value":2}', {"value": [ONCE]}),
        ('{"namespace":"a","name":"b","value":1,"value":2}', {"timestamp": [REQUIRED], "value": [ONCE]}),
        ('{"namespace":"a","name":"b","timestamp":1,"value":1,"value":2,"a":1,"a":1}', {"a": [UNKNOWN], "value": [ONCE]}),
        ('{"value":1,"value":2,"name":"a/b","name":"","timestamp":1}', {"namespace": [REQUIRED], "name": [ONCE], "value": [ONCE]}),
    ],
)  # fmt: skip
def test_it_refuses_a_key_given_twice(client, body, errors):
    response = client.post("/api/track/", body, content_type="application/json")

    assert (response.status_code, response.json()) == (400, errors)
    assert not Event.objects.exists()


@pytest.mark.parametrize("text", ["a,b", ",,,", '","', "a\\\\,"])
def test_commas_and_quotes_within_texts_repeat_nothing(client, text):
    response = client.post("/api/track/", {**EVENT, "namespace": text, "name": text})

    assert (response.status_code, response.json()) == (201, {**STORED, "namespace": text, "name": text})


@pytest.mark.parametrize(
    ("content_type", "body", "answer"),
    [
        ("application/json", json.dumps(EVENT), STORED),
        ("application/json", json.dumps([EVENT, EVENT]), {"accepted": 2}),
        ("application/json", " []", {"accepted": 0}),
        ("application/x-ndjson", f"{json.dumps(EVENT)}\n{json.dumps(EVENT)}\n", {"accepted": 2}),
        ("application/x-ndjson", "", {"accepted": 0}),
        ("text/plain", json.dumps(EVENT), STORED),
        (URLENCODED, "namespace=Frontend&name=pageView&timestamp=1605179400&value=142.5", STORED),
        (
            "multipart/form-data; boundary=b",
            "".join(
                f'--b\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
                for key, value in EVENT.items()
            )
            + "--b--\r\n",
            STORED,
        ),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_leading_byte_order_mark_is_skipped(client, content_type, body, answer, packed):
    body = b"\xef\xbb\xbf" + body.encode()
    headers = {"Content-Encoding": "gzip"} if packed else {}

    response = client.post(
        "/api/track/", gzip.compress(body) if packed else body, content_type=content_type, headers=headers
    )

    assert (response.status_code, response.json()) == (201, answer)


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
def test_it_refuses_a_number_that_overflows(client, number):
    for field, error in [("value", NO_NUMBER), ("timestamp", NO_TIMESTAMP)]:
        body = json.dumps({**EVENT, field: "@"}).replace('"@"', number)
        response = client.post("/api/track/", body, content_type="application/json")
        assert (response.status_code, response.json()) == (400, {field: [error]})
    assert not Event.objects.exists()


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ("null", NULL),
        ("1", "Invalid data. Expected a dictionary, but got int."),
        ("1.5", "Invalid data. Expected a dictionary, but got float."),
        ('"a"', "Invalid data. Expected a dictionary, but got str."),
    ],
)
def test_it_refuses_json_that_is_no_object(client, body, detail):
    response = client.post("/api/track/", body, content_type="application/json")

    assert (response.status_code, response.json()) == (400, {"non_field_errors": [detail]})


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", URLENCODED, "multipart/form-data; boundary=b", ""]
)
def test_it_refuses_an_empty_body(client, content_type):
    response = client.generic("POST", "/api/track/", b"", content_type=content_type)

    assert (response.status_code, response.json()) == (400, {field: [REQUIRED] for field in EVENT})


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"namespace=%FF&name=a&timestamp=%2B1&value=1", {"detail": "The form is not UTF-8."}),
        (b"namespace=\xff&name=a&timestamp=%2B1&value=1", {"detail": "The form is not UTF-8."}),
        (b"&".join([b"a=1"] * 1001), {"detail": "Form parse error - Max number of fields exceeded"}),
        (b"namespace=a&name=a&timestamp=%2B1&value=1&value=2", {"value": ["This field may be given only once."]}),
        (b"namespace=a&name=a&timestamp=%2B1&value=1_0", {"value": [NO_NUMBER]}),
        (b"namespace=a&name=a&timestamp=%2B1&value=nan", {"value": [NO_NUMBER]}),
        (b"namespace=a&name=a&timestamp=%2B1&value=1e999", {"value": [NO_NUMBER]}),
        (b"namespace=a&name=a&timestamp=%2B1&value=", {"value": [NO_NUMBER]}),
        (b"namespace=a&name=a&timestamp=1e9&value=1", {"timestamp": [NO_TIMESTAMP]}),
        (b"namespace=a&name=a&timestamp=" + b"9" * 400 + b"&value=1", {"timestamp": [NO_TIMESTAMP]}),
        (b"namespace=%00&name=a&timestamp=%2B1&value=1", {"namespace": [NUL]}),
    ],
)
def test_it_refuses_a_bad_form(client, body, answer):
    response = client.post("/api/track/", body, content_type=URLENCODED)

    assert (response.status_code, response.json()) == (400, answer)
    assert not Event.objects.exists()


def test_it_refuses_a_bad_multipart_form(client):
    def post(body, boundary="b"):
        return client.post("/api/track/", body, content_type=f"multipart/form-data; boundary={boundary}")

    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    rest = b"".join(part % pair for pair in [(b"name", b"", b"a"), (b"timestamp", b"", b"+1"), (b"value", b"", b"1")])

    answers = [
        post(part % (b"namespace", b"", b"\xff") + rest + b"--b--\r\n"),
        post(part % (b"namespace", b'; filename="f"', b"a") + rest + b"--b--\r\n"),
        post(b"nothing of the kind"),
        post(rest[:-3]),
        post(b"x--", boundary=""),
        post(part % ("é".encode(), b"", b"1") + rest + b"--b--\r\n"),
        post(b"".join(part % (b"a%d" % i, b"", b"") for i in range(1001)) + b"--b--\r\n"),
        post(part % (b"namespace", b"; name*=a; name*0=b", b"a") + rest + b"--b--\r\n"),
        post(part % (b"namespace", b"\r\nX: a; b*=1; b*0=2", b"a") + rest + b"--b--\r\n"),
    ]

    assert [(answer.status_code, answer.json()) for answer in answers] == [
        (400, {"detail": "The form is not UTF-8."}),
        (400, {"namespace": [NO_STRING]}),
        (400, {"detail": CUT}),
        (400, {"detail": CUT}),
        (400, {"detail": "Multipart form parse error - Invalid boundary in multipart: "}),
        (400, {"namespace": [REQUIRED], "é": [UNKNOWN]}),
        (400, {"detail": "The number of GET/POST parameters exceeded settings.DATA_UPLOAD_MAX_NUMBER_FIELDS."}),
        *[(400, {"detail": "A header of the multipart form can't be read."})] * 2,
    ]
    assert not Event.objects.exists()


@pytest.mark.parametrize("content_type", ["application/json", URLENCODED, "multipart/form-data; boundary=b"])
def test_it_refuses_a_body_over_the_limit(client, settings, content_type):
    settings.MAX_BODY_BYTES = 100

    response = client.post("/api/track/", b"x" * 101, content_type=content_type)

    assert (response.status_code, response.json()) == (
        413,
        {"detail": "The body is larger than the 100 bytes allowed."},
    )
    exactly = json.dumps({"namespace": "a", "name": "b", "timestamp": 1, "value": 1}).ljust(100)
    assert client.post("/api/track/", exactly, content_type="application/json").status_code == 201


@pytest.mark.parametrize("charset", ["utf-8", "hex", "latin-1", "no-such"])
@pytest.mark.parametrize("media_type", ["application/json", URLENCODED])
def test_it_reads_utf8_whatever_charset_is_claimed(client, media_type, charset):
    body = json.dumps({**EVENT, "name": "é"}, ensure_ascii=False).encode()
    if media_type == URLENCODED:
        body = "namespace=Frontend&name=é&timestamp=1605179400&value=142.5".encode()

    response = client.post("/api/track/", body, content_type=f"{media_type}; charset={charset}")

    assert (response.status_code, response.json()) == (201, {**STORED, "name": "é"})


@pytest.mark.parametrize(
    "content_type", ["text/csv", "application/xml", "nonsense", "application/msgpack", "*/*", "application/*"]
)
def test_it_refuses_another_media_type(client, content_type):
    response = client.post("/api/track/", b"x", content_type=content_type)

    detail = f'Unsupported media type "{content_type}" in request. {ACCEPTED_TYPES}'
    assert (response.status_code, response.json()) == (415, {"detail": detail})


def test_it_asks_for_a_media_type_where_there_is_none(client):
    response = client.generic("POST", "/api/track/", b"x", content_type="")

    assert (response.status_code, response.json()) == (415, {"detail": f"No Content-Type. {ACCEPTED_TYPES}"})
    long = client.post("/api/track/", b"x", content_type="a/" + "b" * 300)
    detail = f'Unsupported media type "a/{"b" * 98}" in request. {ACCEPTED_TYPES}'
    assert (long.status_code, long.json()) == (415, {"detail": detail})


@pytest.mark.parametrize("accept", ["text/html", "application/xml", "nonsense", "*/*;q=abc", ""])
def test_it_answers_json_whatever_is_accepted(client, accept):
    response = client.post("/api/track/", EVENT, headers={"Accept": accept})

    assert (response.status_code, response["Content-Type"], response.json()) == (201, "application/json", STORED)


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_it_takes_nothing_but_post(client, method):
    response = getattr(client, method)("/api/track/")

    assert (response.status_code, response.json()) == (405, {"detail": f'Method "{method.upper()}" not allowed.'})


def test_it_needs_a_token(db):
    response = APIClient().post("/api/track/", EVENT)

    assert (response.status_code, response.json()) == (401, {"detail": "Authentication credentials were not provided."})
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'
    assert not Event.objects.exists()


@pytest.mark.parametrize("scope", ["read", "aggregation", "read aggregation", "", "writes", "Write"])
def test_it_needs_the_scope_write(client_with_scopes, scope):
    response = client_with_scopes(scope).post("/api/track/", EVENT)

    assert (response.status_code, response.json()) == (403, {"detail": "The access token lacks the scope write."})
    assert not Event.objects.exists()
