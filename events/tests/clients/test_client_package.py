"""The package ``tracking-client``: what it needs, and that it can be installed."""

import os
import re
import subprocess
import sys
import tomllib

from packaging.requirements import Requirement

from events.tests.support.service import PROJECT_DIR

PACKAGE = PROJECT_DIR / "clients/python"
PROJECT = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]


def requirements(file):
    lines = (PROJECT_DIR / file).read_text().splitlines()
    return {Requirement(line).name: Requirement(line).specifier for line in lines if not line.startswith("-r")}


def test_it_needs_one_library():
    assert [Requirement(text).name for text in PROJECT["dependencies"]] == ["urllib3"]


def test_what_is_tested_is_what_it_allows():
    """The agent beside the service, and the tests, run with versions within the package's ranges."""
    allowed = map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["agent"]])
    agent = requirements("requirements-agent.txt")
    everything = {**requirements("requirements.txt"), **requirements("requirements-dev.txt")}

    for requirement in allowed:
        specifier = agent.pop(requirement.name)
        assert everything[requirement.name] == specifier
        assert requirement.specifier.contains(re.sub(r"[~=]", "", str(specifier)))
    assert agent == {}


def test_it_is_installed_with_its_command_and_its_types(tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path / "there", PACKAGE]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr

    files = {str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert {"tracking_client/py.typed", "tracking_client/agent/host.py", "bin/tracking-agent"} <= files
    assert {path.split("/")[0] for path in files} == {"bin", "tracking_client", "tracking_client-1.0.0.dist-info"}
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "there")}
    done = subprocess.run([tmp_path / "there/bin/tracking-agent", "--help"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: tracking-agent")
