"""Names the system checks that this app's commands run before they begin.

To run all would load every view, the admin's pages and the description of the API, which takes a third of the time of a
short command, and 20 MB of the worker's memory. ``manage.py check`` and ``manage.py serve`` run them all.
"""

from django.core.checks import Tags

OWN_CHECKS = (Tags.database, Tags.security, "time_zones")
ARCHIVE_CHECKS = (*OWN_CHECKS, "archive")
