"""What docs/grafana.md says and docs/grafana-dashboard.json asks, sent as the plugin of Grafana would send it."""

import base64
import json
import re
from datetime import UTC, datetime
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit

import pytest
import yaml
from django.test import Client

from events.tests.support.service import PROJECT_DIR

DOCUMENT = (PROJECT_DIR / "docs/grafana.md").read_text()
[SOURCE] = yaml.safe_load(re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)[1])["datasources"]
DASHBOARD = json.loads((PROJECT_DIR / "docs/grafana-dashboard.json").read_text())
VARIABLES = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
PANELS = {panel["id"]: panel for panel in DASHBOARD["panels"]}

NAMESPACE, NAME = "Läden & Märkte", "order 100%?"
CHOSEN = {"namespace": NAMESPACE, "name": NAME, "aggregationType": "sum", "timezone": "Europe/Berlin"}
FROM, TO = datetime(2020, 11, 12, 10, 30, tzinfo=UTC), datetime(2020, 11, 12, 13, 29, 59, tzinfo=UTC)
SECONDS = {"h": 3600, "d": 86_400, "y": 365 * 86_400}


def chosen(text):
    """Grafana's part: the dashboard's variables."""
    for name, value in CHOSEN.items():
        text = text.replace(f"${{{name}:percentencode}}", quote(value, safe="")).replace(f"${{{name}}}", value)
    return text


def expanded(text, start, end):
    """The plugin's part: its macros. The custom interval is that of the first duration that the range fits in."""

    def interval(match):
        *pairs, default = match[1].split(",")
        fits = (
            value
            for duration, value in zip(pairs[::2], pairs[1::2], strict=True)
            if (end - start).total_seconds() <= int(duration[:-1]) * SECONDS[duration[-1]]
        )
        return next(fits, default)

    text = re.sub(r"\$__customInterval\((.*?)\)", interval, text)
    for name, instant in (("From", start), ("To", end)):
        text = text.replace(f"${{__time{name}}}", str(int(instant.timestamp() * 1000)))
    return text


def token_of(client):
    """By client credentials, as Go's oauth2 sends them: the header first, and scopes in the form."""
    oauth2 = SOURCE["jsonData"]["oauth2"]
    assert (SOURCE["jsonData"]["auth_method"], oauth2["oauth2_type"]) == ("oauth2", "client_credentials")
    assert (oauth2["client_id"], SOURCE["secureJsonData"]) == (
        "the client id",
        {"oauth2ClientSecret": "the client secret"},
    )
    basic = base64.b64encode(f"{quote_plus('shop')}:{quote_plus('shop-secret')}".encode()).decode()
    response = client.post(
        urlsplit(oauth2["token_url"]).path,
        urlencode({"grant_type": "client_credentials", "scope": " ".join(oauth2["scopes"])}),
        content_type="application/x-www-form-urlencoded",
        headers={"Authorization": f"Basic {basic}", "Host": urlsplit(oauth2["token_url"]).netloc},
    )
    assert response.status_code == 200
    assert (response.json()["token_type"], response.json()["scope"]) == ("Bearer", "read aggregation")
    return response.json()["access_token"]


@pytest.fixture
def ask(application):
    """Sends a query of the plugin, or the URL of one; its answer."""
    client = Client()
    token = token_of(client)

    def send(query, start=FROM, end=TO):
        query = {"url": query, "url_options": {"method": "GET", "params": []}} if isinstance(query, str) else query
        url = urlsplit(SOURCE["url"] + expanded(chosen(query["url"]), start, end))
        pairs = parse_qsl(url.query) + [
            (pair["key"], expanded(chosen(pair["value"]), start, end)) for pair in query["url_options"]["params"]
        ]
        path = f"{url.path}?{urlencode(pairs)}"
        assert query["url_options"]["method"] == "GET"
        assert "$" not in path
        assert "%24" not in path
        return client.get(
            path,
            headers={
                "Host": url.netloc,
                "Authorization": f"Bearer {token}",
                "Accept": "application/json;q=0.9,text/plain",
            },
        )

    return send


@pytest.fixture
def stored(make_event):
    for timestamp, value in [
        ("2020-11-12T10:29:59", 64),
        ("2020-11-12T10:30:00", 1),
        ("2020-11-12T10:30:59.5", 2),
        ("2020-11-12T10:32:00", 4),
        ("2020-11-12T13:29:59", 8),
        ("2020-11-12T13:30:00", 128),
    ]:
        make_event(NAMESPACE, NAME, timestamp, value)
    make_event("Shop", "order", "2020-11-12T11:10:00", 16)


def rows(query, answer):
    """What the plugin makes of an answer: its columns by the texts that they are given."""
    assert answer.status_code == 200, answer.content
    assert (query["type"], query["parser"], query["root_selector"]) == ("json", "backend", "")
    return [{column["text"]: item[column["selector"]] for column in query["columns"]} for item in answer.json()]


