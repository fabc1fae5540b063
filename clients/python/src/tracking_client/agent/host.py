"""Reads the health of this host."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import psutil

from tracking_client.agent.rates import Rates

Reading = tuple[str, float]


class Host:
    """Processors, memory, disks, network and processes of this host."""

    def __init__(self) -> None:
        self._rates = Rates()

    def read(self) -> Iterator[Reading]:
        """Read each name with its value; what is by the second or in percent of time from the second turn on."""
        now = time.monotonic()
        try:
            yield from self._read_processors(now)
            yield from self._read_memory(now)
            yield from self._read_disks(now)
            yield from self._read_network(now)
            yield "processes.count", len(psutil.pids())
            yield "uptime.seconds", time.time() - psutil.boot_time()
            yield from self._read_temperatures()
        finally:
            self._rates.end_turn()

    def _read_processors(self, now: float) -> Iterator[Reading]:
        count = psutil.cpu_count() or 1
        times = psutil.cpu_times()._asdict()
        shares: dict[str, float] = {}
        for state, seconds in times.items():
            share = self._rates.per_second(("cpu", state), seconds, now)
            if share is not None:
                shares[state] = min(100 * share / count, 100.0)
        if len(shares) == len(times):
            yield "cpu.percent", max(100.0 - shares["idle"] - shares.get("iowait", 0.0), 0.0)
        for state, share in shares.items():
            yield f"cpu.{state}_percent", share
        for minutes, load in zip((1, 5, 15), os.getloadavg(), strict=True):
            yield f"load.{minutes}m", load

    def _read_memory(self, now: float) -> Iterator[Reading]:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        yield "memory.total_bytes", memory.total
        yield "memory.available_bytes", memory.available
        yield "memory.used_bytes", memory.used
        yield "memory.percent", memory.percent
        yield "swap.used_bytes", swap.used
        yield "swap.percent", swap.percent
        yield from self._per_second("swap.in_bytes", swap.sin, now)
        yield from self._per_second("swap.out_bytes", swap.sout, now)

    def _read_disks(self, now: float) -> Iterator[Reading]:
        counters = psutil.disk_io_counters(perdisk=True) or {}
        seen: set[str] = set()
        for partition in psutil.disk_partitions():
            if partition.mountpoint in seen or not os.path.isdir(partition.mountpoint):
                continue  # mounted twice, or a file, as containers have some
            seen.add(partition.mountpoint)
            name = f"disk.{mount_name(partition.mountpoint)}"
            try:
                usage = psutil.disk_usage(partition.mountpoint)
            except OSError:
                continue  # taken out, or not for us to see
            yield f"{name}.used_bytes", usage.used
            yield f"{name}.free_bytes", usage.free
            yield f"{name}.percent", usage.percent
            device = os.path.basename(os.path.realpath(partition.device))  # /dev/mapper/… is a link to /dev/dm-0
            if device in counters:
                yield from self._per_second(f"{name}.read_bytes", counters[device].read_bytes, now)
                yield from self._per_second(f"{name}.written_bytes", counters[device].write_bytes, now)

    def _read_network(self, now: float) -> Iterator[Reading]:
        for interface, counters in psutil.net_io_counters(pernic=True).items():
            name = f"network.{mount_name(interface)}"
            yield from self._per_second(f"{name}.received_bytes", counters.bytes_recv, now)
            yield from self._per_second(f"{name}.sent_bytes", counters.bytes_sent, now)
            yield from self._per_second(f"{name}.errors", counters.errin + counters.errout, now)
            yield from self._per_second(f"{name}.dropped", counters.dropin + counters.dropout, now)

    def _read_temperatures(self) -> Iterator[Reading]:
        # there is no such function on systems that have no word for it
        sensors: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
        for chip, found in sensors.items():
            for number, sensor in enumerate(found, 1):
                label = mount_name(sensor.label or str(number)).replace(" ", "_")
                yield f"temperature.{mount_name(chip)}.{label}_celsius", sensor.current

    def _per_second(self, name: str, value: float, now: float) -> Iterator[Reading]:
        rate = self._rates.per_second(name, value, now)
        if rate is not None:
            yield f"{name}_per_second", rate


def mount_name(path: str) -> str:
    """Return what a mount, an interface or a sensor is called in a name, where no slash may be: ``/`` is ``root``."""
    return path.strip("/").replace("/", "-") or "root"
