"""The files in ``deploy/`` and what docs/deployment.md says of them: that all they name exists, and fits together."""

import itertools
import json
import re
import resource
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.urls import resolve

from events.tests.support import originals, service
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import ask_until

DEPLOY = PROJECT_DIR / "deploy"
DOCUMENT = PROJECT_DIR / "docs/deployment.md"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
TEXTS = {path.name: path.read_text() for path in [*DEPLOY.glob("*.*"), DEPLOY / "Caddyfile", DEPLOY / "Dockerfile", *UNITS, DOCUMENT]}  # fmt: skip
# what the images and Python itself read
OTHERS_VARIABLES = {"POSTGRES_USER", "POSTGRES_DB", "POSTGRES_PASSWORD_FILE", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}  # fmt: skip


def found(pattern, *names):
    """Whatever the group of the pattern holds, in files of that name, which must hold it."""
    values = [value for name in names for value in re.findall(pattern, TEXTS[name], re.MULTILINE)]
    assert values
    return values


def manage_commands():
    yield from found(r"^ExecStart=\S+/python manage\.py (.*)$", *(path.name for path in UNITS))
    yield from found(r"^    command: (.*)$", "compose.yaml")
    yield from (" ".join(re.findall(r'"(.*?)"', words)) for words in found(r"^CMD \[(.*)\]$", "Dockerfile"))
    yield from found(r"(?:^manage|script/manage|run --rm service) ([a-z][^`\n)]*)", "deployment.md")
    yield from found(r"run --rm service ([a-z].*)$", "compose.cluster.yaml")


@pytest.mark.parametrize("command", sorted(set(manage_commands())))
def test_the_commands_exist_with_these_options(command):
    name, *arguments = shlex.split(command)

    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)

    parser.parse_args(arguments)  # raises for what it doesn't know


def test_server_and_worker_run_wherever_the_service_does():
    expected = ["serve", "roll_up --watch 1"]

    assert found(r"^ExecStart=\S+/python manage\.py (.*)$", *(path.name for path in UNITS)) == expected[::-1]
    assert found(r"^    command: (.*)$", "compose.yaml") == [*expected, "migrate"]


RESET = object()


class ComposeLoader(yaml.SafeLoader):
    """Reads the tags of an override too."""


ComposeLoader.add_constructor("!reset", lambda loader, node: RESET)
ComposeLoader.add_constructor("!override", lambda loader, node: tuple(loader.construct_sequence(node, deep=True)))


def merged(base, override):
    """What Compose makes of a file and its override (docs.docker.com/reference/compose-file/merge)."""
    result = {**base}
    for key, value in override.items():
        if value is RESET:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(result.get(key) or {}, value)
        elif isinstance(value, list) and key not in {"command", "entrypoint", "test"}:
            result[key] = [*result.get(key, []), *value]
        else:
            result[key] = value
    return result


def services_of(*names):
    """The services of compose files, each of which overrides those before."""
    content = {}
    for name in names:
        content = merged(content, yaml.load(TEXTS[name], ComposeLoader))
    return content["services"]


CLUSTER = ("compose.yaml", "compose.cluster.yaml")


def started_for(services, name):
    """What Compose starts before a service, and what it waits for there."""
    waits = {other: needed["condition"] for other, needed in services[name].get("depends_on", {}).items()}
    for other in list(waits):
        waits |= started_for(services, other)
    return waits


@pytest.mark.parametrize("names", [CLUSTER[:1], CLUSTER], ids=["one", "cluster"])
def test_each_container_has_the_secrets_that_its_environment_names(names):
    services = services_of(*names)

    named = {
        (service, value.rpartition("/")[2])
        for service, content in services.items()
        for value in content.get("environment", {}).values()
        if value.startswith("/run/secrets/")
    }
    assert named == {
        (service, secret) for service, content in services.items() for secret in content.get("secrets", [])
    }
    assert {service for service, _ in named} >= {"service", "worker", "migration"}


def test_the_nodes_of_the_cluster_are_set_up_alike():
    services = services_of(*CLUSTER)
    nodes = [services[name] for name in ("database", "database-worker-1", "database-worker-2")]

    for key in ("image", "environment", "command", "healthcheck", "restart", "shm_size", "stop_grace_period"):
        assert [node[key] for node in nodes] == [nodes[1][key]] * 3, key
    # the server that the image runs while it sets up the database takes no connections but those of its socket
    assert nodes[0]["healthcheck"]["test"].startswith("pg_isready --host localhost ")


