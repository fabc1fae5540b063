"""Fixtures of the tests of clients: a served service, and trackers for it."""

import json
from pathlib import Path

import pytest
from tracking_client import Tracker
from tracking_client.retries import Backoff

from events.tests.support import service
from events.tests.support.network import network

QUICKLY = Backoff(first_seconds=0.05, most_seconds=0.2)


@pytest.fixture(scope="module")
def env(prepared, tmp_path_factory):
    """The environment of a service that all tests of a file share."""
    with prepared(tmp_path_factory.mktemp("service"), **VARIABLES) as env, service.served(env):
        yield env


# so that what a test asks for is done at once, and no test waits for another's limits
VARIABLES = {"TOKEN_CACHE_SECONDS": 0, "RATE_LIMIT_TOKENS": 0, "CLIENT_USAGE_SECONDS": 0, "MAX_EVENTS": 1_000,
             "MAX_LOGIN_FAILURES": 0}  # fmt: skip


def credentials(env):
    kept = json.loads(Path(env["LOCAL_DIR"], "credentials.json").read_text())
    return kept["client_id"], kept["client_secret"]


@pytest.fixture
def way(env):
    with network(int(env["PORT"])) as way:
        yield way


@pytest.fixture
def make_tracker(env, way):
    """Makes trackers that send by ``way``, soon and again at once; closed after."""
    made = []

    def make(**options):
        largest = options.get("batch_events", 1_000)
        arguments = {
            "url": way.url,
            "backoff": QUICKLY,
            "batch_seconds": 0.05,
            "largest_batch_events": largest,
            **options,
        }
        client_id, client_secret = credentials(env)
        made.append(Tracker(**{"client_id": client_id, "client_secret": client_secret, **arguments}))
        return made[-1]

    yield make
    for tracker in made:
        tracker.close(0)


@pytest.fixture
def stored(env, request):
    """The values that the service has of this test's namespace, in the order of their ids."""

    def values(namespace=None):
        sql = f"SELECT value FROM events_event WHERE namespace = '{namespace or request.node.name}' ORDER BY id"
        return [value for (value,) in service.query(env, sql)]

    return values


@pytest.fixture
def namespace(request):
    """A namespace for this test alone."""
    return request.node.name
