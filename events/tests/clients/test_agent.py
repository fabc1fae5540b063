"""tracking-agent: what it reads, how it is configured, and that it arrives."""

import os
import re
import shutil
import socket
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import psutil
import pytest
from tracking_client.agent.__main__ import main
from tracking_client.agent.collector import Collector, Metric
from tracking_client.agent.commands import Commands
from tracking_client.agent.configuration import Configuration, WrongConfigurationError, configured
from tracking_client.agent.exposition import Exporter, Exposition, series_name
from tracking_client.agent.host import Host, mount_name
from tracking_client.agent.processes import Processes
from tracking_client.agent.rates import Rates
from tracking_client.complaints import Complaints
from tracking_client.testing import FakeTracker

from events.tests.support import service
from events.tests.support.threads import in_thread
from events.tests.support.waiting import wait_until

DOCUMENT = (service.PROJECT_DIR / "docs/agent.md").read_text()
EXAMPLE = service.PROJECT_DIR / "clients/python/agent.example.toml"


def documented():
    """Patterns of the names in the document's table, as regular expressions."""
    names = [
        name for line in re.findall(r"^\| (`.*?) \|", DOCUMENT, re.MULTILINE) for name in re.findall(r"`([^`]+)`", line)
    ]
    return [re.sub(r"<[a-z]+>|\\\*", ".+", re.escape(name).replace(r"\<", "<").replace(r"\>", ">")) for name in names]


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=1_000.0)
    monkeypatch.setattr("time.monotonic", lambda: clock.now)
    return clock


@pytest.fixture
def napping(tmp_path_factory):
    """A process with a name that no other one has, whose blank is part of it."""
    program = tmp_path_factory.mktemp("napping") / f"nap {os.getpid()}"
    shutil.copy(shutil.which("sleep"), program)
    with subprocess.Popen([program, "60"]) as process:
        yield program.name
        process.kill()


def test_a_dry_run_prints_what_the_document_names_and_sends_nothing(tmp_path, napping):
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(service.PROJECT_DIR / "clients/python/src"),
        "TRACKING_AGENT_PROCESSES": napping,
    }
    command = [sys.executable, "-m", "tracking_client.agent", "--dry-run"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)

    assert (done.returncode, done.stderr) == (0, "")
    rows = [re.fullmatch(r"(\S+) +(.*\S) +(\S+)", line).groups() for line in done.stdout.splitlines()]
    assert {namespace for namespace, _, _ in rows} == {socket.gethostname()}
    names = [name for _, name, _ in rows]
    assert len(names) == len(set(names))
    assert [name for name in names if not any(re.fullmatch(pattern, name) for pattern in documented())] == []
    assert {"cpu.percent", "cpu.user_percent", "load.1m", "memory.available_bytes", "swap.used_bytes", "processes.count",
            f"process.{napping}.rss_bytes", f"process.{napping}.cpu_percent"} <= set(names)  # fmt: skip
    assert any(re.fullmatch(r"disk\..*\.percent", name) for name in names)
    assert any(re.fullmatch(r"network\..*\.received_bytes_per_second", name) for name in names)
    assert all(float(value) >= 0 for _, _, value in rows)
    assert list(tmp_path.iterdir()) == []


# Reading.


def test_rates_need_two_turns_and_forget(clock):
    rates = Rates()
    found = []
    for at, value in ((0, 100), (10, 150), (20, 140), (30, 150), (30, 160)):
        found.append(rates.per_second("bytes", value, at))
        rates.end_turn()
    rates.end_turn()

    assert found == [None, 5.0, None, 1.0, None]  # the third was set back, the last is at the same time
    assert rates.per_second("bytes", 1_000, 50) is None