def test_the_cluster_is_distributed_before_anything_else_is_connected():
    services = services_of(*CLUSTER)
    lead = "docker compose --file deploy/compose.yaml --file deploy/compose.cluster.yaml"
    in_document = re.findall(rf"^ *{lead} (.*)$", (PROJECT_DIR / "docs/scaling.md").read_text(), re.MULTILINE)

    assert found(rf"^#   {lead} (.*)$", "compose.cluster.yaml") == in_document
    assert in_document == ["run --rm service distribute", "up --detach"]
    # so the first brings up no service and no worker, and begins when what is connected for a while has ended
    assert started_for(services, "service") == {
        "migration": "service_completed_successfully",
        "membership": "service_completed_successfully",
        "database": "service_healthy",
        "database-worker-1": "service_healthy",
        "database-worker-2": "service_healthy",
    }
    assert started_for(services, "worker") == started_for(services, "service")


def test_the_variables_are_documented():
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (PROJECT_DIR / "docs/configuration.md").read_text(), re.MULTILINE))  # fmt: skip
    named = {
        *found(r"^([A-Z_]+)=", "environment.example"),
        *found(r"^Environment=([A-Z_]+)=", *(path.name for path in UNITS)),
        *found(r"^(?:ENV)?\s+([A-Z_]+)=", "Dockerfile"),
        *found(r"^      ?([A-Z_]+): ", "compose.yaml"),
        *found(r"^([A-Z_]+)=.*(?:\$\(random\)|@database|example)", "deployment.md"),
        *found(r"`([A-Z]+_[A-Z_]+)`", "deployment.md"),
        *found(r"\b([A-Z]+_[A-Z_]+)\b", "Caddyfile"),
    }

    assert len(named) > 10
    assert named - documented - OTHERS_VARIABLES == {"ENV_FILE"}


def test_the_example_environment_can_be_read(tmp_path):
    env = service.environment(tmp_path, ENV_FILE=DEPLOY / "environment.example", LOCAL_DIR=tmp_path)

    done = subprocess.run(
        [sys.executable, "-c", "from tracking_api import settings; print(settings.ALLOWED_HOSTS)"],
        cwd=PROJECT_DIR, env=env, capture_output=True, text=True,
    )  # fmt: skip

    assert (done.stdout, done.stderr) == ("['tracking.example']\n", "")


def test_django_has_nothing_to_say_against_the_example_environment(tmp_path):
    env = service.environment(tmp_path, ENV_FILE=DEPLOY / "environment.example", LOCAL_DIR=tmp_path, SECRET_KEY="0123456789abcdef" * 4)  # fmt: skip

    done = service.manage("check", "--deploy", "--fail-level", "INFO", env=env)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("System check identified no issues")


def test_the_files_it_names_are_there():
    named = {
        *found(r"\b((?:deploy|script|benchmarks|docs)/[\w./-]*\w)", "deployment.md", "compose.yaml", "Dockerfile"),
        *found(r"^COPY (\w\S*) /", "Dockerfile"),
        *(f"docs/{name}" for name in found(r"\]\((\w+\.md)\)", "deployment.md")),
    }

    missing = {name for name in named if not (PROJECT_DIR / name).exists()}
    assert {name for name in missing if not name.startswith("deploy/secrets")} == set()
    assert "/deploy/secrets/" in (PROJECT_DIR / ".gitignore").read_text().splitlines()


def test_the_urls_lead_somewhere():
    urls = re.findall(r"127\.0\.0\.1:8000(/\w+)|location = (/\w+)", "".join(TEXTS.values()))
    behind_tls = re.compile(found(r"location ~ (\^\S+) {\s+return 403;", "nginx.conf")[0])

    for path in [*filter(None, sum(urls, ())), "/api/track/", "/o/token/"]:
        resolve(path)
    assert all(behind_tls.match(path) for path in ("/api/track/", "/api/events/", "/o/token/", "/o/applications/"))


