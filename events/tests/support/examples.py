"""How many examples Hypothesis tries: few in the everyday run, many in ``script/test --thorough``."""

import os

IS_THOROUGH = os.environ.get("HYPOTHESIS_PROFILE") == "thorough"


def few_of(count):
    """A tenth of what the thorough run tries, but five at least."""
    return count if IS_THOROUGH else max(count // 10, 5)
