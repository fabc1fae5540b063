"""``script/install``, ``manage.py serve`` and ``manage.py prepare_first_visit``."""

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from io import StringIO
from pathlib import Path
from threading import Thread

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from oauth2_provider.models import Application

from events.models import Event
from events.tests.support import service
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import wait_until
from tracking_api.management.commands import serve
from tracking_api.server.supervisor import Supervisor


@pytest.fixture
def env(tmp_path):
    with service.own_database(tmp_path) as url:
        yield service.environment(tmp_path, DATABASE_URL=url, PORT=service.free_port())


def test_a_taken_port_is_said_before_anything_is_created(env, tmp_path):
    with socket.create_server(("127.0.0.1", int(env["PORT"]))):
        done = service.manage("serve", "--prepare", env=env)

    assert done.returncode == 1
    assert done.stderr == (
        f"CommandError: Can't listen on 127.0.0.1:{env['PORT']}: Address already in use. "
        "Stop what uses it, or choose another with the variables HOST and PORT.\n"
    )
    assert [path.name for path in (tmp_path / "local").iterdir()] == ["secret_key"]


@pytest.mark.parametrize(
    ("host", "url"), [("0.0.0.0", "http://0.0.0.0:8000/"), ("::", "http://[::]:8000/"), ("::1", "http://[::1]:8000/")]
)
def test_the_address_that_it_serves_on_is_a_url(settings, host, url):
    settings.HOST, settings.PORT = host, 8000
    command = serve.Command(stdout=StringIO())

    command._tell()

    assert command.stdout.getvalue() == f"Serving on {url} – stop with Ctrl+C.\n"


def test_it_says_that_it_serves_once_it_does(migrated, tmp_path):
    slow, begun = tmp_path / "slow", tmp_path / "begun"
    for directory in (slow, begun):
        directory.mkdir()
    (slow / "uvloop.py").write_text(f"""if True:
        import asyncio, os, pathlib, time
        def run(serving):
            time.sleep(0.5)
            pathlib.Path({str(begun)!r}, str(os.getpid())).touch()
            asyncio.run(serving)
    """)
    with migrated(tmp_path, PYTHONPATH=slow) as env:
        del env["SERVER_WORKERS"]
        command = [sys.executable, str(PROJECT_DIR / "manage.py"), "serve"]
        with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process, ExitStack() as stack:
            stack.callback(process.kill)
            assert process.stdout.readline() == f"Serving on http://127.0.0.1:{env['PORT']}/ – stop with Ctrl+C.\n"
            assert {file.name for file in begun.iterdir()} == set(map(str, workers(process).values()))
            assert len(workers(process)) == 2
            assert service.call(env, "GET", "/healthz")[0] == 200
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0


def test_a_process_that_cant_serve_is_said_and_no_other_goes_on(migrated, tmp_path):
    with migrated(tmp_path, SERVER_WORKERS=2) as env:
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / "uvloop.py").write_text("def run(serving): raise OSError('no loop here')\n")
        done = service.manage("serve", env={**env, "PYTHONPATH": str(broken)})

    assert done.returncode == 1
    assert done.stderr.endswith(
        "CommandError: A process of the server can't be started, or ended before it served; see above.\n"
    )
    assert "OSError: no loop here" in done.stderr


@pytest.mark.parametrize(("processes", "arguments"), [(2, []), (1, ["--worker"])])
def test_where_the_system_cant_start_every_process_none_is_left(migrated, tmp_path, processes, arguments):
    broken, begun = tmp_path / "broken", tmp_path / "begun"
    for directory in (broken, begun):
        directory.mkdir()
    (broken / "uvloop.py").write_text(f"""if True:
        import asyncio, errno, os, pathlib
        run, fork, begun = asyncio.run, os.fork, pathlib.Path({str(begun)!r})
        def fork_one():
            if any(begun.iterdir()):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            if pid := fork():
                (begun / str(pid)).touch()
            return pid
        os.fork = fork_one
    """)
    with migrated(tmp_path, SERVER_WORKERS=processes, PYTHONPATH=broken) as env:
        done = service.manage("serve", *arguments, env=env)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith(
        "Only 1 of 2 processes can be started: [Errno 11] Resource temporarily unavailable\n"
        "CommandError: A process of the server can't be started, or ended before it served; see above.\n"
    )
    [pid] = [int(file.name) for file in begun.iterdir()]
    assert not is_running(pid)


def children(process):
    """The process ids of what it has started, by the last word of their names or commands that tells which."""
    return {"roll_up" if "roll_up" in line else line: pid for pid, line in command_lines(process).items()}


