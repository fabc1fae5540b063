"""Where programs find the service, and what it was sent by them."""

import os
import re

from events.tests.clients.conftest import credentials
from events.tests.support import service


def keys_of(way):
    return [re.search(r"idempotency-key: (\S+)", head, re.IGNORECASE)[1] for head in way.requests]


def client_url(env):
    return f"http://127.0.0.1:{env['PORT']}"


def client_environment(env, **variables):
    client_id, client_secret = credentials(env)
    return {
        **os.environ, "PYTHONPATH": str(service.PROJECT_DIR / "clients/python/src"), "TRACKING_URL": client_url(env),
        "TRACKING_CLIENT_ID": client_id, "TRACKING_CLIENT_SECRET": client_secret, **variables,
    }  # fmt: skip