def test_the_limits_agree():
    assert found(r"client_max_body_size (\d+);", "nginx.conf") == [str(settings.MAX_BODY_BYTES)]
    assert found(r"max_size (\d+)$", "Caddyfile") == [str(settings.MAX_BODY_BYTES)]
    assert found(r"body is larger than the (\d+) bytes", "nginx.conf") == [str(settings.MAX_BODY_BYTES)]
    [(count, kilobytes)] = found(r"large_client_header_buffers (\d) (\d)k;", "nginx.conf")
    head_bytes = [str(int(count) * int(kilobytes) * 1024)]
    assert found(r"head of the request is larger than the (\d+) bytes", "nginx.conf") == head_bytes
    assert found(r"max_header_size (\d+)$", "Caddyfile") == head_bytes
    longest_seconds = settings.STATEMENT_TIMEOUT_SECONDS + settings.DATABASES["default"]["OPTIONS"].get("connect_timeout", 5)  # fmt: skip
    for seconds in found(r"(?:proxy_read_timeout|response_header_timeout) (\d+)s", "nginx.conf", "Caddyfile"):
        assert int(seconds) > longest_seconds
    stops = [*found(r"TimeoutStopSec=(\d+)", *(path.name for path in UNITS)), *found(r"stop_grace_period: (\d+)s", "compose.yaml")]  # fmt: skip
    assert len(stops) == 5
    assert min(map(int, stops)) > settings.STOP_SECONDS


def image(directory):
    """The files that ``COPY . .`` takes, by .dockerignore: a list of what to leave out, whose first line is all."""
    lines = (PROJECT_DIR / ".dockerignore").read_text().splitlines()
    everything, *rules = [line for line in lines if line and not line.startswith("#")]
    assert everything == "*"
    left_out = [rule for rule in rules if not rule.startswith("!")]
    assert left_out == ["events/tests", "**/__pycache__"]
    directory.mkdir()
    for name in (rule[1:] for rule in rules if rule.startswith("!")):
        source = PROJECT_DIR / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("tests", "__pycache__"))
        else:
            shutil.copy(source, directory / name)
    return directory


def test_the_image_holds_all_that_the_service_needs(tmp_path):
    code = image(tmp_path / "image")
    migrated = originals.original("migrated")["DATABASE_URL"]
    with service.own_database(tmp_path, migrated) as url:
        env = service.environment(tmp_path, DATABASE_URL=url, PORT=service.free_port(), PYTHONDONTWRITEBYTECODE=1)
        command = [sys.executable, str(code / "manage.py"), "serve", "--prepare"]
        with service.served(env, command=command, cwd=code):
            token = service.fetch_token(env)
            status, _, body = service.call(env, "GET", "/api/events/", Authorization=f"Bearer {token}")

    assert status == 200
    assert b'"namespace":"Frontend"' in body
    assert not list(code.rglob("*.pyc"))


# What other programs make of them, where these are installed.


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"{program} is not installed")


