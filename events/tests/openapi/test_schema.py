"""``/api/schema/`` and ``/api/docs/``: the description of the API is valid, whole and true."""

import gzip
import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from urllib.parse import urlencode
from zoneinfo import available_timezones

import pytest
import yaml
from django.contrib.staticfiles import finders
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.urls import resolve, reverse
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from rest_framework.test import APIClient

from events import fields, urls, views
from events.calendar import timestamps
from events.http.fast_path import views as fast_path
from events.ingest import unpacking
from events.models import validate_path_segment
from events.openapi import schemas
from events.openapi import views as openapi_views
from events.serializers import AggregationQuerySerializer
from events.tests.support.service import PROJECT_DIR

README = (PROJECT_DIR / "README.md").read_text()
TRACK = "/api/track/"
AGGREGATION = "/api/events/{namespace}/{name}"
CATALOGUE = "/api/events/"


@pytest.fixture(scope="module")
def schema():
    return APIClient().get("/api/schema/").json()


@pytest.fixture
def made_anew():
    """The description is kept by a process; here it is to be made with what the test sets, and not kept."""
    openapi_views._described.cache_clear()
    yield
    openapi_views._described.cache_clear()


def operation(schema, path):
    [operation] = schema["paths"][path].values()
    return operation


def test_it_is_valid_openapi_3_1(schema):
    assert schema["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(schema).iter_errors()) == []


def test_nothing_in_it_is_guessed(tmp_path):
    call_command("spectacular", fail_on_warn=True, validate=True, file=str(tmp_path / "schema.yaml"))


@pytest.mark.parametrize("path", ["/api/schema/", "/api/schema"])
@pytest.mark.parametrize("token", [None, "Bearer anything"])
@pytest.mark.parametrize(
    ("query", "accept", "content_type"),
    [
        ("", "*/*", "application/json"),
        ("", "text/html", "application/json"),
        ("", "application/yaml", "application/yaml; charset=utf-8"),
        ("", "application/vnd.oai.openapi", "application/vnd.oai.openapi; charset=utf-8"),
        ("?format=yaml", "application/json", "application/yaml; charset=utf-8"),
        ("?format=json", "application/yaml", "application/json"),
    ],
)
def test_it_is_json_or_yaml_for_everybody(schema, path, token, query, accept, content_type):
    headers = {"Accept": accept, **({"Authorization": token} if token else {})}

    response = APIClient().get(f"{path}{query}", headers=headers)

    assert (response.status_code, response["Content-Type"]) == (200, content_type)
    assert yaml.load(response.content, yaml.CSafeLoader) == schema  # JSON is YAML too


@pytest.mark.parametrize("query", ["?version=1%0A2", '?version="', "?lang=de", "?lang=%0A", "?other="])
def test_it_is_the_same_whatever_else_is_asked(schema, query):
    response = APIClient().get(f"/api/schema/{query}")

    assert (response.status_code, response.json()) == (200, schema)
    assert response["Content-Disposition"] == 'inline; filename="Tracking API.json"'


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_it_is_made_once(made_anew, monkeypatch, form):
    first = APIClient().get("/api/schema/", {"format": form})
    monkeypatch.setattr(openapi_views, "SchemaGenerator", None)
    second = APIClient().get("/api/schema/", {"format": form})

    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.status_code == 200


def test_it_names_every_call(schema):
    calls = re.findall(r"`(GET|POST|PATCH|DELETE) (/api/[^`]*)`", README.split("## The API")[1].split("## ")[0])
    named = {(method.lower(), path.replace("<", "{").replace(">", "}")) for method, path in calls}

    described = {(method, path) for path, methods in schema["paths"].items() for method in methods}
    assert described == named
    methods = {"get", "post", "put", "patch", "delete"}
    routes = {each.name: each.callback.cls for each in urls.urlpatterns if each.name not in {"api-schema", "api-docs"}}
    there = {(method, name) for name, view in routes.items() for method in methods if hasattr(view, method)}
    assert {(method, resolve(re.sub(r"[{}]", "", path)).url_name) for method, path in described} == there


def test_it_names_every_parameter_and_what_it_takes(schema):
    parameters = {
        parameter["name"]: parameter["schema"]
        for parameter in operation(schema, AGGREGATION)["parameters"]
        if parameter["in"] == "query"
    }
    fields = AggregationQuerySerializer().fields

    assert list(parameters) == list(fields)
    # as an enum they clash where they become names: openapi-python-client ended with "Duplicate key GMT0 in enum"
    assert parameters.pop("timezone") == {
        "type": "string", "pattern": schemas.ZONE_NAME, "default": "UTC", "examples": ["Europe/Berlin"]
    }  # fmt: skip
    # more of them than a list can hold
    pattern = parameters.pop("aggregationType")["pattern"]
    assert [word for word in fields["aggregationType"].choices if not re.fullmatch(pattern, word)] == []
    assert [word for word in ("p99.9", "p0", "p100.0") if not re.fullmatch(pattern, word)] == []
    assert [word for word in ("p101", "p100.1", "p", "mode", "AVG") if re.fullmatch(pattern, word)] == []
    for name, field in ((name, fields[name]) for name in parameters):
        assert parameters[name].get("enum", []) == list(getattr(field, "choices", [])), name


def test_it_names_every_status(schema):
    table = README.split("| status | meaning |")[1].split("##")[0]
    documented = {status for row in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for status in row.split(", ")}
    described = {
        path: set().union(*(each["responses"] for each in methods.values()))
        for path, methods in schema["paths"].items()
    }

    assert len(documented) > 8
    assert set.union(*described.values()) == documented | {"200", "201", "204", "304"}
    assert set.intersection(*described.values()) >= {"400", "405", "503"}
    del described["/api/boards/{token}/query/"]  # which everybody may call who has the link
    assert set.intersection(*described.values()) >= {"401", "403"}


def test_it_names_the_limits_that_are_set(made_anew, settings, client):
    settings.MAX_EVENTS, settings.MAX_BODY_BYTES, settings.MAX_ITEMS = 123, 45_678, 910

    schema = client.get("/api/schema/").json()

    assert schema["components"]["schemas"]["Events"]["maxItems"] == 123
    assert "123 events and 45678 bytes" in operation(schema, TRACK)["description"]
    assert "The request has 124 events; 123 are allowed." in json.dumps(operation(schema, TRACK)["responses"]["413"])
    assert "910 items" in operation(schema, AGGREGATION)["description"]


def test_a_client_comes_by_its_token_as_described(schema, settings, application, client):
    schemes = schema["components"]["securitySchemes"]
    [flow] = schemes["client"]["flows"].items()

    assert flow == (
        "clientCredentials", {"tokenUrl": reverse("oauth2_provider:token"), "scopes": settings.OAUTH2_PROVIDER["SCOPES"]}
    )  # fmt: skip
    assert schemes["token"]["scheme"] == "bearer"
    for path, scope in [(TRACK, "write"), (AGGREGATION, "aggregation"), (CATALOGUE, "read")]:
        users = [{"user": []}] if path != TRACK else []
        assert operation(schema, path)["security"] == [{"client": [scope]}, {"token": []}, *users]


# What the service takes, the description allows.


@pytest.fixture(scope="module")
def allows(schema):
    """``allows(one, value)``: whether a schema of the description, or a component by its name, allows the value."""

    def allows(one, value):
        one = schemas.ref(one) if isinstance(one, str) else one
        described = {**one, "components": schema["components"]}
        return Draft202012Validator(described, format_checker=Draft202012Validator.FORMAT_CHECKER).is_valid(value)

    return allows


INSTANTS = [
    "2020-11-12",
    "2020-W46-4",
    "2020-11-12T11",
    "2020-11-12T11:10",
    "2020-11-12 11:10:00.5",
    "20201112T111000Z",
]
INSTANTS += [
    "2020W464T1110",
    "2020-11-12t11:10:00,25z",
    "2020-11-12T11:10:00+0130",
    "2020-11-12T11:10:00-01",
    "0001-01-01",
    "2020-317",
    "2020317T111000",
    "2016-12-31T23:59:60Z",
    "2016-12-31t15:59:60.25 -08:00",
    "20161231T235960",
    "2020-11-12T24",
    "2020-317T24:00:00,0 Z",
    "2020-11-12 11:10:00 +0130",
]
UNIX_TIMES = [-1, 0, 1605179400, 1605179400.25, 1605179400000, -62135596800000, 253402300799999.97]
UNIX_TEXTS = ["1605179400", "-5", "+5", "5.", "1605179400.123456", "253402300799999.999", "00000000001605179400"]
UNIX_TEXTS += [
    "31536000",
    "50000000",
    "40001312",
    "+20201112",
    "2020.5",
    "0.0",
    "19999.9",
    "80000.0",
    "-44147.46",
    "-0.0000005",
]
NUMBER_TEXTS = ["1", "-1.5", "+5", "5.", ".5", "1e3", "1E-3", "0001"]
SEGMENTS = ["order", "a b", "...", " .", "ä", "1", "a" * 255]


@pytest.mark.parametrize("timestamp", INSTANTS + UNIX_TIMES)
def test_an_event_may_have_each_kind_of_timestamp(schema, allows, client_with_scopes, timestamp):
    event = {"namespace": "Shop", "name": "order", "timestamp": timestamp, "value": 1}
    response = client_with_scopes("write").post(TRACK, event)

    assert response.status_code == 201
    assert allows("Event", event)
    assert allows(operation(schema, TRACK)["requestBody"]["content"]["application/json"]["schema"], [event])


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_may_have_each_kind_of_text(schema, allows, client_with_scopes, content_type, name):
    client = client_with_scopes("write")
    described = operation(schema, TRACK)["requestBody"]["content"][content_type]["schema"]

    for timestamp in INSTANTS + UNIX_TEXTS:
        for value in NUMBER_TEXTS if timestamp == "-5" else ["1"]:
            form = {"namespace": "Shop", "name": name, "timestamp": timestamp, "value": value}
            assert track_form(client, content_type, form).status_code == 201, form
            assert allows(described, form), form


def test_a_body_may_have_each_name_and_packing_that_is_read(schema):
    track = operation(schema, TRACK)
    [packing] = [parameter for parameter in track["parameters"] if parameter["name"] == "Content-Encoding"]
    parsers = views.TrackView.parser_classes

    assert set(track["requestBody"]["content"]) == {
        name for parser in parsers for name in (parser.media_type, *getattr(parser, "also", ()))
    }
    assert set(packing["schema"]["enum"]) == {*unpacking.UNPACKERS, "identity"}
    with_body = [each for path in schema["paths"].values() for each in path.values() if "requestBody" in each]
    assert len(with_body) > 4
    assert all(packing in each["parameters"] for each in with_body)


def track_form(client, content_type, form):
    if content_type == "multipart/form-data":
        return client.post(TRACK, form, format="multipart")
    return client.post(TRACK, urlencode(form), content_type=content_type)


def test_a_query_may_have_each_kind_of_text(schema, allows, client_with_scopes):
    client = client_with_scopes("aggregation")
    described = {parameter["name"]: parameter for parameter in operation(schema, AGGREGATION)["parameters"]}
    taken = [(name, text) for name in ("tsMin", "tsMax") for text in INSTANTS + UNIX_TEXTS]
    taken += [("tsMin", "2020-11-12T11:10:00 01:00")]  # a “+” that was not escaped
    taken += [("timezone", name) for name in ("UTC", "Europe/Berlin", "Etc/GMT+5", "America/Argentina/Buenos_Aires")]
    taken += [(name, text) for name in described for text in described[name]["schema"].get("enum", [])]
    assert len(taken) > 50

    for name, text in taken:
        if described[name]["in"] == "query":
            assert client.get("/api/events/Shop/order", {name: text}).status_code == 200, (name, text)
            assert allows(described[name]["schema"], text), (name, text)
    for name, parameter in described.items():
        if parameter["in"] == "query":
            assert client.get("/api/events/Shop/order", {name: ""}).status_code == 200, name
            assert parameter["allowEmptyValue"], name


@pytest.mark.parametrize(
    ("one", "value"),
    [("Timestamp", text) for text in ["", "now", "2020-13-01", "2020-11-32", "2020-W54-1", "20201112", "1605179400", "2020"]]
    + [("Timestamp", text) for text in ["2020-11-12T25", "2020-11-12T1110:00", "2020-11-12T11:10:00+25", True, 1e15, -2e14]]
    + [("Timestamp", text) for text in ["2020-11-12T24:00:01Z", "2020-11-12T24:01", "2020-000", "2020-367", "2020317", "2020-11-12T11:10:61Z"]]
    + [("Timestamp", text) for text in ["2020-11-12T11:10:00  Z", "2020-11-12T11:10:00 01:00", "2020-11-12 Z"]]
    + [("TimestampText", text) for text in ["", "now", "1e9", "1,5", "2020-11-12T", 1.5]]
    + [("TimestampText", text) for text in ["0", "123", "2020", "202011", "2020317", "20201112", "31535999", "99991231", "00000000000000000005"]]
    + [("TimestampText", text) for text in ["20000.0", "44147", "44147.", "44147.46", "79999.9", " 1", 0, 2020, 20201112, 31535999]]
    + [(schemas.SEGMENT, text) for text in ["", ".", "..", " ", "\t\x1f\x85\u3000", "a/b", "a\0", "a" * 256]]
    + [(schemas.SERIES_KEY, text) for text in ["", "a", "a/", "/a", "./a", "a/..", " /a", "a/b/c", "a/" + "b" * 256]]
    + [({"pattern": schemas.NUMBER_TEXT}, text) for text in ["", "1_0", "nan", "inf", "0x1", "1e", "."]]
    + [({"pattern": schemas.ZONE_NAME}, text) for text in ["", "a b", "/a", "+1", "Europe/"]],
)  # fmt: skip
def test_what_the_service_refuses_by_its_looks_is_not_allowed(allows, one, value):
    assert not allows(one, value)


@given(st.from_regex(timestamps._ISO_8601, fullmatch=True))
def test_every_instant_that_is_read_is_allowed(allows, text):
    with suppress(ValueError):
        timestamps.from_iso(text)
        assert allows("Timestamp", text)
        assert allows("TimestampText", text)


@given(st.from_regex(timestamps._UNIX_TEXT, fullmatch=True))
def test_every_unix_time_that_is_read_is_allowed(allows, text):
    with suppress(ValueError):
        timestamps.from_text(text)
        assert allows("TimestampText", text)


@given(st.from_regex(fields.NUMBER_TEXT, fullmatch=True))
def test_every_number_that_is_read_is_allowed(allows, text):
    assert allows({"pattern": schemas.NUMBER_TEXT}, text)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1) | st.text(" .\u2003\x1c", min_size=1))