def command_lines(process):
    """What it has started by process id, as far as that still runs."""
    lines = {}
    for pid in service.children(process.pid):
        with suppress(FileNotFoundError, ProcessLookupError):  # it may have ended in between
            lines[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
    return lines


def is_running(pid):
    """Whether there is such a process, which has not ended without its parent's knowing."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_a_worker_that_dies_is_started_again_after_a_pause(migrated, tmp_path):
    with migrated(tmp_path) as env, service.served(env, "--worker") as process:
        names = ["roll_up", "tracking-api worker-1"]
        assert service.call(env, "GET", "/healthz")[0] == 200
        assert eventually(lambda: sorted(children(process)), names) == names
        before, killed_at = children(process), time.monotonic()
        for pid in before.values():
            os.kill(pid, signal.SIGKILL)

        wait_until(
            lambda: sorted(children(process)) == names and not set(before.values()) & set(children(process).values())
        )
        assert time.monotonic() - killed_at > 1

        assert service.call(env, "GET", "/healthz")[0] == 200
        log = process.log.read_text()
        for name in ("worker", "server process 1"):
            assert f"The {name} ended with -9; it is started again in " in log


@pytest.fixture
def signals():
    """Those that the parent of the processes handles are handled as before after."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_what_served_once_is_started_again_while_others_are_still_starting(monkeypatch, tmp_path, settings, signals):
    settings.SERVER_WORKERS = 2
    may_serve = tmp_path / "may_serve"
    script = """if True:
        import os, pathlib, sys, time
        may_serve, ready, number = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
        while number == 2 and not may_serve.exists():
            time.sleep(0.01)
        os.write(ready, number.to_bytes(2, "big"))
        may_serve.with_name(str(number)).touch()
        time.sleep(60)
    """
    started = []

    def start(self, number, count):
        ready = self._ready_write
        command = [sys.executable, "-c", script, str(may_serve), str(ready), str(number)]
        started.append((number, subprocess.Popen(command, pass_fds=[ready])))
        return started[-1][1]

    def kill_the_first():
        wait_until(lambda: len(started) == 2)
        wait_until((tmp_path / "1").exists)
        started[0][1].kill()
        wait_until(lambda: len(started) == 3)
        may_serve.touch()

    monkeypatch.setattr(Supervisor, "_start_server", start)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=kill_the_first, daemon=True).start()
        assert Supervisor(listener, None).run(lambda: os.kill(os.getpid(), signal.SIGTERM)) == 0

    assert [number for number, _ in started] == [1, 2, 1]
    assert [process.returncode for _, process in started] == [-signal.SIGKILL, -signal.SIGTERM, -signal.SIGTERM]


def test_it_serves_wherever_it_is_started_from_and_with_its_parent_everything_ends(migrated, tmp_path):
    with migrated(tmp_path, SERVER_WORKERS=2) as env, service.served(env, "--worker", cwd=tmp_path) as process:
        assert service.call(env, "GET", "/healthz")[0] == 200
        assert eventually(lambda: len(children(process)), 3) == 3
        pids = list(children(process).values())
        assert {name for name, pid in children(process).items() if listens(pid)} == {
            "tracking-api worker-1", "tracking-api worker-2",
        }  # fmt: skip

        process.kill()

        wait_until(lambda: not any(map(is_running, pids)))
        assert process.wait() == -signal.SIGKILL
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(env["PORT"])))


@pytest.fixture
def cpus():
    """Two CPUs, or the one there is, for this process and those that it starts."""
    all_cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(all_cpus)[:2])
    yield os.sched_getaffinity(0)
    os.sched_setaffinity(0, all_cpus)


@pytest.mark.parametrize("more", [0, 1])
def test_with_a_worker_for_each_cpu_each_keeps_to_its_own(migrated, tmp_path, cpus, more):
    """And those that are asked for serve, until they are told to stop."""
    count = len(cpus) + more
    names = [f"tracking-api worker-{number + 1}" for number in range(count)]
    expected = [[cpus]] * count if more else sorted([[{cpu}] for cpu in cpus], key=str)

    with migrated(tmp_path, SERVER_WORKERS=count, SERVER_THREADS=1) as env, service.served(env) as process:
        found = eventually(lambda: sorted(map(cpus_of_threads, workers(process).values()), key=str), expected)
        assert sorted(workers(process)) == names
        process.terminate()
        assert process.wait(10) == 0

    assert found == expected


def test_the_processes_take_equal_parts_of_the_connections(migrated, tmp_path):
    """And each takes all of them where no other one does."""
    with migrated(tmp_path, SERVER_WORKERS=2) as env, service.served(env) as process, ExitStack() as opened:
        wait_until(lambda: "Serving on" in process.log.read_text())  # both take connections by then
        first, second = sorted(workers(process).values())

        def counts_after(times):
            ask(env, opened, times)
            return [connection_count(pid) for pid in (first, second)]

        os.kill(second, signal.SIGSTOP)
        assert counts_after(60) == [60, 0]
        os.kill(second, signal.SIGCONT)
        # one that gets no CPU for ten milliseconds counts as busy, and another one takes more until it is back
        for _ in range(60):
            time.sleep(0.12)
            ahead, behind = counts_after(3)
            if ahead - behind < 12:
                break
        assert ahead - behind < 12, (ahead, behind)  # by chance they would be 40 or more apart
        os.kill(second, signal.SIGKILL)


