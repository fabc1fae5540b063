"""Gathers every table of the service where Django looks for them; each is defined in the package it belongs to."""

from events.access.models import ClientUsage, Grant, LongLivedToken
from events.alerts.models import Alert, AlertEvaluator, AlertState, AlertTarget, Delivery, Firing
from events.annotations.models import Annotation
from events.archive.models import ArchivedFile
from events.boards.models import Board
from events.ingest.models import IdempotencyKey
from events.log.models import Event, EventQuerySet, validate_path_segment
from events.rollups.models import Histogram, Pruned, Resolution, Rollup, Thinned, Watermark
from events.series.models import FormerName, SeriesSettings
from events.transfer.models import Bookmark

__all__ = [
    "Alert",
    "AlertEvaluator",
    "AlertState",
    "AlertTarget",
    "Annotation",
    "ArchivedFile",
    "Board",
    "Bookmark",
    "ClientUsage",
    "Delivery",
    "Event",
    "EventQuerySet",
    "Firing",
    "FormerName",
    "Grant",
    "Histogram",
    "IdempotencyKey",
    "LongLivedToken",
    "Pruned",
    "Resolution",
    "Rollup",
    "SeriesSettings",
    "Thinned",
    "Watermark",
    "validate_path_segment",
]