def test_every_name_that_is_taken_is_allowed(allows, text):
    with suppress(ValidationError):
        validate_path_segment(text)
        assert allows(schemas.SEGMENT, text)
        assert allows(schemas.SERIES_KEY, f"{text}/{text}")


def test_every_time_zone_is_allowed(allows):
    assert [name for name in available_timezones() if not allows({"pattern": schemas.ZONE_NAME}, name)] == []


def test_every_example_is_allowed(schema, allows):
    shown = []
    for call in (call for methods in schema["paths"].values() for call in methods.values()):
        described = [*call.get("parameters", []), *call.get("requestBody", {}).get("content", {}).values()]
        for answer in call["responses"].values():
            described += [*answer.get("content", {}).values(), *answer.get("headers", {}).values()]
        shown += [
            (one["schema"], example["value"]) for one in described for example in one.get("examples", {}).values()
        ]
        shown += [(one["schema"], example) for one in described for example in one["schema"].get("examples", [])]
    shown += [
        (one, value) for one, name in schema["components"]["schemas"].items() for value in name.get("examples", [])
    ]

    assert len(shown) > 60
    assert [(one, value) for one, value in shown if not allows(one, value)] == []


def test_the_patterns_mean_the_same_everywhere(schema):
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(schema))

    assert len(patterns) > 10
    assert [pattern for pattern in patterns if re.search(r"\(\?|\\\\[sdwuSDW]", pattern)] == []


