"""The pages of the admin site."""

from events.admin import events  # noqa: F401  # registers them
