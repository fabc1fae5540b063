"""The description as others' tools read it: linters find nothing, and the clients that they make of it work."""

import gzip
import importlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from events.tests.support import node, service
from events.tests.support.errors import NO_TIMESTAMP

needs_node = pytest.mark.skipif(not node.IS_THERE, reason="No Node.js 20.19 or newer.")
FIRST, SECOND, THIRD = (datetime(2020, 11, day, tzinfo=UTC) for day in (12, 13, 14))
NOT_BLANK = ["This field may not be blank."]
NO_ZONE = ["Must be the IANA name of a time zone, such as Europe/Berlin."]
NO_TOKEN = "The access token is unknown or has expired."


@pytest.fixture(scope="module")
def served(prepared, tmp_path_factory):
    """A served service: its URL, its description, and the client of its first visit."""
    with prepared(tmp_path_factory.mktemp("served")) as env, service.served(env):
        status, _, description = service.call(env, "GET", "/api/schema/")
        assert status == 200
        client = json.loads(Path(env["LOCAL_DIR"], "credentials.json").read_text())
        yield {"url": f"http://127.0.0.1:{env['PORT']}", "description": description, **client}


@pytest.fixture
def directory(served, tmp_path):
    """Where the description is ``schema.json``, among what the tools are told."""
    for path in node.CLIENTS_DIR.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "schema.json").write_bytes(served["description"])
    return tmp_path


def token_url(served):
    schemes = json.loads(served["description"])["components"]["securitySchemes"]
    return schemes["client"]["flows"]["clientCredentials"]["tokenUrl"]


# openapi-python-client


@pytest.fixture
def generate(directory, monkeypatch):
    """``generate(name, *options)``: a package of that name, imported."""

    def generate(name, *options):
        command = [
            *(sys.executable, "-m", "openapi_python_client", "generate", "--path", "schema.json"),
            *("--meta", "none", "--output-path", name, *options),
        ]
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        monkeypatch.syspath_prepend(str(directory))
        return importlib.import_module(name)

    return generate


def client_with_token(package, served):
    form = {"grant_type": "client_credentials", "scope": "read write aggregation"}
    credentials = served["client_id"], served["client_secret"]
    with package.Client(base_url=served["url"], raise_on_unexpected_status=True) as client:
        answer = client.get_httpx_client().post(token_url(served), data=form, auth=credentials)
    return package.AuthenticatedClient(base_url=served["url"], token=answer.json()["access_token"])


def test_a_python_client_works(generate, served):
    package = generate("generated_client", "--config", "openapi-python-client.yaml")
    models = importlib.import_module("generated_client.models")
    track, aggregate, list_series, list_series_of_namespace = (
        importlib.import_module(f"generated_client.api.events.{name}")
        for name in ("track", "aggregate", "list_series", "list_series_of_namespace")
    )
    client = client_with_token(package, served)

    def event(timestamp, value, name="order"):
        return models.Event(namespace="Python", name=name, timestamp=timestamp, value=value)

    def refused(module, *arguments, **options):
        answer = module.sync_detailed(*arguments, **{"client": client, **options})
        return answer.status_code, type(answer.parsed).__name__, answer.parsed.to_dict()

    batch = [event("2020-W46-5", 58), event(1605312000000, 1.5)]
    lines = "\n".join(json.dumps(each.to_dict()) for each in batch).encode()
    stranger = package.AuthenticatedClient(base_url=served["url"], token="x")
    with client, stranger:
        stored = track.sync(client=client, body=event(FIRST, 142))
        accepted = [track.sync(client=client, body=batch, idempotency_key="python-1") for _ in range(2)]
        # what it has no call for goes by the client that it has
        packed = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}
        sent = client.get_httpx_client().post("/api/track/", content=gzip.compress(lines), headers=packed)
        days = aggregate.sync(
            "Python", "order", client=client, ts_min="2020-11-01", ts_max=THIRD, timezone="Europe/Berlin",
            granularity=models.AggregateGranularity.DAY, aggregation_type="sum",
        )  # fmt: skip
        window = {"ts_min": FIRST, "ts_max": 1605225600, "format_": models.AggregateFormat.CSV}
        as_csv = client.get_httpx_client().request(**aggregate._get_kwargs("Python", "order", **window))
        series = [
            list_series_of_namespace.sync("Python", client=client),
            list_series.sync(client=client, limit=1, after="Python/a", search="ORDER"),
        ]
        errors = [
            refused(track, body=event(FIRST, 1, name="")),
            refused(track, body=[event(FIRST, 1), event("never", 1)]),
            refused(aggregate, "Python", "order", timezone="Nowhere"),
            refused(list_series, client=stranger),
        ]

    assert stored == models.StoredEvent(namespace="Python", name="order", timestamp=FIRST, value=142)
    assert accepted == [models.Accepted(accepted=2)] * 2
    assert (sent.status_code, sent.json()) == (201, {"accepted": 2})
    assert days == [
        models.Item(aggregated_timestamp=timestamp, value=value)
        for timestamp, value in [(FIRST, 142), (SECOND, 116), (THIRD, 3)]
    ]
    assert (as_csv.status_code, as_csv.text) == (
        200, "aggregatedTimestamp,value\r\n2020-11-12T00:00:00Z,142.0\r\n2020-11-13T00:00:00Z,58.0\r\n"
    )  # fmt: skip
    order = models.Series(namespace="Python", name="order", count=5, first_timestamp=FIRST, last_timestamp=THIRD)
    assert series == [[order], [order]]
    assert errors == [
        (400, "FieldErrors", {"name": NOT_BLANK}),
        (400, "BatchErrors", {"1": {"timestamp": [NO_TIMESTAMP]}}),
        (400, "FieldErrors", {"timezone": NO_ZONE}),
        (401, "Detail", {"detail": NO_TOKEN}),
    ]


