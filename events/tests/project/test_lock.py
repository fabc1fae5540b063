"""``requirements.lock``, which deployments install: all of requirements.txt, in versions that it allows, by hashes."""

import re
import shutil
import subprocess

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from events.tests.support.service import PROJECT_DIR

LOCK = (PROJECT_DIR / "requirements.lock").read_text()
# a package with its hashes, each on a line of its own
ENTRY = re.compile(r"^(\S+==\S.*?)((?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.MULTILINE)
LOCKED = [Requirement(text) for text, _ in ENTRY.findall(LOCK)]


def requirements():
    lines = (PROJECT_DIR / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_each_requirement_is_locked_in_a_version_that_it_allows(requirement):
    found = [each for each in LOCKED if canonicalize_name(each.name) == canonicalize_name(requirement.name)]

    assert len(found) == 1
    [pin] = found[0].specifier
    assert pin.operator == "=="
    assert requirement.specifier.contains(pin.version, prereleases=False)


def test_each_package_has_one_version_and_hashes():
    rest = [line for line in ENTRY.sub("", LOCK).splitlines() if line]
    names = [canonicalize_name(each.name) for each in LOCKED]

    assert len(names) > len(requirements())
    assert len(names) == len(set(names))
    # no option, no address and no path besides: comments alone, of which one names the command
    assert [line for line in rest if not line.lstrip().startswith("#")] == []
    assert [line for line in rest if "/" in line] == ["#    script/lock"]


@pytest.mark.parametrize(
    ("file", "installs", "count"),
    [
        ("deploy/Dockerfile", "--require-hashes -r /requirements.lock", 1),
        ("docs/deployment.md", "script/install requirements.lock", 2),
    ],
)
def test_deployments_install_the_lock_and_nothing_else(file, installs, count):
    text = (PROJECT_DIR / file).read_text()

    assert text.count(installs) == count
    assert len(re.findall(r"pip install|script/install", text)) == count


@pytest.mark.parametrize(
    ("file", "arguments"),
    [("requirements.lock", "--require-hashes -r requirements.lock"), ("requirements.txt", "-r requirements.txt")],
)
def test_the_script_has_hashes_checked_of_a_lock(tmp_path, file, arguments):
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    python.chmod(0o755)
    (tmp_path / "script").mkdir()
    for name in ("script/install", "requirements.txt", "requirements.lock"):
        shutil.copy(PROJECT_DIR / name, tmp_path / name)

    subprocess.run([tmp_path / "script/install", file], check=True)

    last_call = (tmp_path / "calls").read_text().splitlines()[-1]
    assert last_call == f"-m pip install --quiet --disable-pip-version-check {arguments}"
