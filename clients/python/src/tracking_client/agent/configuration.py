"""Reads the agent's configuration: a file in TOML, the environment, or both."""

from __future__ import annotations

import os
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tracking_client.agent.exposition import Exporter


class WrongConfigurationError(ValueError):
    """Something is configured that can't be."""


@dataclass(frozen=True)
class Configuration:
    """All that can be set, as named in the file; address and credentials are None where they are not given."""

    url: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    namespace: str = field(default_factory=lambda: socket.gethostname().replace("/", "-"))
    interval_seconds: float = 10.0
    spool: str = field(default_factory=lambda: str(default_spool(os.environ)))
    host: bool = True  # whether the host itself is read
    processes: tuple[str, ...] = ()
    exec: Mapping[str, str] = field(default_factory=dict)  # commands by the name of their series
    prometheus: tuple[Exporter, ...] = ()
    timeout_seconds: float = 5.0  # of a command, and of an exporter


def default_spool(environ: Mapping[str, str]) -> Path:
    """Return where events wait: in the directory that systemd gives, else in the user's for state."""
    if directory := environ.get("STATE_DIRECTORY"):
        return Path(directory.partition(":")[0]) / "spool"
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "tracking-agent/spool"


def configured(path: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Return the configuration of a file, if any, with what variables of the environment say instead.

    Raises WrongConfigurationError, which names what is wrong.
    """
    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise WrongConfigurationError(f"{path}: {error}") from None
    for name, variable in _VARIABLES.items():
        if environ.get(variable):
            given[name] = environ[variable]
    known = {each.name for each in fields(Configuration)} | {"prometheus_metrics"}
    if unknown := sorted(given.keys() - known):
        raise WrongConfigurationError(
            f"{', '.join(unknown)}: there is no such setting; known are {', '.join(sorted(known))}."
        )
    metrics = _texts("prometheus_metrics", given.pop("prometheus_metrics", ["*"]))
    readers: dict[str, Callable[[str, object], Any]] = {
        "interval_seconds": _seconds,
        "timeout_seconds": _seconds,
        "host": _truth,
        "processes": _texts,
        "exec": _commands,
        "prometheus": lambda name, value: _exporters(name, value, metrics),
    }
    return Configuration(**{name: readers.get(name, _text)(name, value) for name, value in given.items()})


_VARIABLES = {
    "url": "TRACKING_URL",
    "client_id": "TRACKING_CLIENT_ID",
    "client_secret": "TRACKING_CLIENT_SECRET",
    "namespace": "TRACKING_AGENT_NAMESPACE",
    "interval_seconds": "TRACKING_AGENT_INTERVAL_SECONDS",
    "spool": "TRACKING_AGENT_SPOOL",
    "processes": "TRACKING_AGENT_PROCESSES",
    "prometheus": "TRACKING_AGENT_PROMETHEUS",
    "prometheus_metrics": "TRACKING_AGENT_PROMETHEUS_METRICS",
}


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise WrongConfigurationError(f"{name} is a text, not {value!r}.")
    return value


def _seconds(name: str, value: object) -> float:
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = 0.0
    if isinstance(value, bool) or not 0.1 <= seconds <= 86_400:
        raise WrongConfigurationError(f"{name} is a number of seconds from 0.1 to 86400, not {value!r}.")
    return seconds


def _truth(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongConfigurationError(f"{name} is true or false, not {value!r}.")
    return value


def _texts(name: str, value: object) -> tuple[str, ...]:
    found = value.split(",") if isinstance(value, str) else value
    if not isinstance(found, list):
        raise WrongConfigurationError(f"{name} is a list of texts, not {value!r}.")
    return tuple(_text(name, each.strip() if isinstance(each, str) else each) for each in found)


def _commands(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise WrongConfigurationError(f"{name} is a table of commands by the name of their series, not {value!r}.")
    return {series: _text(f"{name}.{series}", command) for series, command in value.items()}


def _exporters(name: str, value: object, metrics: tuple[str, ...]) -> tuple[Exporter, ...]:
    if isinstance(value, str):
        value = list(_texts(name, value))
    if not isinstance(value, list):
        raise WrongConfigurationError(f"{name} is a list of addresses or tables, not {value!r}.")
    return tuple(_exporter(name, each, metrics) for each in value)


def _exporter(name: str, value: object, metrics: tuple[str, ...]) -> Exporter:
    table = value if isinstance(value, dict) else {"url": value}
    if unknown := sorted(table.keys() - {"url", "metrics", "namespace"}):
        raise WrongConfigurationError(f"{name}: {', '.join(unknown)}: known are metrics, namespace, url.")
    url = _text(f"{name}.url", table.get("url"))
    if not url.startswith(("http://", "https://")):
        raise WrongConfigurationError(f"{name}: an address begins with http:// or https://, not {url!r}.")
    namespace = table.get("namespace")
    return Exporter(
        url,
        _texts(f"{name}.metrics", table["metrics"]) if "metrics" in table else metrics,
        None if namespace is None else _text(f"{name}.namespace", namespace),
    )
