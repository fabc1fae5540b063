"""Settings, read from the environment; docs/configuration.md lists the variables."""

import os
from pathlib import Path

from tracking_api import environment

BASE_DIR = Path(__file__).resolve().parent.parent

environment.read_file(Path(os.environ.get("ENV_FILE", BASE_DIR / ".env")))

# Where what is made once for this machine is kept: the secret key, the first credentials
LOCAL_DIR = Path(environment.text("LOCAL_DIR", str(BASE_DIR / "local")))

# Core

DEBUG = environment.boolean("DEBUG", default=False)
SECRET_KEY = environment.secret("SECRET_KEY", LOCAL_DIR / "secret_key")
ALLOWED_HOSTS = environment.hosts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = environment.origins("CSRF_TRUSTED_ORIGINS")
ROOT_URLCONF = "tracking_api.urls"
WSGI_APPLICATION = "tracking_api.wsgi.application"

INSTALLED_APPS = [
    "events",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "oauth2_provider",
    "rest_framework",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "events.middleware.BearerMiddleware",
    "events.middleware.RefuseNullMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Database

DATABASES = {"default": environment.database("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Log-in

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "oauth2_provider:list"
LOGOUT_REDIRECT_URL = "login"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

# Language and time

USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

# Static files: served by the application itself, from where the packages keep them

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# OAuth2

OAUTH2_PROVIDER = {
    "OAUTH2_SERVER_CLASS": "oauthlib.oauth2.BackendApplicationServer",  # client credentials only
    "SCOPES": {
        "read": "Read the catalogue of series",
        "write": "Track events",
        "aggregation": "Read aggregates of events",
    },
    "DEFAULT_SCOPES": ["read", "write"],
    "ACCESS_TOKEN_EXPIRE_SECONDS": environment.integer(
        "ACCESS_TOKEN_EXPIRE_SECONDS", 36_000, minimum=1, maximum=10 * 365 * 86_400
    ),
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    # RFC 9700, the current practice for OAuth2: besides what the server class leaves out anyway, tokens are taken
    # from the header only and stored as digests.
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
}

# REST framework

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["events.authentication.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["events.authentication.TokenHasScope"],
    "DEFAULT_RENDERER_CLASSES": ["events.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "events.negotiation.JSONAlways",
    "EXCEPTION_HANDLER": "events.error_handlers.api_exception_handler",
}

# Logs: what goes wrong, on standard error

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # a refused request is the client's business, and would let anyone fill the log
    "loggers": {name: {"level": "ERROR"} for name in ("django.request", "django.security", "oauth2_provider")},
}

# Limits

MAX_EVENTS = environment.integer("MAX_EVENTS", 10_000, minimum=1)
MAX_BODY_BYTES = environment.integer("MAX_BODY_BYTES", 10_000_000, minimum=1)
DATA_UPLOAD_MAX_MEMORY_SIZE = MAX_BODY_BYTES
MAX_ITEMS = environment.integer("MAX_ITEMS", 100_000, minimum=1)
RETRY_AFTER_SECONDS = environment.integer("RETRY_AFTER_SECONDS", 1, minimum=1)
IDEMPOTENCY_KEEP_HOURS = environment.integer("IDEMPOTENCY_KEEP_HOURS", 48, minimum=1)
TOKEN_CACHE_SECONDS = environment.integer("TOKEN_CACHE_SECONDS", 10, minimum=0)

# Rollups

ROLLUP_RESOLUTIONS = environment.choices("ROLLUP_RESOLUTIONS", ["minute", "hour"], ["minute", "hour"])
ROLLUP_TAIL_EVENTS = environment.integer("ROLLUP_TAIL_EVENTS", 50_000, minimum=1)
STATEMENT_TIMEOUT_SECONDS = environment.integer("STATEMENT_TIMEOUT_SECONDS", 30, minimum=1)

# Clients: how often the counts of what each sends are written down; 0 counts nothing

CLIENT_USAGE_SECONDS = environment.integer("CLIENT_USAGE_SECONDS", 5, minimum=0, maximum=3_600)

# Server: what `manage.py serve` listens on and how many take requests side by side

HOST = environment.address("HOST", "127.0.0.1")
PORT = environment.integer("PORT", 8000, minimum=1, maximum=65_535)
SERVER_WORKERS = environment.integer("SERVER_WORKERS", 2, minimum=1)
SERVER_THREADS = environment.integer("SERVER_THREADS", 8, minimum=1)