def test_a_python_client_of_no_options_works_for_an_event(generate, served):
    package = generate("plain_client")
    models = importlib.import_module("plain_client.models")
    track = importlib.import_module("plain_client.api.events.track")
    event = models.Event(namespace="Plain", name="order", timestamp="2020-11-12", value=142)

    with client_with_token(package, served) as client:
        stored = track.sync(client=client, body=event)

    assert stored == models.StoredEvent(namespace="Plain", name="order", timestamp=FIRST, value=142)


# openapi-typescript with openapi-fetch, and the linters


@pytest.fixture
def run(directory, request):
    """``run(command, *arguments)``: the output of a command of ``node_modules``, whatever it ends with."""
    modules = node.modules(request.config.cache.mkdir("clients"))
    (directory / "node_modules").symlink_to(modules)

    def run(command, *arguments, **variables):
        program = command if command == "node" else str(modules / ".bin" / command)
        environment = {**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", **variables}
        done = subprocess.run([program, *arguments], cwd=directory, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}"
        return done.stdout

    return run


@needs_node
def test_redocly_finds_nothing(run):
    report = json.loads(run("redocly", "lint", "schema.json", "--config", "redocly.yaml", "--format", "json"))

    assert report["problems"] == []


@needs_node
def test_spectral_finds_nothing(run):
    arguments = ["--ruleset", "spectral.yaml", "--format", "text", "--fail-severity", "hint"]

    assert (
        run("spectral", "lint", "schema.json", *arguments).strip()
        == "No results with a severity of 'hint' or higher found!"
    )


@needs_node
def test_a_typescript_client_works(run, served):
    run("openapi-typescript", "schema.json", "--output", "schema.d.ts")
    run("tsc", "--project", ".")
    variables = {"BASE_URL": served["url"], "TOKEN_URL": token_url(served)}
    variables |= {"CLIENT_ID": served["client_id"], "CLIENT_SECRET": served["client_secret"]}
    order = {"namespace": "TypeScript", "name": "order"}
    series = {**order, "count": 7, "firstTimestamp": "2020-11-12T11:10:00Z", "lastTimestamp": "2020-11-15T00:00:00Z"}
    days = {
        "2020-11-12T11:10:00Z": 142,
        "2020-11-13T00:00:00Z": 116,
        "2020-11-14T00:00:00Z": 3,
        "2020-11-15T00:00:00Z": 12,
    }

    assert json.loads(run("node", "use.js", **variables)) == {
        "an event": [201, {**order, "timestamp": "2020-11-12T11:10:00Z", "value": 142}],
        "a batch": [201, {"accepted": 2}],
        "a batch again": [201, {"accepted": 2}],
        "NDJSON": [201, {"accepted": 2}],
        "a form": [201, {**order, "timestamp": "2020-11-15T00:00:00Z", "value": 5}],
        "a multipart form": [201, {**order, "timestamp": "2020-11-15T00:00:00Z", "value": 7}],
        "an aggregate": [200, [{"aggregatedTimestamp": day, "value": value} for day, value in days.items()]],
        "its values": list(days.values()),
        "CSV": [200, "aggregatedTimestamp,value\r\n2020-11-12T11:10:00Z,142.0\r\n"],
        "the same": [304, None],
        "the catalogue": [200, [series]],
        "a page of it": [200, [series]],
        "a refused event": [400, {"name": NOT_BLANK}],
        "its name": NOT_BLANK,
        "a refused batch": [400, {"1": {"timestamp": [NO_TIMESTAMP]}}],
        "a refused zone": [400, {"timezone": NO_ZONE}],
        "a wrong token": [401, {"detail": NO_TOKEN}],
    }
