"""The admin site's pages."""

from events.admin import events  # noqa: F401  # registers them
