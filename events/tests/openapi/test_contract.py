"""The service as schemathesis meets it, which reads the description and sends what that allows, and what it doesn't."""

import os
import subprocess
import sys

from events.tests.support import service
from events.tests.support.examples import few_of
from events.tests.support.service import PROJECT_DIR, fetch_token


def test_schemathesis_finds_nothing(prepared, tmp_path):
    with prepared(tmp_path) as env, service.served(env):
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--no-color"),
                *("--config-file", str(PROJECT_DIR / "events/tests/openapi/schemathesis.toml")),
                *("run", f"http://127.0.0.1:{env['PORT']}/api/schema/", "--checks", "all"),
                *("--max-examples", str(few_of(50))),
            ],
            env={**os.environ, "TOKEN": fetch_token(env), "PYTHONPATH": str(PROJECT_DIR)}, cwd=tmp_path, capture_output=True, text=True,
        )  # fmt: skip
        log = (tmp_path / "server.log").read_text()

    assert done.returncode == 0, f"{done.stdout[:20_000]}{done.stderr}"
    assert "14 selected / 14 total" in done.stdout
    assert "ERROR" not in log
