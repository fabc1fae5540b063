"""The worker deletes tokens that have expired."""

import subprocess
import sys
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.utils import timezone
from oauth2_provider.models import AccessToken

from events.tests.support import service
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import wait_until
from events.worker import expired_tokens
from events.worker.expired_tokens import ExpiredTokens, delete_expired


@pytest.fixture(autouse=True)
def small_steps(monkeypatch):
    monkeypatch.setattr(expired_tokens, "STEP_TOKENS", 3)


@pytest.fixture
def clock(monkeypatch):
    """What the worker goes by, in seconds."""
    clock = [1000.0]
    monkeypatch.setattr(expired_tokens.time, "monotonic", lambda: clock[0])
    return clock


@pytest.fixture
def make_tokens(make_token):
    def make(*ages, prefix="token"):
        for number, hours in enumerate(ages):
            make_token("read", expires_in=timedelta(hours=-hours), text=f"{prefix}-{number}")

    return make


def test_it_deletes_those_that_have_expired_and_no_others(make_tokens, django_assert_num_queries):
    make_tokens(1, -1, 5, 0.001, -0.01, 100, -1, 2)

    assert [*delete_expired()] == [2, 2, 1]

    assert all(token.expires > timezone.now() for token in AccessToken.objects.all())
    assert AccessToken.objects.count() == 3
    with django_assert_num_queries(2):  # one step and the look for another
        assert [*delete_expired()] == [0]


def test_there_may_be_none(db):
    assert [*delete_expired()] == []


def test_one_that_is_prolonged_meanwhile_stays(make_tokens, monkeypatch):
    make_tokens(1, 1)
    filtered = AccessToken.objects.filter

    def prolonging(*arguments, **conditions):
        if "pk__in" in conditions:
            filtered(pk=conditions["pk__in"][0]).update(expires=timezone.now() + timedelta(days=1))
        return filtered(*arguments, **conditions)

    monkeypatch.setattr(AccessToken.objects, "filter", prolonging)

    assert [*delete_expired()] == [1]
    assert AccessToken.objects.count() == 1


def test_the_worker_looks_once_an_hour(make_tokens, clock):
    worker = ExpiredTokens()
    make_tokens(1, 1, 1, 1)
    assert [worker.delete_some() for _ in range(4)] == [3, 1, 0, 0]

    make_tokens(1, prefix="later")
    clock[0] += 3599
    assert worker.delete_some() == 0
    clock[0] += 1
    assert worker.delete_some() == 1


def test_after_an_error_it_begins_anew_at_once(make_tokens, clock, monkeypatch):
    worker = ExpiredTokens()
    make_tokens(1)

    def fail(*arguments, **conditions):
        raise OperationalError

    with monkeypatch.context() as broken:
        broken.setattr(AccessToken.objects, "filter", fail)
        with pytest.raises(OperationalError):
            worker.delete_some()

    assert worker.delete_some() == 1


def test_the_worker_does_it(prepared, tmp_path):
    with prepared(tmp_path) as env:
        columns = "token, token_checksum, expires, scope, created, updated, resource"
        values = ", ".join(
            f"('', '{number:064}', '{year}-01-01 00:00:00', 'read', '2020-01-01 00:00:00', '2020-01-01 00:00:00', '[]')"
            for number, year in enumerate([2020, 2020, 2999])
        )
        service.query(env, f"INSERT INTO oauth2_provider_accesstoken ({columns}) VALUES {values}")
        command = [sys.executable, str(PROJECT_DIR / "manage.py"), "roll_up", "--watch", "0.2"]
        process = subprocess.Popen(command, env=env)
        try:
            wait_until(lambda: service.query(env, "SELECT count(*) FROM oauth2_provider_accesstoken") == [(1,)])
        finally:
            process.kill()
            process.wait()


def test_cleartokens_has_nothing_to_warn_of(db):
    errors = StringIO()

    call_command("cleartokens", stderr=errors)

    assert errors.getvalue() == ""
