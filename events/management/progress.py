"""Shows how far a long command has come."""

from __future__ import annotations

from typing import Any, NoReturn, TypeAlias

from tqdm import tqdm

# A bar starts a thread that redraws bars which stand still. At the end of a process, Python may crash over it.
tqdm.monitor_interval = 0

Bar: TypeAlias = "tqdm[NoReturn]"


def progress_bar(total: float | None = None, unit: str = " events", **options: Any) -> Bar:
    """Make a bar that is shown for a run of more than a second, and only on a terminal."""
    return tqdm(total=total, unit=unit, delay=1, disable=None, dynamic_ncols=True, **options)
