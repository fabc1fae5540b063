"""Reads what exporters expose for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite

import urllib3
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tracking_client.agent.host import Reading
from tracking_client.agent.rates import Rates
from tracking_client.complaints import Complaints

_MOST_CHARACTERS = 255
# of histograms and summaries: all but quantiles, which are values
_GROWING = ("_bucket", "_count", "_sum")


@dataclass(frozen=True)
class Exporter:
    """Where metrics are exposed, and which of them are wanted."""

    url: str
    metrics: tuple[str, ...] = ("*",)  # patterns of names, as exposed
    namespace: str | None = None  # the agent's where there is none


class Exposition:
    """The metrics of one exporter."""

    def __init__(self, exporter: Exporter, timeout_seconds: float, complaints: Complaints) -> None:
        self.namespace = exporter.namespace
        self._exporter = exporter
        self._pool = urllib3.PoolManager(timeout=timeout_seconds, retries=False)
        self._complaints = complaints
        self._rates = Rates()

    def read(self) -> Iterator[Reading]:
        """Read the wanted metrics, counters as growth a second from the second turn on; nothing where it is away."""
        url = self._exporter.url
        try:
            answer = self._pool.request("GET", url, headers={"Accept": "text/plain;version=0.0.4"})
            if answer.status != 200:
                raise ValueError(f"status {answer.status}")
            families = list(text_string_to_metric_families(answer.data.decode()))
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            self._complaints.say(f"prometheus {url}", "prometheus %s: %s", url, error)
            return
        now = time.monotonic()
        for family in families:
            for sample in family.samples:
                if any(fnmatchcase(sample.name, pattern) for pattern in self._exporter.metrics):
                    yield from self._read_sample(family, sample, now)
        self._rates.end_turn()

    def _read_sample(self, family: Metric, sample: Sample, now: float) -> Iterator[Reading]:
        name, value = sample.name, float(sample.value)
        is_counter = family.type == "counter" or (
            family.type in ("histogram", "summary") and name.endswith(_GROWING)
        )  # fmt: skip
        if is_counter:
            rate = self._rates.per_second((name, *sorted(sample.labels.items())), value, now)
            if rate is None:
                return
            name, value = name.removesuffix("_total") + "_per_second", rate
        if isfinite(value):
            yield series_name(name, sample.labels), value


def series_name(name: str, labels: dict[str, str]) -> str:
    """Return metric and labels as one name, as Prometheus writes them but with ``:`` for slashes, cut at its limit."""
    if labels:
        pairs = ",".join(f'{label}="{text}"' for label, text in sorted(labels.items()))
        name = f"{name}{{{pairs}}}"
    return name.replace("/", ":").replace("\0", "")[:_MOST_CHARACTERS]