# The examples are what the service takes and answers.


def examples_of(content, media_type="application/json"):
    return {name: example["value"] for name, example in content["content"][media_type]["examples"].items()}


def test_the_examples_of_tracking_are_true(schema, client_with_scopes):
    client = client_with_scopes("write")
    track = operation(schema, TRACK)
    single, batch = examples_of(track["responses"]["201"]).values()
    later = {"namespace": "Shop", "name": "order", "timestamp": "2020-11-13T00:00:00Z", "value": 58.0}
    as_json, as_batch = examples_of(track["requestBody"]).values()
    [lines] = examples_of(track["requestBody"], "application/x-ndjson").values()
    [form] = examples_of(track["requestBody"], "application/x-www-form-urlencoded").values()

    def post(body, content_type, **headers):
        response = client.post(TRACK, body, content_type=content_type, headers=headers)
        return response.status_code, response.json()

    assert post(json.dumps(as_json), "application/json") == (201, single)
    assert post(json.dumps(as_batch), "application/json", Idempotency_Key="order-4711") == (201, batch)
    assert post(lines, "application/x-ndjson") == (201, batch)
    assert post(gzip.compress(lines.encode()), "application/x-ndjson", Content_Encoding="gzip") == (201, batch)
    assert post("&".join(f"{key}={value}" for key, value in form.items()), "application/x-www-form-urlencoded") == (
        201,
        later,
    )
    assert client.post(TRACK, form, format="multipart").json() == later