def ask(env, opened, times):
    """Open so many connections at once, and use each."""
    connections = [HTTPConnection("127.0.0.1", int(env["PORT"]), timeout=60) for _ in range(times)]
    for each in connections:
        opened.callback(each.close)
        each.connect()
    for each in connections:
        each.request("GET", "/healthz")
        assert each.getresponse().read() == b'{"alive": true}'


def connection_count(pid):
    """How many connections a process has accepted."""
    return sockets(pid, "01")


def listens(pid):
    return bool(sockets(pid, "0A"))


def sockets(pid, state):
    """How many sockets in this state a process holds."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    in_state = {f"socket:[{row[9]}]" for row in rows if row[3] == state}
    found = 0
    for file in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += os.readlink(file) in in_state
    return found


def workers(process):
    """The process ids of a server's workers by their names."""
    named = {line: pid for pid, line in command_lines(process).items()}
    return {name: pid for name, pid in named.items() if name.startswith("tracking-api worker-")}


def cpus_of_threads(pid):
    """The different sets of CPUs that a process's threads may run on, once it has those of the server."""
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    found = [os.sched_getaffinity(thread) for thread in threads] if len(threads) > 2 else []
    return [cpus for place, cpus in enumerate(found) if cpus not in found[:place]]


def eventually(find, expected, seconds=120):
    """What is found as soon as it is what is expected, or in the end."""
    deadline = time.monotonic() + seconds
    while True:
        with suppress(FileNotFoundError, ProcessLookupError):  # what has ended just now
            found = find()
            if found == expected or time.monotonic() > deadline:
                return found
        time.sleep(0.05)


def test_the_first_visit_finds_all_it_needs(settings, tmp_path, db, capsys):
    settings.LOCAL_DIR = tmp_path / "local"

    call_command("prepare_first_visit")

    file = tmp_path / "local/credentials.json"
    credentials = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert User.objects.get().check_password(credentials["password"])
    assert User.objects.get().is_superuser
    application = Application.objects.get()
    assert (application.client_id, application.client_type, application.authorization_grant_type) == (
        credentials["client_id"],
        "confidential",
        "client-credentials",
    )
    assert Event.objects.count() > 2000
    printed = capsys.readouterr().out
    for value in (f"admin / {credentials['password']}", credentials["client_id"], credentials["client_secret"]):
        assert value in printed


def test_the_second_visit_finds_the_same_and_is_told_where_the_secrets_are(settings, tmp_path, db, capsys):
    settings.LOCAL_DIR = tmp_path / "local"
    settings.HOST, settings.PORT = "127.0.0.1", 8000
    call_command("prepare_first_visit")
    capsys.readouterr()
    file = tmp_path / "local/credentials.json"
    credentials = json.loads(file.read_text())
    before = [list(model.objects.order_by("pk").values()) for model in (User, Application, Event)]

    call_command("prepare_first_visit")

    assert [list(model.objects.order_by("pk").values()) for model in (User, Application, Event)] == before
    assert json.loads(file.read_text()) == credentials
    assert capsys.readouterr().out == (
        f"Log in at http://127.0.0.1:8000/: admin, with the password in {file}\n"
        f"Client id: {credentials['client_id']}\n"
        f"Client secret: in {file}\n"
    )


def test_what_is_there_already_is_left_alone(settings, tmp_path, make_event, capsys):
    settings.LOCAL_DIR = tmp_path / "local"
    User.objects.create_superuser("ada", password="lovelace")
    make_event()

    call_command("prepare_first_visit")

    assert User.objects.get().username == "ada"
    assert Event.objects.count() == 1
    assert "8000/: with a superuser of your own\n" in capsys.readouterr().out


def test_a_changed_secret_is_not_printed(settings, tmp_path, db, capsys):
    settings.LOCAL_DIR = tmp_path / "local"
    call_command("prepare_first_visit")
    application = Application.objects.get()
    application.client_secret = "another"
    application.save()
    capsys.readouterr()

    call_command("prepare_first_visit")

    printed = capsys.readouterr().out
    assert "The first client's secret was changed; register another client at /o/applications/." in printed
    assert "curl" not in printed


@pytest.fixture
def bare_project(tmp_path):
    """``script/install`` alone, with a directory for stand-ins of Python."""
    (tmp_path / "script").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(PROJECT_DIR / "script/install", tmp_path / "script")
    for tool in ("sh", "dirname", "cat", "cksum", "env"):
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def install(project, **variables):
    return subprocess.run(
        [project / "script/install", "requirements.txt"],
        env={"PATH": str(project / "bin"), **variables}, capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.parametrize("variables", [{}, {"PYTHON": "python3"}])
def test_a_python_too_old_is_said(bare_project, variables):
    python = bare_project / "bin/python3"
    python.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.18 && exit\nexit 1\n')
    python.chmod(0o755)

    done = install(bare_project, **variables)

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[0] == "The Tracking API needs Python 3.11 or newer; this is Python 3.9.18."
    assert not os.path.exists(bare_project / ".venv")


def test_no_python_is_said(bare_project):
    done = install(bare_project)

    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "The Tracking API needs Python 3.11 or newer; this is no Python at all."
