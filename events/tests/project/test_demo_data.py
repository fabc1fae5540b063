"""``data.json`` and the script that makes it."""

import json
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.db import transaction
from django.db.models import Avg, Max, Min

from events.models import Event
from events.tests.support.answers import catalogue
from events.tests.support.examples import IS_THOROUGH
from events.tests.support.service import PROJECT_DIR

FIXTURE = str(PROJECT_DIR / "data.json")


def content():
    return sorted(Event.objects.values_list("namespace", "name", "timestamp", "value"))


@pytest.fixture(scope="module")
def loaded(django_db_setup, django_db_blocker):
    """The demo data, loaded once for the tests that begin with it; each of them is rolled back to here."""
    with django_db_blocker.unblock(), transaction.atomic():
        call_command("loaddata", FIXTURE, verbosity=0)
        yield
        transaction.set_rollback(True)


def test_it_looks_like_life(loaded, db):
    series = {(line["namespace"], line["name"]) for line in catalogue()}
    assert {namespace for namespace, _ in series} >= {"Frontend", "Back-end", "Server-1"}
    assert {name for _, name in series} >= {"pageView", "subscribeButtonClick", "availableMemory", "cpuUtilization"}
    assert len(series) == 8
    assert len(set(content())) == len(content())  # so each is found again when it is loaded again
    assert 2000 <= Event.objects.count() <= 5000
    ends = Event.objects.aggregate(first=Min("timestamp"), last=Max("timestamp"))
    assert ends["last"] - ends["first"] >= timedelta(days=60)

    def average(**when):
        return Event.objects.of_series("Frontend", "pageView").filter(**when).aggregate(value=Avg("value"))["value"]

    assert average(timestamp__hour__in=range(12, 17)) > 2 * average(timestamp__hour__in=range(5))
    assert average(timestamp__iso_week_day__lte=5) > 1.3 * average(timestamp__iso_week_day__gte=6)


@pytest.mark.only_on("sqlite")
def test_loading_it_twice_changes_nothing(loaded, db, tmp_path):
    """Nor loading a part of it, which takes less time."""
    once = content()
    (tmp_path / "part.json").write_text(json.dumps(json.loads((PROJECT_DIR / "data.json").read_text())[-500:]))

    call_command("loaddata", FIXTURE if IS_THOROUGH else str(tmp_path / "part.json"), verbosity=0)

    assert content() == once


def test_loading_it_leaves_other_events_alone(loaded, make_event, tmp_path):
    some = json.loads((PROJECT_DIR / "data.json").read_text())[:100]
    (tmp_path / "some.json").write_text(json.dumps(some))
    other = make_event()
    same = some[0]
    twin = make_event(**{**same["fields"], "timestamp": same["fields"]["timestamp"].rstrip("Z")})
    again = make_event(**{**same["fields"], "timestamp": same["fields"]["timestamp"].rstrip("Z")})
    before = content()

    call_command("loaddata", str(tmp_path / "some.json"), verbosity=0)

    assert content() == before

    assert {other.pk, twin.pk, again.pk} <= set(Event.objects.values_list("pk", flat=True))
    assert Event.objects.get(pk=other.pk).natural_key() == other.natural_key()


def test_new_events_follow_the_loaded_ones(loaded, make_event):
    assert make_event().pk > Event.objects.earliest("pk").pk
    assert Event.objects.latest("pk").namespace == "Frontend"


@pytest.mark.only_on("sqlite")
def test_the_script_makes_it():
    made = subprocess.run(
        [sys.executable, PROJECT_DIR / "script/demo_data"], capture_output=True, check=True, text=True
    )

    assert made.stdout == (PROJECT_DIR / "data.json").read_text()