def test_everything_asks_the_data_source_that_is_chosen():
    assert VARIABLES["datasource"]["query"] == SOURCE["type"] == "yesoreyeram-infinity-datasource"
    queries = [each["query"]["infinityQuery"] for each in VARIABLES.values() if each["type"] == "query"]
    queries += [target for panel in PANELS.values() for target in panel["targets"]]
    asking = [*queries, *PANELS.values(), *(each for each in VARIABLES.values() if each["type"] == "query")]
    assert len(asking) == 10
    assert [each["datasource"] for each in asking] == [{"type": SOURCE["type"], "uid": "${datasource}"}] * 10


def test_save_and_test(ask):
    assert SOURCE["jsonData"]["customHealthCheckEnabled"] is True

    assert ask(SOURCE["jsonData"]["customHealthCheckUrl"]).status_code == 200


def test_the_variables_offer_what_there_is(ask, stored):
    def offered(name):
        query = VARIABLES[name]["query"]["infinityQuery"]
        return rows(query, ask(query))

    assert offered("namespace") == [{"namespace": NAMESPACE}, {"namespace": "Shop"}]
    assert offered("name") == [{"name": NAME}]


def test_the_series_is_drawn_with_its_gaps(ask, stored):
    [query] = PANELS[1]["targets"]

    found = rows(query, ask(query))

    assert [column["type"] for column in query["columns"]] == ["timestamp", "number"]
    assert len(found) == 180
    values = {item["Time"][11:16]: item["${aggregationType}"] for item in found}
    assert {minute: value for minute, value in values.items() if value is not None} == {
        "10:30": 3.0, "10:32": 4.0, "13:29": 8.0
    }  # fmt: skip


def test_its_events_are_counted(ask, stored):
    [query] = PANELS[2]["targets"]

    found = rows(query, ask(query))

    counts = {item["Time"][11:16]: item["events"] for item in found}
    assert len(counts) == 180
    assert {minute: count for minute, count in counts.items() if count != 0} == {"10:30": 2, "10:32": 1, "13:29": 1}


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (0.25, ["2020-11-12T10:29:00Z", "2020-11-12T10:30:00Z", "2020-11-12T10:32:00Z", "2020-11-12T13:29:00Z"]),
        (31, ["2020-11-12T10:00:00Z", "2020-11-12T13:00:00Z"]),
        (6 * 365, ["2020-11-11T23:00:00Z"]),
        (6 * 365 + 1, ["2020-10-31T23:00:00Z"]),
    ],
)
def test_buckets_grow_with_the_time_range(ask, stored, days, expected):
    """Those of days and months in the time zone that is typed."""
    [query] = PANELS[1]["targets"]
    start = datetime.fromtimestamp(TO.timestamp() - days * 86_400, UTC)

    found = rows(query, ask(query, start))

    assert [item["Time"] for item in found if item["${aggregationType}"] is not None] == expected


@pytest.mark.parametrize("kind", VARIABLES["aggregationType"]["query"].split(","))
def test_each_aggregation_type_is_answered(ask, stored, kind, monkeypatch):
    monkeypatch.setitem(CHOSEN, "aggregationType", kind)
    [query] = PANELS[1]["targets"]

    assert rows(query, ask(query))


def test_the_table_is_the_catalogue_of_the_namespace(ask, stored):
    [query] = PANELS[3]["targets"]

    assert rows(query, ask(query)) == [
        {"Name": NAME, "Events": 6, "First": "2020-11-12T10:29:59Z", "Last": "2020-11-12T13:30:00Z"}
    ]


def test_the_panel_of_the_document(ask, make_event):
    """And its last URL, the catalogue."""
    make_event(timestamp="2020-11-12T11:10:00", value=2)
    panel, catalogue = re.findall(r"```\n(/api/.*?)\n```", DOCUMENT)

    assert ask(panel).json() == [
        {"aggregatedTimestamp": "2020-11-12T10:00:00Z", "value": None},
        {"aggregatedTimestamp": "2020-11-12T11:00:00Z", "value": 2.0},
        {"aggregatedTimestamp": "2020-11-12T12:00:00Z", "value": None},
        {"aggregatedTimestamp": "2020-11-12T13:00:00Z", "value": None},
    ]
    assert [set(item) for item in ask(catalogue).json()] == [
        {"namespace", "name", "count", "firstTimestamp", "lastTimestamp"}
    ]


def test_its_words_are_those_of_the_dashboard():
    [query] = PANELS[1]["targets"]
    granularity = next(pair["value"] for pair in query["url_options"]["params"] if pair["key"] == "granularity")

    assert f"granularity={granularity}" in DOCUMENT
