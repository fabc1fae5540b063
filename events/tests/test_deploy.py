"""The files in ``deploy/`` and what docs/deployment.md says of them: that all they name exists, and fits together."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import get_commands, load_command_class
from django.urls import resolve

from events.management.commands import serve
from events.tests import service
from events.tests.service import PROJECT_DIR

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
    yield from found(r"(?:^manage|manage\.py|run --rm service) ([a-z].*?)\)?$", "deployment.md")


@pytest.mark.parametrize("command", sorted(set(manage_commands())))
def test_the_commands_exist_with_these_options(command):
    name, *arguments = shlex.split(command)

    parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)

    parser.parse_args(arguments)  # raises for what it doesn't know


def test_server_and_worker_run_wherever_the_service_does():
    expected = ["serve", "roll_up --watch 1"]

    assert found(r"^ExecStart=\S+/python manage\.py (.*)$", *(path.name for path in UNITS)) == expected[::-1]
    assert found(r"^    command: (.*)$", "compose.yaml") == [*expected, "migrate"]


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
    assert found(r"than the (\d+) bytes", "nginx.conf") == [str(settings.MAX_BODY_BYTES)]
    longest_seconds = settings.STATEMENT_TIMEOUT_SECONDS + settings.DATABASES["default"]["OPTIONS"].get("connect_timeout", 5)  # fmt: skip
    for seconds in found(r"(?:proxy_read_timeout|response_header_timeout) (\d+)s", "nginx.conf", "Caddyfile"):
        assert int(seconds) > longest_seconds
    arguments = serve.Command()._server_arguments()
    kill_seconds = int(arguments[arguments.index("--workers-kill-timeout") + 1])
    stops = [*found(r"TimeoutStopSec=(\d+)", *(path.name for path in UNITS)), *found(r"stop_grace_period: (\d+)s", "compose.yaml")]  # fmt: skip
    assert len(stops) == 5
    assert min(map(int, stops)) > kill_seconds


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
    with service.own_database(tmp_path) as url:
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


@needs("caddy")
def test_caddy_reads_its_file():
    command = ["caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"]
    done = subprocess.run(command, capture_output=True, text=True)

    assert "Valid configuration" in done.stdout + done.stderr
    assert '"level":"warn"' not in done.stderr


@pytest.fixture
def env(prepared, tmp_path):
    with prepared(tmp_path, SERVER_WORKERS=1, ALLOWED_HOSTS="tracking.example,127.0.0.1") as env:
        yield env


@pytest.fixture
def nginx(env, tmp_path):
    """nginx with the snippet, on another port and in front of the port of ``env``; its own port."""
    port, plain_port = service.free_port(), service.free_port()
    snippet = TEXTS["nginx.conf"].replace("listen 443", f"listen {port}").replace("listen 80;", f"listen {plain_port};")
    snippet = re.sub(r"listen \[::\].*\n", "", snippet).replace("127.0.0.1:8000", f"127.0.0.1:{env['PORT']}")
    snippet = snippet.replace("/etc/letsencrypt/live/tracking.example", str(tmp_path))
    (tmp_path / "tracking-api.conf").write_text(snippet)
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind}; " for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))  # fmt: skip
    (tmp_path / "nginx.conf").write_text(
        f"{'user root;' if Path('/proc/self').owner() == 'root' else ''} daemon off; pid {tmp_path}/nginx.pid;\n"
        f"error_log stderr; events {{}}\nhttp {{ access_log off; {temporary} include {tmp_path}/tracking-api.conf; }}\n"
    )
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=tracking.example",
         "-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    command = ["nginx", "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    with service.served({**env, "PORT": str(port)}, command=command):
        yield port, plain_port


def curl(port, path, *arguments):
    """The status, ``Retry-After`` and body of an answer through nginx."""
    command = [
        "curl", "-sk", "--resolve", f"tracking.example:{port}:127.0.0.1", f"https://tracking.example:{port}{path}",
        "-w", "\n%{http_version} %{http_code} %{header_json}", *arguments,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    body, _, rest = done.stdout.rpartition("\n2 ")
    status, _, headers = rest.partition(" ")
    retry_after = re.search(r'"retry-after":\["(\d+)"\]', headers)
    return int(status), int(retry_after[1]) if retry_after else None, body


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
        chunked = ["-H", "Transfer-Encoding: chunked", "--http1.1", "-w", "\n2 %{http_code} %{header_json}"]
        stored = '{"namespace":"a","name":"b","timestamp":"1970-01-01T00:00:01Z","value":%d.0}'
        assert curl(port, "/api/track/", *sent, "-d", event % 1, *chunked) == (201, None, stored % 1)
        assert curl(port, "/api/track/", *sent, "--data-binary", f"@{tmp_path}/largest") == (201, None, stored % 2)
        assert curl(port, "/api/track/", *sent, "--data-binary", f"@{tmp_path}/large") == (
            413, None, f'{{"detail":"The body is larger than the {settings.MAX_BODY_BYTES} bytes allowed."}}'
        )  # fmt: skip
        assert curl(port, "/api/events/a/b?aggregationType=count", *sent) == (
            200, None, '[{"aggregatedTimestamp":"1970-01-01T00:00:01Z","value":2}]'
        )  # fmt: skip
    assert curl(port, "/api/events/", *sent) == unavailable

    without_tls = {"PORT": plain_port}
    assert service.call(without_tls, "POST", "/api/track/", event % 3)[0] == 403
    status, headers, _ = service.call(without_tls, "GET", "/admin/", Host="tracking.example")
    assert (status, headers["Location"]) == (301, "https://tracking.example/admin/")
