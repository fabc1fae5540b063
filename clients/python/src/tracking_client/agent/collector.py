"""Reads all that is configured, and tracks it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import psutil

from tracking_client.agent.commands import Commands
from tracking_client.agent.configuration import Configuration
from tracking_client.agent.exposition import Exposition
from tracking_client.agent.host import Host, Reading
from tracking_client.agent.processes import Processes
from tracking_client.complaints import Complaints


class Input(Protocol):
    """What can be read every few seconds."""

    def read(self) -> Iterator[Reading]:
        """Read names with their values."""


class Metric(NamedTuple):
    """One number that was read."""

    namespace: str
    name: str
    value: float


class Collector:
    """All inputs of an agent."""

    def __init__(self, configuration: Configuration) -> None:
        self._complaints = complaints = Complaints()
        own, timeout = configuration.namespace, configuration.timeout_seconds
        self._inputs: list[tuple[str, Input]] = []
        if configuration.host:
            self._inputs.append((own, Host()))
        self._inputs.append((own, Processes(configuration.processes)))
        self._inputs.append((own, Commands(configuration.exec, timeout, complaints)))
        for exporter in configuration.prometheus:
            self._inputs.append((exporter.namespace or own, Exposition(exporter, timeout, complaints)))

    def read(self) -> Iterator[Metric]:
        """Read all inputs. What can't be read is logged, and the others are read all the same."""
        for namespace, source in self._inputs:
            try:
                for name, value in source.read():
                    yield Metric(namespace, name, float(value))
            except (psutil.Error, OSError) as error:
                self._complaints.say(type(source).__name__, "%s can't be read: %s", type(source).__name__, error)
