"""What takes most of the second that ``manage.py`` needs to start, and is the same whatever the environment says."""

from importlib import import_module

for _name in (
    "cryptography.fernet", "cryptography.x509", "django.contrib.admin.decorators", "django.contrib.auth.hashers",
    "django.core.management", "django.core.servers.basehttp", "django.db.backends.postgresql.base",
    "django.db.backends.sqlite3.base", "django.db.migrations.executor", "django.test.client", "drf_spectacular.types",
    "environ", "jwcrypto.jwk", "limits.storage", "limits.strategies", "msgspec", "oauth2_provider.validators",
    "oauthlib.oauth2", "psycopg2.extras", "requests", "rest_framework.compat", "setproctitle", "urllib3", "uvloop", "yaml",
):  # fmt: skip
    import_module(_name)
