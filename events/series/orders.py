"""Owns the words for the orders of the overview."""

ORDERS = ("name", "count", "lastTimestamp", "lastValue", "changePercent", "unit", "description")