@needs("systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_reads_the_unit(unit, tmp_path):
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/tracking-api/.venv/bin/python", sys.executable))

    done = subprocess.run(["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@needs("nft")
def test_the_firewall_reads_its_rules(tmp_path):
    rules = "".join(found(r"^```nft\n((?:.*\n)*?)```$", "deployment.md"))

    done = subprocess.run(["nft", "--check", "--file", "-"], input=rules, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "") or "Operation not permitted" in done.stderr


@needs("caddy")
def test_caddy_reads_its_file():
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"]
    done = subprocess.run(command, capture_output=True, text=True)

    assert "Valid configuration" in done.stdout + done.stderr
    assert '"level":"warn"' not in done.stderr


@pytest.fixture
def env(prepared, tmp_path):
    with prepared(tmp_path, ALLOWED_HOSTS="tracking.example,127.0.0.1", METRICS_TOKEN="x" * 16) as env:
        yield env


def certificate(directory):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=tracking.example",
         "-keyout", directory / "privkey.pem", "-out", directory / "fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


PACKING = "gzip on; gzip_types application/json;"  # as what systems come with has it


@pytest.fixture
def nginx(env, tmp_path):
    """nginx with the snippet, on another port and in front of the port of ``env``; its own port."""
    port, plain_port = service.free_port(), service.free_port()
    snippet = TEXTS["nginx.conf"].replace("listen 443", f"listen {port}").replace("listen 80;", f"listen {plain_port};")
    snippet = re.sub(r"listen \[::\].*\n", "", snippet).replace("127.0.0.1:8000", f"127.0.0.1:{env['PORT']}")
    snippet = snippet.replace("/etc/letsencrypt/live/tracking.example", str(tmp_path))
    (tmp_path / "tracking-api.conf").write_text(snippet)
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    beside_it = "".join(found(r"^#     (.*)$", "nginx.conf"))  # what the snippet says is to be set elsewhere
    (tmp_path / "nginx.conf").write_text(
        f"{'user root;' if Path('/proc/self').owner() == 'root' else ''} daemon off; pid {tmp_path}/nginx.pid;\n"
        f"error_log stderr; {beside_it}\nhttp {{ access_log off; {PACKING} {temporary} include {tmp_path}/tracking-api.conf; }}\n"
    )
    certificate(tmp_path)
    command = ["nginx", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    with service.served({**env, "PORT": str(port)}, command=command):
        yield port, plain_port


@pytest.fixture
def caddy(env, tmp_path):
    """Caddy with its file, on another port and in front of the port of ``env``; its own port."""
    port = service.free_port()
    certificate(tmp_path)
    text = TEXTS["Caddyfile"].replace("\n{\n", "\n{\n\tadmin off\n\tauto_https disable_redirects\n", 1)
    text = text.replace("\ntracking.example {\n", f"\nhttps://tracking.example:{port} {{\n\ttls {tmp_path}/fullchain.pem {tmp_path}/privkey.pem\n")  # fmt: skip
    (tmp_path / "Caddyfile").write_text(text.replace("127.0.0.1:8000", f"127.0.0.1:{env['PORT']}"))
    command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(tmp_path / "Caddyfile")]
    with service.served({**env, "PORT": str(port)}, command=command):
        yield port


def curl(port, path, *arguments):
    """The status, ``Retry-After`` and body of an answer through a proxy."""
    status, headers, body = answer(port, path, *arguments)
    return status, int(headers["retry-after"][0]) if "retry-after" in headers else None, body


def answer(port, path, *arguments):
    """The status, headers and body of an answer through a proxy."""
    command = [
        "curl", "-sk", "--resolve", f"tracking.example:{port}:127.0.0.1", f"https://tracking.example:{port}{path}",
        "-w", "\n%{http_code} %{header_json}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    body, status, headers = re.fullmatch(r"(.*)\n(\d{3}) (\{.*\})\s*", done.stdout, re.DOTALL).groups()
    return int(status), json.loads(headers), body


def assert_etags_are_left(env, port, sent):
    """What the service answers through a proxy has the ETags that it has without, and is packed where it is without."""
    token = {"Authorization": sent[1].partition(": ")[2]}
    packings = [], ["-H", "Accept-Encoding: gzip, zstd", "--compressed"]
    for granularity, packing in itertools.product(("day", "year"), packings):
        path = f"/api/events/Frontend/pageView?granularity={granularity}"
        _, direct, _ = service.call(env, "GET", path, **token, **({"Accept_Encoding": "gzip"} if packing else {}))
        status, headers, through = answer(port, path, *sent, *packing)
        assert (status, headers["etag"]) == (200, [direct["ETag"]])
        assert ("content-encoding" in headers) == ("Content-Encoding" in direct)
        assert through.startswith('[{"aggregatedTimestamp":"') or packing
        status, headers, through = answer(port, path, *sent, *packing, "-H", f"If-None-Match: {direct['ETag']}")
        assert (status, headers["etag"], through) == (304, [direct["ETag"]], "")


@needs("nginx")
def test_nginx_passes_requests_on_and_answers_in_the_services_way(env, nginx, tmp_path):
    port, plain_port = nginx
    event = '{"namespace":"a","name":"b","timestamp":1,"value":%d}'
    (tmp_path / "large").write_bytes(b" " * (settings.MAX_BODY_BYTES + 1))
    (tmp_path / "largest").write_bytes((event % 2).encode().ljust(settings.MAX_BODY_BYTES))
    unavailable = (503, 1, '{"detail":"The service can\'t be reached; try again."}')

    assert curl(port, "/api/events/") == unavailable
    with service.served(env):
        sent = ["-H", f"Authorization: Bearer {service.fetch_token(env)}", "-H", "Content-Type: application/json"]
        chunked = ["-H", "Transfer-Encoding: chunked", "--http1.1"]
        stored = '{"namespace":"a","name":"b","timestamp":"1970-01-01T00:00:01Z","value":%d.0}'
        assert curl(port, "/api/track/", *sent, "-d", event % 1, *chunked) == (201, None, stored % 1)
        assert curl(port, "/api/track/", *sent, "--data-binary", f"@{tmp_path}/largest") == (201, None, stored % 2)
        assert curl(port, "/api/track/", *sent, "--data-binary", f"@{tmp_path}/large") == (
            413, None, f'{{"detail":"The body is larger than the {settings.MAX_BODY_BYTES} bytes allowed."}}'
        )  # fmt: skip
        assert curl(port, "/api/events/a/b?aggregationType=count", *sent) == (
            200, None, '[{"aggregatedTimestamp":"1970-01-01T00:00:01Z","value":2}]'
        )  # fmt: skip
        assert_etags_are_left(env, port, sent[:2])
        assert curl(port, "/metrics")[0] == 404
    assert curl(port, "/api/events/", *sent) == unavailable

    without_tls = {"PORT": plain_port}
    assert service.call(without_tls, "POST", "/api/track/", event % 3)[0] == 403
    status, headers, _ = service.call(without_tls, "GET", "/admin/", Host="tracking.example")
    assert (status, headers["Location"]) == (301, "https://tracking.example/admin/")


@needs("caddy")
def test_caddy_passes_requests_on_and_answers_in_the_services_way(env, caddy, tmp_path):
    event = '{"namespace":"a","name":"b","timestamp":1,"value":%d}'
    stored = '{"namespace":"a","name":"b","timestamp":"1970-01-01T00:00:01Z","value":%d.0}'
    (tmp_path / "largest").write_bytes((event % 2).encode().ljust(settings.MAX_BODY_BYTES))
    unavailable = (503, 1, '{"detail":"The service can\'t be reached; try again."}')

    assert curl(caddy, "/api/events/") == unavailable
    with service.served(env):
        sent = ["-H", f"Authorization: Bearer {service.fetch_token(env)}", "-H", "Content-Type: application/json"]
        assert curl(caddy, "/api/track/", *sent, "-d", event % 1) == (201, None, stored % 1)
        assert curl(caddy, "/api/track/", *sent, "--data-binary", f"@{tmp_path}/largest") == (201, None, stored % 2)
        assert_etags_are_left(env, caddy, sent[:2])
        assert curl(caddy, "/metrics")[0] == 404
        assert curl(caddy, "/healthz", "-H", f"X-Long: {'x' * 25_000}", "--http1.1")[0] == 431


@pytest.fixture(params=[pytest.param(name, marks=needs(name)) for name in ("nginx", "caddy")])
def proxy(request):
    """The port of a proxy."""
    port = request.getfixturevalue(request.param)
    return port[0] if request.param == "nginx" else port


def test_a_proxy_keeps_slow_clients_from_the_others(env, proxy, tmp_path):
    """2,000 connections of one address, silent, half a head or half a body; another address is served meanwhile."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with service.served(env), ExitStack() as held:
        credentials = json.loads(Path(env["LOCAL_DIR"], "credentials.json").read_text())
        token = ["-u", f"{credentials['client_id']}:{credentials['client_secret']}", "-d", "grant_type=client_credentials"]  # fmt: skip
        sent = [
            "-H",
            f"Authorization: Bearer {service.fetch_token(env)}",
            "-d",
            "namespace=a&name=b&timestamp=%2B1&value=1",
        ]
        asked = (("/healthz", [], 200), ("/api/track/", sent, 201), ("/o/token/", token, 200))
        alone = [seconds_of(proxy, *each) for each in asked]
        head = b"POST /api/track/ HTTP/1.1\r\nHost: tracking.example\r\n"
        for _ in range(120):
            opened(held, proxy, head + b"Content-Length: 1000\r\n\r\nnamespace=")
        too_many = (429, 1, '{"detail":"Too many requests at a time come from this address; try again."}')
        is_nginx = (tmp_path / "nginx.conf").exists()
        assert curl(proxy, "/healthz") == (too_many if is_nginx else (200, None, '{"alive": true}'))
        half_heads = [opened(held, proxy, head + b"X-A: b") for _ in range(50)]
        start = time.monotonic()
        silent = [opened(held, proxy) for _ in range(1_800)]
        assert sum(map(is_open, silent)) == 1_800
        for each, seconds in zip(asked, alone, strict=True):
            assert seconds_of(proxy, *each) < max(1, 2 * seconds)
        ask_until(lambda: sum(map(is_open, [*half_heads, *silent])), lambda count: count == 0)
        assert 10 <= time.monotonic() - start < 30


ANY_CERTIFICATE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
ANY_CERTIFICATE.check_hostname, ANY_CERTIFICATE.verify_mode = False, ssl.CERT_NONE


def opened(held, port, data=b""):
    """A connection that stays open until ``held`` ends, and has sent no more than that, by TLS."""
    connection = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
    if data:
        connection = held.enter_context(ANY_CERTIFICATE.wrap_socket(connection, server_hostname="tracking.example"))
        connection.sendall(data)
    connection.setblocking(False)
    return connection


def is_open(connection):
    try:
        return connection.recv(1) != b""
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False


def seconds_of(port, path, arguments, status):
    """How long an answer of that status takes, from another address: the best of three on a machine that others use."""
    taken = []
    for _ in range(3):
        start = time.monotonic()
        assert curl(port, path, "--interface", "127.0.0.2", *arguments)[0] == status
        taken.append(time.monotonic() - start)
    return min(taken)