def test_processors_and_throughput_are_by_the_second(clock, monkeypatch):
    times = [SimpleNamespace(_asdict=lambda: {"user": 10.0, "idle": 90.0, "iowait": 0.0}),
             SimpleNamespace(_asdict=lambda: {"user": 14.0, "idle": 105.0, "iowait": 1.0})]  # fmt: skip
    sent = [{"eth0": SimpleNamespace(bytes_recv=0, bytes_sent=0, errin=0, errout=0, dropin=0, dropout=0)},
            {"eth0": SimpleNamespace(bytes_recv=1_000, bytes_sent=50, errin=1, errout=1, dropin=0, dropout=5)}]  # fmt: skip
    monkeypatch.setattr(psutil, "cpu_count", lambda: 2)
    monkeypatch.setattr(psutil, "cpu_times", lambda: times.pop(0))
    monkeypatch.setattr(psutil, "net_io_counters", lambda pernic: sent.pop(0))
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: {"cpu/0": [SimpleNamespace(label="Core 0", current=42.5)]}, raising=False)  # fmt: skip
    host = Host()
    first = dict(host.read())
    clock.now += 10
    second = dict(host.read())

    assert not any(name.startswith(("cpu.", "network.")) for name in first)
    expected = {
        "cpu.percent": 20.0, "cpu.user_percent": 20.0, "cpu.idle_percent": 75.0, "cpu.iowait_percent": 5.0,
        "network.eth0.received_bytes_per_second": 100.0, "network.eth0.sent_bytes_per_second": 5.0,
        "network.eth0.errors_per_second": 0.2, "network.eth0.dropped_per_second": 0.5,
        "temperature.cpu-0.Core_0_celsius": 42.5,
    }  # fmt: skip
    assert {name: second[name] for name in expected} == expected


def names_of_two_turns(clock):
    collector = Collector(Configuration(namespace="own"))
    for _ in range(2):
        names = [metric.name for metric in collector.read()]
        clock.now += 10
    return names


def test_a_mount_that_may_not_be_looked_at_is_left_out_alone(clock, monkeypatch, caplog):
    """As one in the home of another user."""
    seen = SimpleNamespace(device="/dev/no-such", mountpoint="/")
    monkeypatch.setattr(psutil, "disk_partitions", lambda: [seen])
    expected = names_of_two_turns(clock)
    closed = SimpleNamespace(device="/dev/no-such", mountpoint="/home/another/mount")
    monkeypatch.setattr(psutil, "disk_partitions", lambda: [closed, seen])
    stat = os.stat

    def refusing(path, *arguments, **options):
        if os.fspath(path) == closed.mountpoint:
            raise PermissionError(13, "Permission denied")
        return stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", refusing)

    assert names_of_two_turns(clock) == expected
    assert {"cpu.percent", "disk.root.percent", "uptime.seconds"} <= set(expected)
    assert caplog.text == ""


