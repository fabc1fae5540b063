"""What docs/senders.md says, run with the programs that are installed. ``-s`` prints what each sent and what is stored."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap

import pytest
import yaml

from events.tests.clients.environment import client_environment, client_url
from events.tests.support import service
from events.tests.support.waiting import wait_until

DOCUMENT = (service.PROJECT_DIR / "docs/senders.md").read_text()
ADDRESS = "https://tracking.example.com"
PATH = f"{os.environ['PATH']}:/usr/sbin:/usr/bin:/bin"


def blocks(title):
    """The blocks of code of a section."""
    section = DOCUMENT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"^```\w*\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def needs(program):
    return pytest.mark.skipif(not shutil.which(program, path=PATH), reason=f"{program} is not installed")


@pytest.fixture(scope="module")
def token(env):
    return service.fetch_token(env)


def stored(env, namespace):
    return service.query(env, f"SELECT name, value FROM events_event WHERE namespace = '{namespace}' ORDER BY id")


def shell(env, token, command, directory, **variables):
    command = command.replace(ADDRESS, client_url(env))
    done = subprocess.run(
        ["sh", "-c", command], env={"PATH": PATH, "TOKEN": token, **variables}, cwd=directory, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    print(f"$ {command}\n{done.stdout}{done.stderr}")  # noqa: T201
    return done


@needs("curl")
def test_cron_sends_a_form_by_curl(env, token, tmp_path):
    token_line, job = blocks("cron and curl")[0].splitlines()
    assert token_line == "TOKEN=…"
    fields, user, command = re.fullmatch(r"((?:\S+ ){5})(\S+) (.*)", job).groups()
    assert (fields, user) == ("* * * * * ", "nobody")
    command = command.replace(r"\%", "%")  # cron's way to write it

    done = shell(env, token, command, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith('{"namespace":')
    [(name, value)] = stored(env, socket.gethostname())
    assert (name, value >= 0) == ("load", True)


@needs("curl")
def test_a_file_is_sent_by_curl_once(env, token, tmp_path, namespace):
    lines = [
        f'{{"namespace": "{namespace}", "name": "n", "timestamp": {number}, "value": {number}}}\n'
        for number in range(100)
    ]
    (tmp_path / "events.ndjson").write_text("".join(lines))

    for _ in range(2):
        done = shell(env, token, blocks("cron and curl")[1], tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, '{"accepted":100}', "")
    assert stored(env, namespace) == [("n", float(number)) for number in range(100)]


@needs("curl")
def test_curl_says_what_is_refused(env, token, tmp_path):
    (tmp_path / "events.ndjson").write_text('{"namespace": "a", "name": "n", "timestamp": 0, "value": null}\n')

    done = shell(env, token, blocks("cron and curl")[1], tmp_path)
    assert done.returncode == 22
    assert done.stdout == '{"0":{"value":["This field may not be null."]}}'


@needs("curl")
def test_a_workflows_step_at_github(env, token, tmp_path):
    [step] = yaml.safe_load(blocks("GitHub")[0])["jobs"]["track"]["steps"]
    context = {"secrets.TRACKING_TOKEN": token, "github.run_id": "4711", "github.event.repository.name": "shop", "github.event_name": "push"}  # fmt: skip
    command = re.sub(r"\$\{\{ (.*?) \}\}", lambda found: context[found[1]], step["run"])

    done = shell(env, token, command, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert stored(env, "shop") == [("push", 1.0)]


@needs("rsyslogd")
def test_rsyslog(env, tmp_path):
    configuration, script = blocks("rsyslog")
    agent = tmp_path / "tracking-agent"
    python_path = service.PROJECT_DIR / "clients/python/src"
    agent.write_text(f'#!/bin/sh\nPYTHONPATH={python_path} exec {sys.executable} -m tracking_client.agent "$@"\n')
    variables = client_environment(env)
    script = script.replace(ADDRESS, client_url(env)).replace(
        "CLIENT_ID=…", f"CLIENT_ID={variables['TRACKING_CLIENT_ID']}"
    )
    script = script.replace("CLIENT_SECRET=…", f"CLIENT_SECRET={variables['TRACKING_CLIENT_SECRET']}")
    script = script.replace("/var/spool/rsyslog", str(tmp_path)).replace("/opt/tracking-agent/bin", str(tmp_path))
    (tmp_path / "tracking.sh").write_text(script)
    for program in (agent, tmp_path / "tracking.sh"):
        program.chmod(0o755)
    port = service.free_port()
    (tmp_path / "rsyslog.conf").write_text(
        f'module(load="imptcp")\n{configuration.replace("/etc/rsyslog.d", str(tmp_path))}'
        f'input(type="imptcp" port="{port}" address="127.0.0.1")\n'
    )
    command = ["rsyslogd", "-n", "-f", tmp_path / "rsyslog.conf", "-i", tmp_path / "pid"]
    log = (tmp_path / "log").open("w")
    process = subprocess.Popen(command, env={"PATH": PATH}, stderr=log, start_new_session=True)
    process.log = tmp_path / "log"
    try:
        service.wait_for(port, process)
        lines = [
            "<11>Nov 28 16:00:00 web-1 postfix/smtpd[1]: oops",
            '<13>1 2026-11-28T16:00:00.5Z web-2 app - - - say "x"',
        ]
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall("".join(f"{line}\n" for line in lines).encode())
        wait_until(lambda: stored(env, "web-1") and stored(env, "web-2"), 60, lambda: (tmp_path / "log").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        log.close()
    print(*lines, stored(env, "web-1"), stored(env, "web-2"), sep="\n")  # noqa: T201

    assert stored(env, "web-1") == [("syslog.postfix.err", 1.0)]
    assert stored(env, "web-2") == [("syslog.app.notice", 1.0)]
    assert "error" not in (tmp_path / "log").read_text()


@needs("collectd")
def test_collectd(env, tmp_path):
    configuration, toml = blocks("collectd")
    port = service.free_port()
    (tmp_path / "collectd.conf").write_text(
        f'Hostname "web-1"\nInterval 1\nBaseDir "{tmp_path}"\nTypesDB "/usr/share/collectd/types.db"\n{configuration.replace("9103", str(port))}'
    )
    (tmp_path / "agent.toml").write_text(toml.replace("9103", str(port)))
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["collectd", "-f", "-C", tmp_path / "collectd.conf", "-P", tmp_path / "pid"],
            env={"PATH": PATH},
            stdout=log,
            stderr=log,
        )
    process.log = tmp_path / "log"
    variables = client_environment(
        env, TRACKING_AGENT_SPOOL=str(tmp_path / "spool"), TRACKING_AGENT_NAMESPACE="collectd"
    )
    try:
        service.wait_for(port, process)
        command = [sys.executable, "-m", "tracking_client.agent", "--config", tmp_path / "agent.toml", "--once"]

        def sent():
            done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stderr) == (0, "")
            return done.stdout

        wait_until(sent, 60)
    finally:
        process.terminate()
        process.wait(30)

    found = dict(stored(env, "collectd"))
    print("\n".join(f"{name} {value}" for name, value in found.items()))  # noqa: T201
    assert set(re.findall(r"`(collectd_\S+?)`", DOCUMENT)) <= set(found)
    assert found['collectd_memory{instance="web-1",memory="free"}'] > 0


def test_events_that_come_on_standard_input(env, tmp_path, namespace):
    lines = f"""
        {{"name": "a"}}
        {{"namespace": "{namespace}", "name": "b", "timestamp": "2020-11-12T11:10:00Z", "value": 2.5}}

        no event
        {{"name": "c", "severity": "err"}}
        [1]
    """
    variables = client_environment(
        env, TRACKING_AGENT_SPOOL=str(tmp_path / "spool"), TRACKING_AGENT_NAMESPACE=namespace
    )
    done = subprocess.run(
        [sys.executable, "-m", "tracking_client.agent", "--stdin"], env=variables, input=textwrap.dedent(lines), capture_output=True, text=True, timeout=60,
    )  # fmt: skip

    assert done.returncode == 0
    assert stored(env, namespace) == [("a", 1.0), ("b", 2.5)]
    assert "A line is no event: no event: JSONDecodeError" in done.stderr


def test_no_line_ends_the_agent(env, namespace, tmp_path):
    lines = [b'{"name": "a"}', b"[" * 100_000, b'{"name": "caf\xe9"}', b'{"name": "b"}']
    variables = client_environment(
        env, TRACKING_AGENT_SPOOL=str(tmp_path / "spool"), TRACKING_AGENT_NAMESPACE=namespace,
        PYTHONIOENCODING="utf-8:strict",
    )  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tracking_client.agent", "--stdin"], env=variables, input=b"\n".join(lines), capture_output=True, timeout=60,
    )  # fmt: skip

    assert stored(env, namespace) == [("a", 1.0), ("b", 1.0)]
    assert b"A line is no event: [[[" in done.stderr


# What senders call what they send, by their documentation or as seen.
@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json; charset=utf-8", '{"namespace": "types", "name": "n", "timestamp": 0, "value": 1}'),
        ("application/json;charset=UTF-8", '[{"namespace": "types", "name": "n", "timestamp": 0, "value": 1}]'),
        (
            "text/plain; charset=utf-8",
            '[{"namespace": "types", "name": "n", "timestamp": 0, "value": 1}]',
        ),  # Telegraf, beacons
        ("text/plain;charset=UTF-8", '{"namespace": "types", "name": "n", "timestamp": 0, "value": 1}'),
        ("application/jsonl", '{"namespace": "types", "name": "n", "timestamp": 0, "value": 1}\n'),
        ("application/x-ndjson", '{"namespace": "types", "name": "n", "timestamp": 0, "value": 1}\n'),  # Fluent Bit
        ("application/x-www-form-urlencoded", "namespace=types&name=n&timestamp=%2B0&value=1"),  # curl -d
    ],
)
def test_content_types_of_senders(env, token, content_type, body):
    headers = {"Authorization": f"Bearer {token}", "Content_Type": content_type}

    assert service.call(env, "POST", "/api/track/", body, **headers)[0] == 201
