"""Makes secrets once for this machine, and keeps each in a file that only the service's user may read."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def kept(path: Path, make: Callable[[], str]) -> str:
    """Return the content of a file with mode 600; where the file is missing, make it first.

    The file appears whole, and is made once however many processes ask. Raises ImproperlyConfigured where it can't be
    read or made.
    """
    try:
        if not path.exists():
            _make(path, make())
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ImproperlyConfigured(f"LOCAL_DIR must be a directory to write to: {error}.") from None


def _make(path: Path, content: str) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(content, encoding="utf-8")
    try:
        with suppress(FileExistsError):  # another process was first, so all of them read the same
            os.link(draft, path)
    finally:
        draft.unlink()
