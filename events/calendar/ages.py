"""Ages, as settings and commands name them: 90d, 36h."""

import re
from datetime import timedelta


def age(value: str) -> timedelta:
    """Read a whole number of days or hours, such as 90d or 36h. Raises ValueError."""
    match = re.fullmatch(r"([0-9]{1,6})([dh])", value)
    if not match:
        raise ValueError("Must be a number of days or hours, such as 90d or 36h.")
    return timedelta(**{{"d": "days", "h": "hours"}[match[2]]: int(match[1])})