def test_an_answer_names_the_same_methods_before_and_after_the_description(made_anew, client_with_scopes, monkeypatch):
    monkeypatch.setattr(fast_path, "_default_headers", {})
    client = client_with_scopes("read write aggregation")

    def allowed():
        return [client.get(path)["Allow"] for path in ("/api/events/", "/api/events/Shop/order", TRACK)]

    client.get("/api/schema/")
    expected = ["GET, HEAD, OPTIONS", "GET, HEAD, OPTIONS", "POST, OPTIONS"]
    assert [allowed(), allowed()] == [expected, expected]


def test_the_examples_of_what_is_refused_are_true(made_anew, client_with_scopes, settings):
    settings.MAX_EVENTS = 20
    client = client_with_scopes("write")
    schema = client.get("/api/schema/").json()
    event = {"namespace": "Shop", "name": "order", "timestamp": 1, "value": 142}
    items = [event] * 17 + [{**event, "value": "1"}, {key: event[key] for key in ("namespace", "timestamp", "value")}]
    said = {status: examples_of(answer) for status, answer in operation(schema, TRACK)["responses"].items()}
    form = {"content_type": "application/xml"}
    key = {"headers": {"Idempotency-Key": "order-4711"}}
    client.post(TRACK, event, **key)

    assert client.post(TRACK, {**event, "value": "1"}).json() == said["400"]["AnEvent"]
    assert client.post(TRACK, b"x", content_type="application/json").json() == said["400"]["NoJSON"]
    assert client.post(TRACK, b"x", **form).json() == said["415"]["UnsupportedMediaType"]
    assert client.post(TRACK, {**event, "value": 2}, **key).json() == said["422"]["UnprocessableEntity"]
    assert client.delete(TRACK).json() == said["405"]["MethodNotAllowed"]
    assert client.post(TRACK, items).json() == said["400"]["ABatch"]
    assert client.post(TRACK, [event] * 21).json() == said["413"]["RequestEntityTooLarge"]


