#!/usr/bin/env python
"""Runs Django's management commands for the Tracking API."""

import gc
import os
import sys

# What is loaded stays, and looking for garbage in it again and again takes an eighth of the start.
_OBJECTS_BETWEEN_COLLECTIONS = 100_000


def main() -> None:
    """Run the management command named on the command line."""
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tracking_api.settings")
    from django.core.exceptions import ImproperlyConfigured
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"ImproperlyConfigured: {error}")


if __name__ == "__main__":
    main()
