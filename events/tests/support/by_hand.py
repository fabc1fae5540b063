"""Answers as Python computes them from all events, by nothing of the service."""

from datetime import UTC, timedelta
from fractions import Fraction

# with clocks that are changed by an hour, by half of one and, once, by odd seconds; and with offsets that are no whole hours
ZONES = ["UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Monrovia"]
REDUCE = {
    "avg": lambda values: float(sum(map(Fraction, values)) / len(values)),
    "sum": lambda values: float(sum(map(Fraction, values))),
    "count": len,
    "min": min,
    "max": max,
}


def answer_by_hand(events, kind="avg", granularity="none", zone=UTC, ts_min=None, ts_max=None):
    """The items of the answer; ``events`` are pairs of timestamp and value, in any order."""
    buckets = {}
    for timestamp, value in sorted(events):
        if (ts_min or timestamp) <= timestamp <= (ts_max or timestamp):
            buckets.setdefault(_key(timestamp, granularity, zone), []).append((timestamp, value))
    return [
        {
            "aggregatedTimestamp": bucket[0][0].isoformat().replace("+00:00", "Z"),
            "value": REDUCE[kind]([value for _, value in bucket]),
        }
        for bucket in buckets.values()
    ]


def _key(instant, granularity, zone):
    local = instant.astimezone(zone)
    day = local.date()
    return {
        "minute": (day, local.hour, local.minute, local.utcoffset()),
        "hour": (day, local.hour, local.utcoffset()),
        "day": day,
        "week": day - timedelta(days=day.weekday()),
        "month": (day.year, day.month),
        "year": day.year,
        "none": instant,
    }[granularity]
