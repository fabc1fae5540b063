"""Fixtures of the tests of clients: a served service, and trackers for it."""

import json
import os
import signal
from pathlib import Path

import pytest
from tracking_client import Tracker
from tracking_client.retries import Backoff

from events.tests.clients.scripted import Scripted
from events.tests.support import service
from events.tests.support.network import network
from events.tests.support.threads import in_thread

QUICKLY = Backoff(first_seconds=0.05, most_seconds=0.2)


class Server:
    """A served service that may be killed and started again."""

    def __init__(self, env):
        self.env = env
        self.start()

    def start(self):
        self._served = service.served(self.env)
        self.process = self._served.__enter__()

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.stop()

    def stop(self):
        self._served.__exit__(None, None, None)


@pytest.fixture(scope="module")
def server(prepared, tmp_path_factory):
    """A service that all tests of a file share."""
    with prepared(tmp_path_factory.mktemp("service"), **VARIABLES) as env:
        server = Server(env)
        yield server
        server.stop()


@pytest.fixture(scope="module")
def env(server):
    """The environment of that service."""
    return server.env


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


@pytest.fixture
def scripted():
    with in_thread(Scripted()) as server:
        yield server


@pytest.fixture
def make_scripted_tracker(scripted):
    """Makes trackers of a service that answers as the test says."""
    made = []

    def make(**options):
        largest = options.get("batch_events", 1_000)
        soon = {"backoff": Backoff(0.01, 0.02), "batch_seconds": 0.01, "timeout_seconds": 2}
        options = {**soon, "largest_batch_events": largest, **options}
        made.append(Tracker(options.pop("url", scripted.url), "id", "secret", **options))
        return made[-1]

    yield make
    for tracker in made:
        tracker.close(0)