def test_what_cant_be_read_keeps_no_rates_of_others_back(clock, monkeypatch, caplog):
    def refuse(**_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(psutil, "net_io_counters", refuse)

    assert "cpu.percent" in names_of_two_turns(clock)
    assert caplog.messages == ["Host can't be read: [Errno 13] Permission denied"]


@pytest.mark.parametrize(("path", "name"), [("/", "root"), ("/var/lib", "var-lib"), ("eth0", "eth0")])
def test_mounts_in_names(path, name):
    assert mount_name(path) == name


def test_processes_of_a_name_are_read_together(tmp_path):
    program = tmp_path / "a-sleeper"
    shutil.copy(shutil.which("sleep"), program)
    running = [subprocess.Popen([program, "100"]) for _ in range(2)]
    processes = Processes(["a-sleeper", "nobody"])
    try:
        wait_until(lambda: dict(processes.read())["process.a-sleeper.count"] == 2)
        found = dict(processes.read())
    finally:
        for process in running:
            process.kill()
            process.wait()

    assert found["process.a-sleeper.rss_bytes"] > 100_000
    assert found["process.a-sleeper.open_files"] >= 6
    assert 0 <= found["process.a-sleeper.cpu_percent"] < 100
    assert found["process.nobody.count"] == found["process.nobody.rss_bytes"] == 0


def test_numbers_of_commands(caplog):
    commands = {"two": "sh -c 'echo 1; echo 1 | wc -l' ", "number": "echo ' 1e3 '", "words": "echo two", "none": "no-such-thing",
                "failing": "false", "slow": "sleep 10"}  # fmt: skip

    assert dict(Commands(commands, 1, Complaints()).read()) == {"number": 1_000.0}
    assert {record.args[0] for record in caplog.records} == {"two", "words", "none", "failing", "slow"}


def is_running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE  # which waits to be forgotten
    except psutil.NoSuchProcess:
        return False


def test_a_command_that_hangs_leaves_no_process_behind(tmp_path, monkeypatch, caplog):
    """Nor does what its shell has started."""
    communicate = subprocess.Popen.communicate

    def once_it_hangs(process, *_, **options):
        wait_until(lambda: started.exists() and started.read_text().count("\n") == 2, 10)
        return communicate(process, **options)

    monkeypatch.setattr(subprocess.Popen, "communicate", once_it_hangs)
    started = tmp_path / "started"
    # two whose end the shell waits for, each with the pipe that it prints to
    command = f"sh -c 'sleep 600 & echo $! >> {started}; sleep 600 & echo $! >> {started}; wait'"

    assert dict(Commands({"queue": command}, 0.1, Complaints()).read()) == {}
    pids = [int(line) for line in started.read_text().splitlines()]
    wait_until(lambda: not any(map(is_running, pids)), 5)
    [message] = caplog.messages
    assert message.startswith("exec queue: Command ")
    assert message.endswith("timed out after 0.1 seconds")


EXPOSED = """\
# TYPE load gauge
load 0.5
# TYPE bytes_total counter
bytes_total{device="eth0",way="in"} %d
bytes_total{device="/dev/a",way="in"} 0
# TYPE seconds histogram
seconds_bucket{le="+Inf"} %d
seconds_sum 1.5
seconds_count %d
# TYPE nothing gauge
nothing NaN
untyped 3
"""


@pytest.fixture
def exporter():
    """An exporter whose counters grow by 10 each time that it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked += 10
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write((EXPOSED % ((self.server.asked,) * 3)).encode())

        def log_message(self, *arguments):
            pass

    with in_thread(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as server:
        server.asked, server.status = 0, 200
        yield server


def test_exposed_metrics_are_read_counters_as_rates(exporter, clock):
    exposition = Exposition(Exporter(f"http://127.0.0.1:{exporter.server_port}/metrics"), 5, Complaints())
    first = dict(exposition.read())
    clock.now += 5
    second = dict(exposition.read())

    assert first == {"load": 0.5, "untyped": 3.0}
    assert second == {
        "load": 0.5,
        "untyped": 3.0,
        'bytes_per_second{device="eth0",way="in"}': 2.0,
        'bytes_per_second{device=":dev:a",way="in"}': 0.0,
        'seconds_bucket_per_second{le="+Inf"}': 2.0,
        "seconds_sum_per_second": 0.0,
        "seconds_count_per_second": 2.0,
    }


def test_an_exporter_tells_only_what_is_wanted_and_may_be_away(exporter, clock, caplog):
    url = f"http://127.0.0.1:{exporter.server_port}/metrics"
    collector = Collector(
        Configuration(namespace="own", host=False, prometheus=(
            Exporter(url, ("lo*",)), Exporter(url, ("untyped",), "other"), Exporter("http://127.0.0.1:9/metrics"),
        ))
    )  # fmt: skip

    assert list(collector.read()) == [Metric("own", "load", 0.5), Metric("other", "untyped", 3.0)]
    exporter.status = 500
    assert list(collector.read()) == []
    assert "prometheus http://127.0.0.1:9/metrics: " in caplog.text
    assert f"prometheus {url}: status 500" in caplog.text


def test_exposed_names_can_be_tracked():
    name = series_name("a", {"path": "/" * 300})

    assert len(name) == 255
    FakeTracker().track("own", name)


# Configuration.


def test_a_file_with_the_environment_over_it(tmp_path):
    path = tmp_path / "agent.toml"
    path.write_text("""
url = "https://tracking.example.com"
namespace = "web-1"
interval_seconds = 5
host = false
processes = ["postgres", "nginx"]
prometheus = ["http://a/metrics", {url = "http://b/metrics", namespace = "b", metrics = ["load"]}]
prometheus_metrics = ["node_*"]
[exec]
"mail.queue" = "mailq"
""")

    found = configured(
        path, {"TRACKING_AGENT_NAMESPACE": "web-2", "TRACKING_CLIENT_ID": "id", "STATE_DIRECTORY": "/var/lib/a"}
    )
    assert found == Configuration(
        url="https://tracking.example.com", client_id="id", namespace="web-2", interval_seconds=5.0, host=False,
        processes=("postgres", "nginx"), exec={"mail.queue": "mailq"},
        prometheus=(Exporter("http://a/metrics", ("node_*",)), Exporter("http://b/metrics", ("load",), "b")),
    )  # fmt: skip


def test_by_the_environment_alone():
    found = configured(None, {"TRACKING_AGENT_PROCESSES": "a, b", "TRACKING_AGENT_PROMETHEUS": "http://a/", "TRACKING_AGENT_INTERVAL_SECONDS": "0.5"})  # fmt: skip

    assert (found.processes, found.prometheus, found.interval_seconds) == (("a", "b"), (Exporter("http://a/"),), 0.5)
    assert found.namespace == socket.gethostname()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("interval = 5", "interval: there is no such setting; known are client_id, "),
        ("interval_seconds = 0", "interval_seconds is a number of seconds from 0.1 to 86400, not 0."),
        ("interval_seconds = true", "interval_seconds is a number of seconds from 0.1 to 86400, not True."),
        ("host = 1", "host is true or false, not 1."),
        ("namespace = 1", "namespace is a text, not 1."),
        ("processes = 1", "processes is a list of texts, not 1."),
        ("processes = [1]", "processes is a text, not 1."),
        ("exec = 1", "exec is a table of commands by the name of their series, not 1."),
        ("exec = {a = 1}", "exec.a is a text, not 1."),
        ("prometheus = 1", "prometheus is a list of addresses or tables, not 1."),
        ('prometheus = ["a"]', "prometheus: an address begins with http:// or https://, not 'a'."),
        ("prometheus = [{}]", "prometheus.url is a text, not None."),
        ('prometheus = [{url = "http://a", metric = []}]', "prometheus: metric: known are metrics, namespace, url."),
        ("=", "agent.toml: Invalid statement (at line 1, column 1)"),
    ],
)
def test_what_cant_be_configured_is_named(tmp_path, text, reason):
    (tmp_path / "agent.toml").write_text(text)

    with pytest.raises(WrongConfigurationError, match=re.escape(reason)):
        configured(tmp_path / "agent.toml", {})


def test_the_command_says_what_is_wrong(capsys, monkeypatch):
    for name in [name for name in os.environ if name.startswith("TRACKING_")]:
        monkeypatch.delenv(name)

    assert main([]) == 2
    assert capsys.readouterr().err == "tracking-agent: TRACKING_URL is not set, and nothing is given instead.\n"
    assert main(["--config", "missing.toml"]) == 2
    assert (
        capsys.readouterr().err == "tracking-agent: missing.toml: [Errno 2] No such file or directory: 'missing.toml'\n"
    )


def test_the_example_names_every_setting(tmp_path):
    (tmp_path / "agent.toml").write_text(re.sub(r"^# (?=\w+ = |\"|\[)", "", EXAMPLE.read_text(), flags=re.MULTILINE))
    found = configured(tmp_path / "agent.toml", {})

    default = Configuration()
    same = {name for name in vars(default) if getattr(found, name) == getattr(default, name)}
    assert same <= {"interval_seconds", "host", "timeout_seconds"}  # written with their defaults
    rows = re.findall(r"^\| (`.*?) \|", DOCUMENT.partition("## Configuration")[2], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == {*vars(default), "prometheus_metrics"}


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd")
def test_the_unit_is_one(tmp_path):
    unit = tmp_path / "tracking-agent.service"
    text = (service.PROJECT_DIR / "clients/python/systemd/tracking-agent.service").read_text()
    unit.write_text(re.sub(r"^ExecStart=.*", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)

    assert unit.name not in done.stderr