def test_the_examples_of_reading_are_true(schema, client_with_scopes):
    client = client_with_scopes("write read aggregation")
    client.post(TRACK, *[examples_of(operation(schema, TRACK)["requestBody"])["ABatch"]])
    shown = {
        parameter["name"]: next(iter(parameter["examples"].values()))["value"]
        for parameter in operation(schema, AGGREGATION)["parameters"]
        if "examples" in parameter
    }
    path = AGGREGATION.format(namespace=shown.pop("namespace"), name=shown.pop("name"))
    query = {**shown, "granularity": "day", "aggregationType": "sum"}
    answers = operation(schema, AGGREGATION)["responses"]

    for media_type in ("application/json", "text/csv", "application/x-ndjson"):
        [expected] = examples_of(answers["200"], media_type).values()
        response = client.get(path, query, headers={"Accept": media_type})
        if response.streaming:
            assert b"".join(response.streaming_content).decode() == expected
        else:
            assert response.json() == expected
    assert client.get(path, {"fill": "one"}).json() == examples_of(answers["400"])["AParameter"]
    listed = operation(schema, CATALOGUE)["responses"]
    assert client.get(CATALOGUE).json() == examples_of(listed["200"])["OneSeries"]
    assert client.get(CATALOGUE, {"page": 1}).json() == examples_of(listed["400"])["AParameter"]
    assert client.get("/api/events/a/b/c").json() == examples_of(answers["404"])["NotFound"]


