"""Node.js and what it runs for the tests of the description, where there is one that is new enough."""

import hashlib
import shutil
import subprocess
import tempfile
from pathlib import Path

CLIENTS_DIR = Path(__file__).parents[1] / "openapi/clients"
_LEAST = (20, 19)  # what redocly asks for


def _version():
    if not (shutil.which("node") and shutil.which("npm")):
        return (0, 0)
    said = subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    return tuple(int(part) for part in said.strip().removeprefix("v").split(".")[:2])


IS_THERE = _version() >= _LEAST


def modules(cache_dir):
    """The ``node_modules`` that ``package-lock.json`` names, installed where they aren't yet."""
    lock = (CLIENTS_DIR / "package-lock.json").read_bytes()
    installed = cache_dir / hashlib.sha256(lock).hexdigest()[:16]
    if not installed.exists():
        made = Path(tempfile.mkdtemp(dir=cache_dir))  # another process may be at it too
        for name in ("package.json", "package-lock.json"):
            shutil.copy(CLIENTS_DIR / name, made)
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
        done = subprocess.run(command, cwd=made, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        try:
            made.rename(installed)
        except OSError:
            shutil.rmtree(made)
    return installed / "node_modules"
