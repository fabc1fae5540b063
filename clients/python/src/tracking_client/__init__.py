"""The client of the Tracking API: sends events in the background without losing any, and reads aggregates."""

from tracking_client.counts import Counts
from tracking_client.encoding import RefusedEvent
from tracking_client.errors import CredentialsRefused, RequestRefused, TrackingError, Unreachable
from tracking_client.reading import Aggregate, Series
from tracking_client.tracker import Tracker

__all__ = [
    "Aggregate",
    "Counts",
    "CredentialsRefused",
    "RefusedEvent",
    "RequestRefused",
    "Series",
    "Tracker",
    "TrackingError",
    "Unreachable",
]
