"""The events application."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Tracks events and answers aggregates of them."""

    name = "events"
