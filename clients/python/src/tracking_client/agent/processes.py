"""Reads how named processes are."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import psutil

from tracking_client.agent.host import Reading
from tracking_client.agent.rates import Rates


class Processes:
    """Processes by their names, all of a name together."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._rates = Rates()

    def read(self) -> Iterator[Reading]:
        """Read number, memory, processor time and open files; the time from the second turn on."""
        now = time.monotonic()
        found: dict[str, list[psutil.Process]] = {name: [] for name in self._names}
        for process in psutil.process_iter(["name"]) if self._names else ():
            if process.info["name"] in found:
                found[process.info["name"]].append(process)
        for name, processes in found.items():
            yield from self._read(name, processes, now)
        self._rates.end_turn()

    def _read(self, name: str, processes: list[psutil.Process], now: float) -> Iterator[Reading]:
        count = memory = files = 0
        share = 0.0
        is_known = files_are_known = True
        for process in processes:
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    memory += process.memory_info().rss
                    key = process.pid, process.create_time()
            except psutil.Error:
                continue  # it has just ended
            count += 1
            try:
                files += process.num_fds() if hasattr(process, "num_fds") else process.num_handles()
            except psutil.Error:
                files_are_known = False  # another user's
            rate = self._rates.per_second(key, times.user + times.system, now)
            is_known = is_known and rate is not None
            share += rate or 0.0
        prefix = f"process.{name.replace('/', '-')}"
        yield f"{prefix}.count", count
        yield f"{prefix}.rss_bytes", memory
        if is_known:
            yield f"{prefix}.cpu_percent", 100 * share
        if files_are_known:
            yield f"{prefix}.open_files", files
