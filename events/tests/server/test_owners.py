"""Whom a request counts for where many come by one proxy, and users by their sessions."""

import json
import shutil
import socket
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.http import StreamingHttpResponse
from django.test import Client, RequestFactory

from events.http.exceptions import ServiceUnavailable
from events.observability.recorder import begin, recording
from events.tests.support import service
from events.tests.support.service import call
from events.tests.support.waiting import wait_until
from tracking_api.server.handler import LongAnswer, django_handler
from tracking_api.server.process import _owner
from tracking_api.server.requests import Request
from tracking_api.server.streams import Streams

PATH = "/api/events/Frontend/pageView?format=csv&aggregationType=count"
LONG_PATH = f"{PATH}&granularity=minute&fill=zero&tsMin=2018-01-01&tsMax=2025-12-31"  # for seconds it is made
CSRF = "a" * 32
SESSIONS = """
from django.contrib.auth.models import User
from django.test import Client
for name in ("alice", "bob"):
    client = Client()
    client.force_login(User.objects.create_superuser(name))
    print(client.cookies["sessionid"].value)
"""


def by_session(session):
    return {"Cookie": f"theme=dark; sessionid={session}; csrftoken={CSRF}", "X-CSRFToken": CSRF}


# Long answers.


@pytest.fixture(scope="module", params=["serve", "waitress-serve"])
def running(request, prepared, tmp_path_factory):
    """A service of one process that takes this machine for a proxy, with two users: its sessions are theirs."""
    command, cwd = None, None
    if request.param != "serve":
        if not shutil.which(request.param):
            pytest.skip("requirements-dev.txt")
        command, cwd = [shutil.which(request.param), "--threads", "8"], service.PROJECT_DIR
    directory = tmp_path_factory.mktemp("owners")
    with prepared(directory, TRUSTED_PROXIES="127.0.0.1", PYTHONPATH=service.PROJECT_DIR) as env:
        made = service.manage("shell", "-v", "0", "-c", SESSIONS, env=env)
        assert made.returncode == 0, made.stderr
        if command:
            command += ["--listen", f"127.0.0.1:{env['PORT']}", "tracking_api.wsgi:application"]
        with service.served(env, command=command, cwd=cwd) as process:
            yield {**env, "SESSIONS": made.stdout.split(), "PID": str(process.pid)}


@contextmanager
def asked(env, session):
    """A user who has asked for what takes long to make, and doesn't read."""
    with socket.create_connection(("127.0.0.1", int(env["PORT"])), timeout=120) as connection:
        head = f"GET {LONG_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: sessionid={session}\r\n\r\n"
        connection.sendall(head.encode())
        yield


def being_made(env):
    """How many files without a name the service has open."""
    return sum(map(service.files_without_a_name, [env["PID"], *service.children(env["PID"])]))


def test_each_user_has_long_answers_of_their_own(running):
    alice, bob = running["SESSIONS"]
    [[event]] = service.query(running, "SELECT min(id) FROM events_event")
    form = f"action=export_csv&index=0&_selected_action={event}"

    def export(session):
        fields = {**by_session(session), "Content-Type": "application/x-www-form-urlencoded"}
        return call(running, "POST", "/admin/events/event/", form, **fields)

    with asked(running, alice), asked(running, alice):
        wait_until(lambda: being_made(running) == 2)
        hers = [call(running, "GET", PATH, **by_session(alice)), export(alice)]
        his = [call(running, "GET", PATH, **by_session(bob)), export(bob)]

    detail = "More than 2 long answers of a client at a time; try again in 1 s."
    assert [(status, headers["Retry-After"]) for status, headers, _ in hers] == [(429, "1")] * 2
    assert json.loads(hers[0][2]) == {"detail": detail}
    assert [(status, body.splitlines()[0]) for status, _, body in his] == [
        (200, b"aggregatedTimestamp,value"),
        (200, b"namespace,name,timestamp,value"),
    ]


def long_answer(method, path, form=None, **headers):
    environ = RequestFactory().generic(
        method, path, form or "", content_type="application/x-www-form-urlencoded", headers=headers
    ).environ  # fmt: skip
    with recording(begin(environ)):
        answer = django_handler(environ, lambda status, headers: None)
    assert isinstance(answer, LongAnswer)
    return answer


def test_a_long_answer_is_of_the_tokens_client_or_else_of_the_user(make_event, make_token):
    event = make_event("Frontend", "pageView")
    user = User.objects.create_superuser("ada")
    client = Client()
    client.force_login(user)
    session = by_session(client.cookies["sessionid"].value)
    form = f"action=export_csv&index=0&_selected_action={event.pk}"

    assert long_answer("GET", PATH, **session).owner == f"user {user.pk}"
    assert long_answer("POST", "/admin/events/event/", form, **session).owner == f"user {user.pk}"
    assert long_answer("GET", PATH, Authorization=f"Bearer {make_token('aggregation')}").owner == "shop"
    token = make_token("aggregation", text="of-a-user", application=None, user=user)
    assert long_answer("GET", PATH, Authorization=f"Bearer {token}").owner == f"user {user.pk}"


def test_a_long_answer_may_be_nobodys():
    request = RequestFactory().get(PATH)
    assert LongAnswer(request, StreamingHttpResponse(), print).owner is None

    request.user = AnonymousUser()
    assert LongAnswer(request, StreamingHttpResponse(), print).owner is None


def test_whoever_is_unknown_has_the_limit_of_all_alone(settings):
    settings.SERVER_STREAMS, settings.RETRY_AFTER_SECONDS = 4, 7
    streams = Streams()
    for _ in range(8):
        streams.admit(None, 8)

    with pytest.raises(ServiceUnavailable) as refused:
        streams.admit(None, 8)

    assert (refused.value.detail, refused.value.wait) == ("Too many long answers are being made; try again.", 7)


# Jobs for the threads.


def owner(*headers, network=None):
    return _owner(Request(headers=list(headers)), SimpleNamespace(client_network=network))


def test_a_job_is_of_the_clients_network():
    assert owner((b"Cookie", b"sessionid=a"), (b"Authorization", b"Bearer a"), network="192.0.2.1") == "192.0.2.1"


def test_behind_a_proxy_a_job_is_of_its_token_or_else_of_its_session():
    alice, bob = owner((b"Cookie", b"sessionid=a")), owner((b"Cookie", b"sessionid=b"))

    assert None not in {alice, bob}
    assert alice != bob
    assert alice == owner((b"cookie", b"theme=dark; sessionid=a;csrftoken=b"))  # whatever else the browser keeps
    assert alice == owner((b"Cookie", b"theme=dark"), (b"Cookie", b"sessionid=a"))
    assert owner((b"Cookie", b"sessionid=192.0.2.1")) != owner(network="192.0.2.1")
    assert owner((b"Cookie", b"sessionid=a"), (b"authorization", b"Bearer a")) == b"Bearer a"
    assert owner() is None
    assert owner((b"Cookie", b"theme=dark")) is None
    assert owner((b"Cookie", b'\xff="\xff; ;=;')) is None
