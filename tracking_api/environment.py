"""Reads environment variables by type; a reader raises ImproperlyConfigured, with the variable's name, for others."""

import ipaddress
import os
import re
import secrets
import warnings
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured, ValidationError

from events.access.local_secrets import kept
from events.calendar.ages import age
from events.database.postgresql import session
from events.database.private_files import PrivateConnection
from events.log.namespace_patterns import Namespaces, validate_patterns

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off", ""}
_SQLITE = "django.db.backends.sqlite3"
_POSTGRESQL = "events.database.postgresql"
_EMAIL_PORTS = {"smtp": 25, "smtp+tls": 587, "smtps": 465}
_EMAIL_SECONDS = 15
# what the library reads; any other line it repeats in a warning, and leaves out
_ENV_LINE = re.compile(r"(?:export )?[A-Za-z_]\w*=.*", re.ASCII)
_ENV_NAME = re.compile(r"\s*(?:export\s+)?[^\W\d]\w*\s*(?==)")


def env_file(default: Path) -> Path:
    """Return the path that ENV_FILE gives, of a file that is there, or else the default one, which may be missing."""
    value = os.environ.get("ENV_FILE")
    if value is None:
        return default
    path = Path(value)
    if value not in {"", os.devnull} and not path.is_file():
        raise ImproperlyConfigured(f"ENV_FILE must be the path of a file, not {value!r}.")
    return path


def read_file(path: Path) -> None:
    """Add the variables of a ``.env`` file, where it exists; a variable that is set already stays."""
    if not path.is_file():
        return
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ImproperlyConfigured(f"{path} must be UTF-8 text.") from None
    found = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not _ENV_LINE.fullmatch(line):
            name = _ENV_NAME.match(line)  # nothing else is repeated, as it may be of a password
            shown = f": {name[0]!r}" if name else ""
            raise ImproperlyConfigured(f"{path}, line {number}, must be NAME=value{shown}")
        found.append(line)
    environ.Env.read_env(StringIO("\n".join(found)))


def text(name: str, default: str) -> str:
    """Return the variable as it is."""
    return os.environ.get(name, default)


def boolean(name: str, *, default: bool) -> bool:
    """Read 1, true, yes or on as True, and 0, false, no, off or nothing as False, in any case."""
    value = text(name, str(default)).strip().lower()
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ImproperlyConfigured(f"{name} must be one of true or false, not {value!r}.")


def integer(name: str, default: int, *, minimum: int, maximum: int = 2**31 - 1) -> int:
    """Read a whole number between ``minimum`` and ``maximum``, both included."""
    value = text(name, str(default)).strip()
    if re.fullmatch(r"[0-9]{1,10}", value) and minimum <= int(value) <= maximum:
        return int(value)
    raise ImproperlyConfigured(f"{name} must be a whole number from {minimum} to {maximum}, not {value!r}.")


def address(name: str, default: str) -> str:
    """Read an IP address to listen on."""
    value = text(name, default)
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be an IP address such as 127.0.0.1 or ::, not {value!r}.") from None


