"""Owns the base of the tables that fixtures don't fill."""

from __future__ import annotations

from typing import Any

from django.db import models
from typing_extensions import override


class NotFromFixtures(models.Model):
    """A table whose rows ``loaddata`` leaves out.

    They hold only where they were made: the roller makes those of rollups anew, from the fixture's events.
    """

    class Meta:
        abstract = True

    # Fixtures don't call save(), but they call this.
    @override
    def _save_table(self, raw: bool = False, *args: Any, **kwargs: Any) -> bool:  # type: ignore[misc]  # not in the stubs
        return not raw and super()._save_table(raw, *args, **kwargs)  # type: ignore[misc]
