"""Time zone files (RFC 8536) as tests write and read them, and answers by their rules from plain Python."""

import struct
from datetime import UTC, datetime, timedelta
from importlib import resources
from itertools import pairwise

BEFORE, AFTER = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
CLOCK_UNITS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}


def write(directory, name, changes):
    """Write the file of a zone that keeps to the offset of each change, in seconds, from its instant on."""
    offsets = [offset for _, offset in changes]
    instants = [int(instant.timestamp()) for instant, _ in changes[1:]]
    types = b"".join(struct.pack(">lBB", offset, 0, 0) for offset in offsets)
    tail = bytes(range(1, len(offsets))) + types + b"ODD\0"

    def header(count):
        return b"TZif2" + bytes(15) + struct.pack(">6l", 0, 0, 0, count, len(offsets), 4)

    hours, rest = divmod(abs(offsets[-1]), 3600)
    rule = f"<ODD>{'-' if offsets[-1] > 0 else ''}{hours}:{rest // 60:02}:{rest % 60:02}"
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = header(0) + types + b"ODD\0" + header(len(instants)) + struct.pack(f">{len(instants)}q", *instants) + tail
    path.write_bytes(data + f"\n{rule}\n".encode())


def read(name):
    """The changes of a zone by the package's file, as ``write`` takes them; not those that only its rule tells."""
    data = resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
    for is_second in (False, True):  # the first half is for readers of 32 bits
        utc, standard, leaps, count, types, characters = struct.unpack(">6l", data[20:44])
        size = 8 if is_second else 4
        numbers, position = struct.unpack(f">{count}{'q' if is_second else 'l'}", data[44 : 44 + count * size]), 44
        position += count * size
        kinds, position = data[position : position + count], position + count
        offsets = [struct.unpack(">l", data[position + 6 * kind :][:4])[0] for kind in range(types)]
        data = data[position + types * 6 + characters + leaps * (size + 4) + standard + utc :]
    changes = [(BEFORE, offsets[0])]
    for number, kind in zip(numbers, kinds, strict=True):
        if offsets[kind] != changes[-1][1]:
            changes.append((datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=number), offsets[kind]))
    return changes


class Oracle:
    """What a zone's changes say of the buckets of events, without any of the service's code."""

    def __init__(self, changes, granularity):
        self.granularity = granularity
        ends = [*(instant for instant, _ in changes[1:]), AFTER]
        self.runs = [(a, b, timedelta(seconds=offset)) for (a, offset), b in zip(changes, ends, strict=True)]

    def unit(self, local):
        """Where the calendar's unit of a local time starts, and where it ends."""
        if self.granularity in CLOCK_UNITS:
            start = local.replace(second=0, microsecond=0)
            start = start if self.granularity == "minute" else start.replace(minute=0)
            return start, start + CLOCK_UNITS[self.granularity]
        day = local.replace(hour=0, minute=0, second=0, microsecond=0)
        if self.granularity == "day":
            return day, day + timedelta(days=1)
        if self.granularity == "week":
            monday = day - timedelta(days=day.isoweekday() - 1)
            return monday, monday + timedelta(days=7)
        start = day.replace(day=1, month=day.month if self.granularity == "month" else 1)
        return start, (start + timedelta(days=31 if self.granularity == "month" else 366)).replace(day=1)

    def key(self, instant):
        """The bucket of an instant: its unit, and of minutes and hours also the run that it lies in."""
        number, offset = next((i, offset) for i, (a, b, offset) in enumerate(self.runs) if a <= instant < b)
        return self.unit((instant + offset).replace(tzinfo=None))[0], number if self.granularity in CLOCK_UNITS else -1

    def start(self, key):
        """The first instant of a bucket."""
        unit, number = key
        unit = unit.replace(tzinfo=UTC)
        runs = [self.runs[number]] if number >= 0 else self.runs
        return next(max(a, unit - offset) for a, b, offset in runs if unit - offset < b)

    def keys(self, first, last):
        """Every bucket with an instant between two, both included, in order of their starts."""
        found = set()
        for a, b, offset in self.runs:
            start, end = max(a, first), min(b - timedelta(microseconds=1), last)
            local = (start + offset).replace(tzinfo=None)
            while start <= end and local <= (end + offset).replace(tzinfo=None):
                found.add(self.key(local.replace(tzinfo=UTC) - offset))
                local = self.unit(local)[1]
        return sorted(found, key=self.start)

    def items(self, events, first, last, fill="none", label="first"):
        """The buckets' sums, as ``(aggregatedTimestamp, value)``."""
        grouped = {}
        for instant, value in sorted(events):
            if first <= instant <= last:
                grouped.setdefault(self.key(instant), []).append((instant, value))
        empty, items = 0.0 if fill == "zero" else None, []
        before = [(self.key(instant), value) for instant, value in sorted(events) if instant < first]
        if fill == "previous" and before:
            empty = sum(value for key, value in before if key == before[-1][0])
        for key in sorted(grouped, key=self.start) if fill == "none" else self.keys(first, last):
            start = self.start(key)
            if key in grouped:
                timestamp, value = grouped[key][0][0], sum(value for _, value in grouped[key])
                empty = value if fill == "previous" else empty
            else:
                timestamp, value = start, empty
            items.append((start if label == "bucket" else timestamp, value))
        return [(at.isoformat().replace("+00:00", "Z"), value) for at, value in sorted(items, key=lambda item: item[0])]


def gaps(changes):
    """How long each offset but the first and the last was kept."""
    return [after - before for before, after in pairwise([instant for instant, _ in changes[1:]])]
