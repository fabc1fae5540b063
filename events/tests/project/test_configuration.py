"""The environment: what is read, what is refused, and what is made where it is missing."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client

from events.tests.support.service import PROJECT_DIR, environment, manage
from tracking_api import environment as readers

# Each line that comes is an expression and an environment, which a process of its own evaluates. They are copies of one
# that has imported what the settings import, which takes most of the time.
SHOW = """
import json, os, sys, traceback
import django.conf, django.conf.global_settings, tracking_api.environment
for line in sys.stdin:
    expression, variables = json.loads(line)
    read, write = os.pipe()
    if not os.fork():
        os.environ.clear()
        os.environ.update(variables)
        try:
            said = str(eval("settings." + expression, {"settings": django.conf.settings}))
        except Exception:
            said = traceback.format_exc()
        os.write(write, said.strip().splitlines()[-1].encode())
        os._exit(0)
    os.close(write)
    with open(read) as answer:
        print(json.dumps(answer.read()), flush=True)
    os.wait()
"""


@pytest.fixture(scope="module")
def show():
    """What the settings hold in a process with these variables, or the last line of what it says instead."""
    env = {"PATH": os.environ["PATH"], "DJANGO_SETTINGS_MODULE": "tracking_api.settings"}
    command = [sys.executable, "-c", SHOW]
    with subprocess.Popen(command, cwd=PROJECT_DIR, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # fmt: skip

        def show(expression, directory, **variables):
            variables = {**environment(directory, **variables), **env}
            process.stdin.write(json.dumps([expression, variables]) + "\n")
            process.stdin.flush()
            return json.loads(process.stdout.readline())

        yield show
        process.stdin.close()


DATABASE_URL_SAID = "DATABASE_URL must be sqlite:///path/to/file or postgres://user:password@host:port/name"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DEBUG", "maybe", "DEBUG must be one of true or false, not 'maybe'."),
        ("DEBUG", "$DEBUG", "DEBUG must be one of true or false, not '$debug'."),
        ("PORT", "eighty", "PORT must be a whole number from 1 to 65535, not 'eighty'."),
        ("PORT", "70000", "PORT must be a whole number from 1 to 65535, not '70000'."),
        ("SERVER_WORKERS", "0", "SERVER_WORKERS must be a whole number from 1 to 2147483647, not '0'."),
        ("MAX_BODY_BYTES", "10MB", "MAX_BODY_BYTES must be a whole number from 1 to 2147483647, not '10MB'."),
        ("ACCESS_TOKEN_EXPIRE_SECONDS", "9" * 12, "ACCESS_TOKEN_EXPIRE_SECONDS must be a whole number from 1 to 315360000"),
        ("HOST", "", "HOST must be an IP address such as 127.0.0.1 or ::, not ''."),
        ("HOST", "a.example", "HOST must be an IP address such as 127.0.0.1 or ::, not 'a.example'."),
        ("ALLOWED_HOSTS", "http://a.example", "ALLOWED_HOSTS must list host names such as a.example, not 'http://a.example'."),
        ("CSRF_TRUSTED_ORIGINS", "a.example", "CSRF_TRUSTED_ORIGINS must list origins such as https://a.example, not 'a.example'."),
        ("CSRF_TRUSTED_ORIGINS", "https://a/b", "CSRF_TRUSTED_ORIGINS must list origins such as https://a.example, not 'https://a/b'."),
        *(("RETENTION", value, "RETENTION must list namespaces and ages such as Shop-*=30d,Audit=keep,*=365d, not 'X")
          for value in ("X", "X=", "X=30", "*=1d,X=-1d", "X*y=1d", "X=1w")),
        ("RETENTION", "=30d", "RETENTION must list namespaces and ages"),
        ("RETENTION", "Audit/=keep,*=365d", "RETENTION must list namespaces and ages"),
        *(("ARCHIVE", value, "ARCHIVE must be an absolute path, or an address such as s3://bucket/folder.")
          for value in ("archive", "~/archive", "s3:/secret", "s3://", "s3://a b")),
        ("DATABASE_TIMEOUT_SECONDS", "", "DATABASE_TIMEOUT_SECONDS must be a whole number from 1 to 3600, not ''."),
        ("HTTPS", "https", "HTTPS must be one of true or false, not 'https'."),
        ("LOG_FORMAT", "JSON", "LOG_FORMAT must be one of text, json, not 'JSON'."),
        ("METRICS_TOKEN", "secret", "METRICS_TOKEN must be 16 or more visible ASCII characters without blanks, or empty."),
        ("METRICS_TOKEN", "a secret with blanks in it", "METRICS_TOKEN must be 16 or more visible ASCII characters"),
        ("READY_LAG_SECONDS", "5m", "READY_LAG_SECONDS must be a whole number from 0 to 2147483647, not '5m'."),
        ("LOCAL_DIR", "/dev/null/x", "LOCAL_DIR must be a directory to write to: "),
        ("RATE_LIMIT_EVENTS", "-1", "RATE_LIMIT_EVENTS must be a whole number from 0 to 2147483647, not '-1'."),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "TRUSTED_PROXIES must list IP addresses or networks such as 10.0.0.1 or 10.0.0.0/8, not '10.0.0.1/8'."),
        ("TRUSTED_PROXIES", "127.0.0.1,nginx", "TRUSTED_PROXIES must list IP addresses or networks such as 10.0.0.1 or 10.0.0.0/8, not '127.0.0.1,nginx'."),
        ("CORS_ALLOWED_ORIGINS", "*", "CORS_ALLOWED_ORIGINS must list origins such as https://a.example, not '*'."),
        ("CORS_ALLOWED_ORIGINS", "null", "CORS_ALLOWED_ORIGINS must list origins such as https://a.example, not 'null'."),
        *(("CACHE_URL", url, "CACHE_URL must be memory://, redis://host:port/number or memcached://host:port.")
          for url in ("", "memory", "locmem://", "redis://", "redis:secret", "http://h/secret", "redis://:secret@h:x/0",
                      "redis://h:0", "memcached://h", "memcached://secret:", "memcached://h:0")),
        *(("DATABASE_URL", url, DATABASE_URL_SAID)
          for url in ("", "db.sqlite3", "mysql://u:secret@h/n", "postgres://u:secret@h:port/n", "postgres://h:1")),
    ],
)  # fmt: skip
def test_it_refuses_a_value_that_it_cannot_read(show, tmp_path, name, value, said):
    line = show("DEBUG", tmp_path, **{name: value})

    assert said in line
    assert "ImproperlyConfigured" in line
    assert "secret" not in line


def test_it_refuses_a_line_of_the_env_file_that_it_cannot_read(show, tmp_path):
    (tmp_path / ".env").write_text("# a comment\n\nDEBUG=true\nPORT = 8001\n")

    line = show("PORT", tmp_path, ENV_FILE=tmp_path / ".env")

    assert line.endswith(f"ImproperlyConfigured: {tmp_path}/.env, line 4, must be NAME=value: 'PORT '")


def test_an_env_file_may_begin_with_the_mark_of_an_editor(tmp_path, monkeypatch):
    file = tmp_path / ".env"
    file.write_bytes(b"\xef\xbb\xbfMARKED=yes\n")
    monkeypatch.setenv("MARKED", "")
    monkeypatch.delenv("MARKED")

    readers.read_file(file)

    assert readers.text("MARKED", "no") == "yes"


def test_an_env_file_that_is_no_utf8_is_refused_by_its_name(tmp_path):
    file = tmp_path / ".env"
    file.write_bytes(b"DEFAULT_FROM_EMAIL=B\xfcro@example.com\n")

    with pytest.raises(ImproperlyConfigured, match=f"^{re.escape(str(file))} must be UTF-8 text.$"):
        readers.read_file(file)


@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_command_stops_with_a_line_that_names_the_variable(tmp_path, command):
    done = manage(command, env=environment(tmp_path, MAX_ITEMS="x"))

    said = "ImproperlyConfigured: MAX_ITEMS must be a whole number from 1 to 2147483647, not 'x'.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


@pytest.mark.parametrize("name", ["missing", "."])  # Docker makes a directory where a file to mount is missing
def test_an_env_file_that_is_named_and_is_none_is_refused(show, tmp_path, name):
    file = f"{tmp_path}/{name}"

    line = show("DATABASES", tmp_path, ENV_FILE=file)

    assert line.endswith(f"ImproperlyConfigured: ENV_FILE must be the path of a file, not {file!r}.")


def test_the_env_file_that_nobody_names_may_be_missing(tmp_path, monkeypatch):
    default = tmp_path / ".env"

    monkeypatch.delenv("ENV_FILE")
    assert readers.env_file(default) == default
    default.touch()
    for value in ("", os.devnull):
        monkeypatch.setenv("ENV_FILE", value)
        assert not readers.env_file(default).is_file()  # so nothing is read


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (" METRICS_TOKEN=a-secret", ": ' METRICS_TOKEN'"),
        ("\tMETRICS_TOKEN=a-secret", ": '\\tMETRICS_TOKEN'"),
        ("export  METRICS_TOKEN=a-secret", ": 'export  METRICS_TOKEN'"),
        ("export\tMETRICS_TOKEN=a-secret", ": 'export\\tMETRICS_TOKEN'"),
        ("METRICS_TÖKEN=a-secret", ": 'METRICS_TÖKEN'"),
        ("METRICS_TOKEN: a-secret", ""),
        ("a-secret", ""),
        ("a-secret/that+goes+on==", ""),
    ],
)
def test_a_line_that_would_be_left_out_is_refused_and_its_value_not_repeated(tmp_path, caplog, line, said):
    file = tmp_path / ".env"
    file.write_text(f"DEBUG=true\n{line}\n")

    with pytest.raises(ImproperlyConfigured) as error:
        readers.read_file(file)

    assert str(error.value) == f"{file}, line 2, must be NAME=value{said}"
    assert caplog.messages == []


def test_comments_and_blank_lines_may_be_indented_and_nothing_is_said_of_them(tmp_path, monkeypatch, caplog):
    read = {"GIVEN": "before"}
    monkeypatch.setattr(readers.environ.Env, "ENVIRON", read)
    file = tmp_path / ".env"
    lines = ["# PORT=1", "  # METRICS_TOKEN=a-secret", "\t#", "", "  \t", "A=b # c", "export B='d'", "C=", "GIVEN=x"]
    file.write_text("\n".join(lines))

    readers.read_file(file)

    assert read == {"GIVEN": "before", "A": "b # c", "B": "d", "C": ""}
    assert caplog.messages == []


@pytest.mark.parametrize(("value", "expected"), [("TRUE", True), ("1", True), ("on", True), ("no", False), ("", False)])
def test_it_reads_booleans(monkeypatch, value, expected):
    monkeypatch.setenv("X", value)

    assert readers.boolean("X", default=True) is expected


def test_lists_may_have_blanks(monkeypatch):
    monkeypatch.setenv("X", " a.example , ,b.example,")

    assert readers.texts("X", []) == ["a.example", "b.example"]


@pytest.mark.parametrize("value", ["https://a,https://b", "https://a/b"])
def test_there_is_one_origin_of_the_service(monkeypatch, value):
    monkeypatch.setenv("X", value)

    with pytest.raises(ImproperlyConfigured, match=r"^X must (be one|list) origins? such as https://a.example, not"):
        readers.origin("X")
    monkeypatch.setenv("X", "https://a.example:8443")
    assert readers.origin("X") == "https://a.example:8443"
    monkeypatch.setenv("X", "")
    assert readers.origin("X") == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ("", None, None, None, None, None)),
        ("smtp+tls://eve%40a:s%2Fx@mail.example", ("mail.example", 587, "eve@a", "s/x", True, False)),
        ("smtps://mail.example:465/", ("mail.example", 465, "", "", False, True)),
        ("smtp://mail.example", ("mail.example", 25, "", "", False, False)),
    ],
)
def test_it_reads_the_mail_server(monkeypatch, value, expected):
    monkeypatch.setenv("X", value)
    names = ("HOST", "PORT", "HOST_USER", "HOST_PASSWORD", "USE_TLS", "USE_SSL")

    assert tuple(readers.email("X").get(f"EMAIL_{name}") for name in names) == expected


@pytest.mark.parametrize(
    "value", ["mail.example", "imap://a", "smtp://", "smtp://a:x", "smtp://u:secret@a/b", "smtp://[::1"]
)
def test_it_refuses_what_is_no_mail_server_and_repeats_no_password(monkeypatch, value):
    monkeypatch.setenv("X", value)

    with pytest.raises(ImproperlyConfigured) as error:
        readers.email("X")

    assert str(error.value) == "X must be smtp+tls://user:password@host:port, smtps://… or smtp://…"


@pytest.mark.parametrize("value", ["0", "x", "1.5", "²"])
def test_it_refuses_numbers_below_the_least(monkeypatch, value):
    monkeypatch.setenv("X", value)

    with pytest.raises(ImproperlyConfigured, match=f"^X must be a whole number from 1 to 2147483647, not '{value}'.$"):
        readers.integer("X", 5, minimum=1)


def test_retention_goes_by_namespace(show, tmp_path):
    assert show("RETENTION", tmp_path) == "[]"
    assert show("RETENTION", tmp_path, RETENTION="a=b=36h, Audit=keep,*=365d") == (
        "[('a=b', datetime.timedelta(days=1, seconds=43200)), ('Audit', None), ('*', datetime.timedelta(days=365))]"
    )


def test_sqlite_is_durable_and_waits(show, tmp_path):
    options = show("DATABASES['default']['OPTIONS']", tmp_path, DATABASE_URL="sqlite:////tmp/x.sqlite3")

    assert "'timeout': 5, 'transaction_mode': 'IMMEDIATE'" in options
    assert "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" in options


def test_postgresql_connections_persist_and_are_checked(show, tmp_path):
    url = "postgres://ada:love%2Flace@db.example:5433/events?sslmode=require"

    database = show("DATABASES['default']", tmp_path, DATABASE_URL=url)

    for part in (
        "'ENGINE': 'events.database.postgresql'", "'NAME': 'events'", "'USER': 'ada'", "'PASSWORD': 'love/lace'",
        "'HOST': 'db.example'", "'PORT': 5433", "'sslmode': 'require'", "'connect_timeout': 5",
        "'CONN_MAX_AGE': 600", "'CONN_HEALTH_CHECKS': True", "'SESSION_SETTINGS': {'lock_timeout': '5s'}", "'tcp_user_timeout': 5000",
    ):  # fmt: skip
        assert part in database


def test_an_env_file_is_read_and_the_environment_wins(show, tmp_path):
    (tmp_path / ".env").write_text("PORT=8001\nHOST=0.0.0.0\n")

    assert show("HOST", tmp_path, ENV_FILE=tmp_path / ".env") == "0.0.0.0"
    assert show("PORT", tmp_path, ENV_FILE=tmp_path / ".env", PORT=8002) == "8002"


def test_pages_elsewhere_cost_nothing_until_one_is_allowed(show, tmp_path):
    first = "events.http.middleware.ProbeMiddleware"
    assert show("MIDDLEWARE[0]", tmp_path) == first
    allowed = {"CORS_ALLOWED_ORIGINS": "https://a.example, http://localhost:3000"}
    assert show("MIDDLEWARE[:2]", tmp_path, **allowed) == f"['corsheaders.middleware.CorsMiddleware', '{first}']"
    assert show("CORS_ALLOWED_ORIGINS", tmp_path, **allowed) == "['https://a.example', 'http://localhost:3000']"


def test_the_defaults_are_safe(show, tmp_path):
    assert show("DEBUG", tmp_path) == "False"
    assert show("ALLOWED_HOSTS", tmp_path) == "['localhost', '127.0.0.1', '[::1]']"
    assert show("HOST", tmp_path) == "127.0.0.1"


def test_https_is_one_setting(show, tmp_path):
    names = (
        "SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_PROXY_SSL_HEADER",
        "SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS",
    )  # fmt: skip
    expression = f"__class__ and [getattr(settings, name) for name in {names}]"

    assert show(expression, tmp_path) == "[False, False, False, None, 0, False]"
    assert show(expression, tmp_path, HTTPS="true") == (
        "[True, True, True, ('HTTP_X_FORWARDED_PROTO', 'https'), 31536000, True]"
    )


@pytest.mark.parametrize("path", ["/api/events/", "/accounts/login/"])
def test_with_https_nothing_is_answered_without_it(settings, path):
    settings.SECURE_SSL_REDIRECT, settings.SECURE_HSTS_SECONDS = True, 60
    settings.SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

    plain = Client().get(path, headers={"Authorization": "Bearer x"})
    behind_a_proxy = Client().get("/accounts/login/", headers={"X-Forwarded-Proto": "https"})

    assert (plain.status_code, plain["Location"]) == (301, f"https://testserver{path}")
    assert (behind_a_proxy.status_code, behind_a_proxy["Strict-Transport-Security"]) == (
        200, "max-age=60; includeSubDomains"
    )  # fmt: skip


def test_a_missing_secret_is_made_once_and_kept_private(show, tmp_path):
    command = [sys.executable, "-c", "from tracking_api import settings; print(settings.SECRET_KEY)"]
    several = [
        subprocess.Popen(command, cwd=PROJECT_DIR, env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    secrets = {process.communicate()[0].strip() for process in several}

    assert len(secrets) == 1
    assert len(secrets.pop()) >= 50
    [file] = (tmp_path / "local").iterdir()
    assert (file.name, stat.S_IMODE(file.stat().st_mode)) == ("secret_key", 0o600)
    assert show("SECRET_KEY", tmp_path, SECRET_KEY="$given") == "$given"


def test_every_variable_is_documented():
    """The settings, the example file and the documentation name the same variables."""
    settings = (PROJECT_DIR / "tracking_api/settings.py").read_text() + (
        PROJECT_DIR / "tracking_api/environment.py"
    ).read_text()
    read = set(re.findall(r'environment\.\w+\(\s*"([A-Z_]+)"', settings)) | set(
        re.findall(r' integer\("([A-Z_]+)"', settings)
    )
    example = re.findall(r"^#([A-Z_]+)=", (PROJECT_DIR / ".env.example").read_text(), re.MULTILINE)
    table = re.findall(r"^\| `([A-Z_]+)` \|", (PROJECT_DIR / "docs/configuration.md").read_text(), re.MULTILINE)

    assert len(read) > 10
    assert read == set(example)
    assert read == set(table)


def test_the_version_is_the_one_of_the_project_file(tmp_path):
    shutil.copytree(PROJECT_DIR / "tracking_api", tmp_path / "tracking_api")
    project = re.sub(r'^version = "\d+\.\d+\.\d+"', 'version = "98.7.6"', (PROJECT_DIR / "pyproject.toml").read_text(), flags=re.MULTILINE)  # fmt: skip
    (tmp_path / "pyproject.toml").write_text(project)
    show = "from tracking_api import settings; print(settings.BASE_DIR, settings.SPECTACULAR_SETTINGS['VERSION'])"

    done = subprocess.run(
        [sys.executable, "-c", show], cwd=tmp_path, capture_output=True, text=True,
        env={**environment(tmp_path), "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PROJECT_DIR)])},
    )  # fmt: skip

    assert (done.stdout, done.stderr) == (f"{tmp_path} 98.7.6\n", "")
