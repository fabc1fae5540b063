"""Typed readers of environment variables; each refuses a value that it can't read, naming the variable."""

import os
import secrets
import warnings
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

_env = environ.Env()
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
_SQLITE = "django.db.backends.sqlite3"
_POSTGRESQL = "django.db.backends.postgresql"


def read_file(path: Path) -> None:
    """Add the variables of a ``.env`` file, where there is one; a variable already set wins."""
    if path.is_file():
        environ.Env.read_env(path)


def text(name: str, default: str) -> str:
    """The variable as it is."""
    return str(_env.str(name, default=default))


def boolean(name: str, *, default: bool) -> bool:
    """One of 1, true, yes, on or 0, false, no, off, in any case."""
    value = text(name, str(default)).strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be one of true or false, not {value!r}.")


def integer(name: str, default: int, *, minimum: int, maximum: int | None = None) -> int:
    """A whole number between ``minimum`` and ``maximum``, both included."""
    value = text(name, str(default)).strip()
    wanted = f"a whole number of at least {minimum}" + (f" and at most {maximum}" if maximum else "")
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be {wanted}, not {value!r}.") from None
    if number < minimum or (maximum is not None and number > maximum):
        raise ImproperlyConfigured(f"{name} must be {wanted}, not {value!r}.")
    return number


def texts(name: str, default: list[str]) -> list[str]:
    """A list separated by commas; blanks around the parts don't count."""
    return [part.strip() for part in text(name, ",".join(default)).split(",") if part.strip()]


def origins(name: str) -> list[str]:
    """A list of origins with their scheme, such as ``https://tracking.example.org``."""
    values = texts(name, [])
    for value in values:
        if not value.startswith(("http://", "https://")):
            raise ImproperlyConfigured(f"{name} must list origins such as https://a.example, not {value!r}.")
    return values


def database(name: str, default: str) -> dict[str, Any]:
    """Django's database dictionary for a ``sqlite:///path`` or ``postgres://user:password@host:port/name`` URL."""
    wanted = f"{name} must be sqlite:///path/to/file or postgres://user:password@host:port/name"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            config: dict[str, Any] = dict(_env.db_url(name, default=default))
        except Exception as error:  # whatever its parts raise; the URL may hold a password and isn't repeated
            raise ImproperlyConfigured(f"{wanted} ({type(error).__name__}).") from None
    if config.get("ENGINE") not in (_SQLITE, _POSTGRESQL) or not config.get("NAME"):
        raise ImproperlyConfigured(f"{wanted}.")
    options = dict(config.get("OPTIONS", {}))
    busy_seconds = integer("DATABASE_TIMEOUT_SECONDS", 5, minimum=1)
    if config["ENGINE"] == _SQLITE:
        # WAL lets readers go on beside one writer. FULL syncs every commit, so that a 201 survives a power cut.
        # IMMEDIATE takes the write lock at BEGIN, where waiting works; a lock upgrade later fails at once.
        config["OPTIONS"] = {
            "timeout": busy_seconds,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
            **options,
        }
    else:
        config["OPTIONS"] = {"connect_timeout": busy_seconds, **options}
        config["CONN_MAX_AGE"] = integer("DATABASE_CONNECTION_SECONDS", 600, minimum=0)
        config["CONN_HEALTH_CHECKS"] = True
    return config


def secret(name: str, path: Path) -> str:
    """The variable or, where it isn't set, a random secret made once and kept in ``path`` with mode 600."""
    value = text(name, "")
    if value:
        return value
    try:
        return path.read_text(encoding="ascii")
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    draft.touch(mode=0o600)
    draft.write_text(secrets.token_urlsafe(50), encoding="ascii")
    try:
        os.link(draft, path)  # fails where another process was first, so all of them read one secret
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text(encoding="ascii")
