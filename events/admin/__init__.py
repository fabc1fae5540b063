"""The pages of the admin site."""

from events.admin import alerts, events  # noqa: F401  # registers them
