"""The pages of the admin site."""

from events.admin import alerts, events, users  # noqa: F401  # registers them
