"""The service's settings for tests: apart from any .env, on SQLite or the server that TEST_DATABASE_URL names."""

import os

os.environ["ENV_FILE"] = os.devnull
os.environ["DATABASE_URL"] = os.environ.get("TEST_DATABASE_URL") or "sqlite:///test.sqlite3"

from tracking_api.settings import *  # noqa: F403
from tracking_api.settings import REST_FRAMEWORK

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.MD5PasswordHasher",
    "events.access.oauth2.client_secrets.ClientSecretHasher",
]
CLIENT_USAGE_SECONDS = 0  # no thread of its own
REST_FRAMEWORK["TEST_REQUEST_DEFAULT_FORMAT"] = "json"
# nothing is rolled up in the background: ids go on from one test to the next, and so seem many
ROLLUP_TAIL_EVENTS = 1_000_000_000