def networks(name: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """Read a list of IP addresses and networks."""
    try:
        return [ipaddress.ip_network(value) for value in texts(name, [])]
    except ValueError:
        wanted = "IP addresses or networks such as 10.0.0.1 or 10.0.0.0/8"
        raise ImproperlyConfigured(f"{name} must list {wanted}, not {text(name, '')!r}.") from None


def texts(name: str, default: list[str]) -> list[str]:
    """Read a list of texts between commas; blanks around them don't count, and empty ones are left out."""
    return [part.strip() for part in text(name, ",".join(default)).split(",") if part.strip()]


def hosts(name: str, default: list[str]) -> list[str]:
    """Read a list of host names, without scheme, port or path."""
    values = texts(name, default)
    for value in values:
        if not re.fullmatch(r"\*|\.?[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]", value):
            raise ImproperlyConfigured(f"{name} must list host names such as a.example, not {value!r}.")
    return values


def origins(name: str) -> list[str]:
    """Read a list of origins: scheme, host and, where it isn't the scheme's default, port."""
    values = texts(name, [])
    for value in values:
        if not re.fullmatch(r"https?://[^/\s]+", value):
            raise ImproperlyConfigured(f"{name} must list origins such as https://a.example, not {value!r}.")
    return values


def origin(name: str) -> str:
    """Read an origin, as ``origins`` has them; empty for none."""
    values = origins(name)
    if len(values) > 1:
        raise ImproperlyConfigured(f"{name} must be one origin such as https://a.example, not {text(name, '')!r}.")
    return values[0] if values else ""


def email(name: str) -> dict[str, Any]:
    """Read the URL of a mail server as Django's settings; an empty host for none.

    ``smtp+tls://user:password@host:587`` speaks TLS after STARTTLS, ``smtps://…:465`` from the beginning on, and
    ``smtp://host:25`` not at all.
    """
    value = text(name, "").strip()
    settings: dict[str, Any] = {"EMAIL_HOST": "", "EMAIL_TIMEOUT": _EMAIL_SECONDS}
    if not value:
        return settings
    try:
        parts = urlsplit(value)
        port = parts.port or _EMAIL_PORTS[parts.scheme]
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
            raise ValueError
    except (KeyError, ValueError):
        # the value is not repeated, as it may hold a password
        raise ImproperlyConfigured(
            f"{name} must be smtp+tls://user:password@host:port, smtps://… or smtp://…"
        ) from None
    return settings | {
        "EMAIL_HOST": parts.hostname,
        "EMAIL_PORT": port,
        "EMAIL_HOST_USER": unquote(parts.username or ""),
        "EMAIL_HOST_PASSWORD": unquote(parts.password or ""),
        "EMAIL_USE_TLS": parts.scheme == "smtp+tls",
        "EMAIL_USE_SSL": parts.scheme == "smtps",
    }


def cache(name: str, default: str) -> str:
    """Read the URL of a Redis or memcached, or ``memory://``, where each process has a cache of its own.

    Only Redis has a port that needn't be named.
    """
    value = text(name, default)
    try:
        parts = urlsplit(value)
        has_port = bool(parts.port) if parts.scheme == "memcached" else parts.port != 0
        known = bool(parts.hostname) and has_port and parts.scheme in {"redis", "rediss", "memcached"}
    except ValueError:
        known = False
    if not known and value != "memory://":
        # the value is not repeated, as it may hold a password
        raise ImproperlyConfigured(f"{name} must be memory://, redis://host:port/number or memcached://host:port.")
    return value


def choices(name: str, default: list[str], allowed: list[str]) -> list[str]:
    """Read a list of one or more allowed words; return them in the order of ``allowed``."""
    values = texts(name, default)
    if not values or not set(values) <= set(allowed):
        raise ImproperlyConfigured(f"{name} must list one or more of {', '.join(allowed)}, not {text(name, '')!r}.")
    return [value for value in allowed if value in values]


def choice(name: str, default: str, allowed: list[str]) -> str:
    """Read one of the allowed words."""
    value = text(name, default)
    if value not in allowed:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")
    return value


def token(name: str) -> str:
    """Read a token for an ``Authorization`` header: 16 or more visible ASCII characters; empty for none."""
    value = text(name, "")
    if value and not re.fullmatch(r"[!-~]{16,}", value):
        raise ImproperlyConfigured(f"{name} must be 16 or more visible ASCII characters without blanks, or empty.")
    return value


def retention(name: str) -> list[tuple[str, timedelta | None]]:
    """Read a list of ``pattern=age``; return the patterns of namespaces, each with its age, or None for ``keep``.

    A pattern is a name, or the beginning of one up to an asterisk; an age is such as 90d.
    """
    policy = []
    for part in texts(name, []):
        pattern, _, age_text = part.rpartition("=")
        try:
            if not pattern:
                raise ValueError
            validate_patterns(pattern)
            policy.append((pattern, None if age_text == "keep" else age(age_text)))
        except (ValueError, ValidationError):
            raise ImproperlyConfigured(
                f"{name} must list namespaces and ages such as Shop-*=30d,Audit=keep,*=365d, not {part!r}."
            ) from None
    return policy


def archive(name: str) -> str:
    """Read the absolute path of a directory, or the address of a folder that fsspec knows; empty for none."""
    value = text(name, "").strip().removeprefix("file://").removeprefix("local://")
    if value and not re.fullmatch(r"/.*|[A-Za-z][A-Za-z0-9+.-]*://\S+", value):
        # the value is not repeated, as it may hold a password
        raise ImproperlyConfigured(f"{name} must be an absolute path, or an address such as s3://bucket/folder.")
    return value


def namespaces(name: str) -> Namespaces:
    """Read a list of patterns of namespaces; each is a name, or the beginning of one up to an asterisk."""
    patterns = texts(name, [])
    try:
        for pattern in patterns:
            validate_patterns(pattern)
    except ValidationError:
        raise ImproperlyConfigured(f"{name} must list namespaces such as Shop-*,Audit, not {pattern!r}.") from None
    return Namespaces.of("\n".join(patterns))


def database(name: str, default: str, *, timeout_seconds: int) -> dict[str, Any]:
    """Read a ``sqlite:///path`` or ``postgres://user:password@host:port/name`` URL as Django's dictionary."""
    wanted = f"{name} must be sqlite:///path/to/file or postgres://user:password@host:port/name"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            config = dict(environ.Env.db_url_config(text(name, default)))
        except Exception as error:  # a parser may raise anything; the URL isn't repeated, as it may hold a password
            raise ImproperlyConfigured(f"{wanted} ({type(error).__name__}).") from None
    if not config.get("NAME"):
        raise ImproperlyConfigured(f"{wanted}.")
    connection_seconds = integer("DATABASE_CONNECTION_SECONDS", 600, minimum=0)
    if config["ENGINE"] == _SQLITE:
        options = _sqlite_options(timeout_seconds)
    elif config["ENGINE"] == "django.db.backends.postgresql":
        config["ENGINE"] = _POSTGRESQL
        config["CONN_HEALTH_CHECKS"] = True
        config[session.SETTINGS] = {"lock_timeout": f"{timeout_seconds}s"}
        options = _postgresql_options(timeout_seconds)
    else:
        raise ImproperlyConfigured(f"{wanted}.")
    config["CONN_MAX_AGE"] = connection_seconds
    config["OPTIONS"] = {**options, **config.get("OPTIONS", {})}
    return config


def replica(name: str, primary: dict[str, Any], *, timeout_seconds: int) -> dict[str, Any] | None:
    """Read the ``postgres://`` URL of a standby of the primary as Django's dictionary; None where it isn't set."""
    if not text(name, "").strip():
        return None
    if primary["ENGINE"] == _SQLITE:
        raise ImproperlyConfigured(f"{name} needs a DATABASE_URL of PostgreSQL, as SQLite has no replicas.")
    config = database(name, "", timeout_seconds=timeout_seconds)
    if config["ENGINE"] == _SQLITE:
        raise ImproperlyConfigured(f"{name} must be postgres://user:password@host:port/name, of a standby.")
    return {**config, "TEST": {"MIRROR": "default"}}


def _sqlite_options(timeout_seconds: int) -> dict[str, Any]:
    # WAL lets readers go on beside one writer. FULL syncs every commit, so that a 201 survives a power cut.
    # IMMEDIATE takes the write lock at BEGIN, where waiting works; a lock upgrade later fails at once.
    return {
        "timeout": timeout_seconds,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        "factory": PrivateConnection,
    }


def _postgresql_options(timeout_seconds: int) -> dict[str, Any]:
    # So nothing waits for ever: neither for a connection, nor for a server that has gone without closing it.
    return {
        "connect_timeout": timeout_seconds,
        "tcp_user_timeout": timeout_seconds * 1000,
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }


def secret(name: str, path: Path) -> str:
    """Return the variable or, where it isn't set, a random secret, made once and kept in ``path`` with mode 600."""
    return text(name, "") or kept(path, lambda: secrets.token_urlsafe(50))