@pytest.mark.parametrize(("path", "status"), [(TRACK, 401), (AGGREGATION, 401), (CATALOGUE, 403)])
def test_the_examples_of_what_is_not_allowed_are_true(schema, client_with_scopes, path, status):
    client = client_with_scopes("write" if path != TRACK else "read")
    said = operation(schema, path)["responses"]
    method = client.post if path == TRACK else client.get
    url = path.format(namespace="a", name="b")

    assert method(url).json() == examples_of(said["403"])["NoScope"]
    client.credentials(HTTP_AUTHORIZATION="Bearer x")
    assert method(url, headers={"Authorization": "Bearer x"}).json() == examples_of(said["401"])["Unauthorized"]


# The page.


@pytest.mark.parametrize("path", ["/api/docs/", "/api/docs"])
@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer anything"}])
def test_the_page_lets_nothing_in_from_elsewhere(client, path, headers):
    response = client.get(path, headers=headers)
    page = response.content.decode()
    policy = dict(part.split(" ", 1) for part in response["Content-Security-Policy"].split("; "))

    assert response["Content-Type"] == "text/html; charset=utf-8"
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert not re.search(r"<style|<script>|\son\w+=|style=|//", page)
    assert not response.cookies


def test_all_that_the_page_names_is_here(client):
    page = client.get("/api/docs/").content.decode()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)

    assert len(named) == 9
    for url in named:
        if url in ("/", "/o/applications/"):
            continue  # pages
        if url.startswith("/static/"):
            assert finders.find(url.removeprefix("/static/")), url
        else:
            script = client.get(url)
            assert script["Content-Type"] == "application/javascript"
            assert f'url: "{reverse("api-schema")}"'.encode() in script.content.replace(b"\\u002D", b"-")


AT_ONCE = """
import django; django.setup()
import threading
from concurrent.futures import ThreadPoolExecutor
from events.openapi.views import described
everyone = threading.Barrier(8)
def ask(_):
    everyone.wait()
    return described("json")
with ThreadPoolExecutor(8) as threads:
    print(len(set(threads.map(ask, range(8)))))
"""


def test_all_who_ask_first_and_at_once_are_answered():
    done = subprocess.run(
        [sys.executable, "-c", AT_ONCE], cwd=PROJECT_DIR, capture_output=True, text=True, env=os.environ
    )

    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
