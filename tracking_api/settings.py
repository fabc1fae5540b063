"""Django's settings, read from the environment; docs/configuration.md lists the variables."""

import tomllib
import zoneinfo
from pathlib import Path

from django.conf import global_settings

from tracking_api import environment

BASE_DIR = Path(__file__).resolve().parent.parent

environment.read_file(environment.env_file(BASE_DIR / ".env"))

# This directory keeps what is made once for this machine: the secret key, the first credentials
LOCAL_DIR = Path(environment.text("LOCAL_DIR", str(BASE_DIR / "local")))
# The version is read from the file, as there is no package metadata: the project is not installed
VERSION: str = tomllib.loads((BASE_DIR / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]

# Core

DEBUG = environment.boolean("DEBUG", default=False)
SECRET_KEY = environment.secret("SECRET_KEY", LOCAL_DIR / "secret_key")
ALLOWED_HOSTS = environment.hosts("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
CSRF_TRUSTED_ORIGINS = environment.origins("CSRF_TRUSTED_ORIGINS")
CORS_ALLOWED_ORIGINS = environment.origins("CORS_ALLOWED_ORIGINS")
ROOT_URLCONF = "tracking_api.urls"
WSGI_APPLICATION = "tracking_api.wsgi.application"

# HTTPS is spoken by a proxy before the service, which must set X-Forwarded-Proto, whatever its client sent

HTTPS = environment.boolean("HTTPS", default=False)
SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if HTTPS else None
SECURE_HSTS_SECONDS = 365 * 86_400 if HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = HTTPS
# The check wants HSTS preloading, which the owner of a whole domain decides on, not one service in it.
SILENCED_SYSTEM_CHECKS = ["security.W021"]

INSTALLED_APPS = [
    "events",
    "tracking_api",  # has the command that starts the server
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "oauth2_provider",
    "rest_framework",
    "corsheaders",
    "drf_spectacular",
    "drf_spectacular_sidecar",
]

MIDDLEWARE = [
    # first, so that its header fields are on every answer of the API; left out where no other page may call the API
    *(["corsheaders.middleware.CorsMiddleware"] if CORS_ALLOWED_ORIGINS else []),
    "events.http.middleware.ProbeMiddleware",
    "events.http.compression.CompressionMiddleware",
    "events.http.fast_path.middleware.BearerMiddleware",
    "events.http.middleware.ExplainMethodMiddleware",
    "events.http.middleware.OwnContentMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "events.http.middleware.RefuseNullMiddleware",
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

DATABASE_TIMEOUT_SECONDS = environment.integer("DATABASE_TIMEOUT_SECONDS", 5, minimum=1, maximum=3600)
DATABASES = {
    "default": environment.database(
        "DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}", timeout_seconds=DATABASE_TIMEOUT_SECONDS
    )
}
# a standby of that PostgreSQL, for readers who take what it has
_replica = environment.replica("DATABASE_REPLICA_URL", DATABASES["default"], timeout_seconds=DATABASE_TIMEOUT_SECONDS)
if _replica:
    DATABASES["replica"] = _replica
    DATABASE_ROUTERS = ["events.database.reading.ReplicaRouter"]
READ_REPLICA_MAX_LAG_SECONDS = environment.integer("READ_REPLICA_MAX_LAG_SECONDS", 10, minimum=1)
# on a cluster, by the user and the password of DATABASE_URL
WRITE_TO_OWNING_NODE = environment.boolean("WRITE_TO_OWNING_NODE", default=False)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Log-in

LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "dashboard"
LOGOUT_REDIRECT_URL = "login"
SESSION_ENGINE = "events.access.sessions"
MAX_LOGIN_FAILURES = environment.integer("MAX_LOGIN_FAILURES", 10, minimum=0)
LOGIN_FAILURE_SECONDS = environment.integer("LOGIN_FAILURE_SECONDS", 300, minimum=1)
TRUSTED_PROXIES = environment.networks("TRUSTED_PROXIES")
# the last one is for clients' secrets only, as OAUTH2_PROVIDER says
PASSWORD_HASHERS = [*global_settings.PASSWORD_HASHERS, "events.access.oauth2.client_secrets.ClientSecretHasher"]
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
# Zones follow the package tzdata, not the machine's files, so that all processes have the same rules
zoneinfo.reset_tzpath(to=())
zoneinfo.ZoneInfo.clear_cache()

# Static files are served by the application itself, from the packages' directories

STATIC_URL = "static/"
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# OAuth2

# these two are the defaults, but the toolkit's migrations need them to be set
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth2_provider.Application"
OAUTH2_PROVIDER_ACCESS_TOKEN_MODEL = "oauth2_provider.AccessToken"  # noqa: S105
OAUTH2_PROVIDER = {
    "OAUTH2_SERVER_CLASS": "events.access.oauth2.server.ClientCredentialsServer",
    "OAUTH2_VALIDATOR_CLASS": "events.access.oauth2.server.ClientValidator",
    "OAUTH2_BACKEND_CLASS": "events.access.oauth2.server.KnownParameters",
    "CLIENT_SECRET_HASHER": "client_secret_sha256",
    "SCOPES": {
        "read": "Read the catalogue of series",
        "write": "Track events",
        "aggregation": "Read aggregates of events",
    },
    "DEFAULT_SCOPES": ["read", "write"],
    "SCOPES_BACKEND_CLASS": "events.access.oauth2.server.GrantedScopes",
    "APPLICATION_ADMIN_CLASS": "events.admin.clients.ClientAdmin",
    "ACCESS_TOKEN_ADMIN_CLASS": "events.admin.tokens.TokenAdmin",
    # what belongs to flows that the server class doesn't have
    **dict.fromkeys(
        ["GRANT_ADMIN_CLASS", "ID_TOKEN_ADMIN_CLASS", "REFRESH_TOKEN_ADMIN_CLASS"], "events.admin.clients.UnlistedAdmin"
    ),
    "ACCESS_TOKEN_EXPIRE_SECONDS": environment.integer(
        "ACCESS_TOKEN_EXPIRE_SECONDS", 36_000, minimum=1, maximum=10 * 365 * 86_400
    ),
    # there are no refresh tokens, but `cleartokens` reads this setting
    "REFRESH_TOKEN_EXPIRE_SECONDS": 86_400,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "ALLOWED_REDIRECT_URI_SCHEMES": ["https"],
    # RFC 9700, the best current practice for OAuth2: tokens are taken from the header only and stored as digests. The
    # other rules are about flows that the server class doesn't have.
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_REDIRECT_URI_SCHEME": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
}

# REST framework

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["events.access.tokens.BearerAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["events.access.tokens.TokenHasScope"],
    "DEFAULT_THROTTLE_CLASSES": ["events.access.rate_limits.RequestThrottle"],
    "DEFAULT_RENDERER_CLASSES": ["events.http.renderers.JSONRenderer"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "events.http.negotiation.JSONAlways",
    "EXCEPTION_HANDLER": "events.http.error_handlers.api_exception_handler",
    "DEFAULT_SCHEMA_CLASS": "events.openapi.generator.Description",
}

# The description of the API, at /api/schema/ and /api/docs/

SPECTACULAR_SETTINGS = {
    "OAS_VERSION": "3.1.0",
    "TITLE": "Tracking API",
    "VERSION": VERSION,
    "DESCRIPTION": "Collects events from applications and servers, and answers aggregates of them over time.",
    "SERVERS": [{"url": "/", "description": "Where this is from. Every path works with and without its last slash."}],
    "TAGS": [
        {"name": "Events", "description": "Events in, and aggregates of them out."},
        {"name": "Annotations", "description": "What happened: deployments, incidents."},
        {"name": "Boards", "description": "What those may ask who have a board's public link."},
    ],
    "PREPROCESSING_HOOKS": ["events.openapi.generator.without_slash"],
    "POSTPROCESSING_HOOKS": ["events.openapi.generator.add_components"],
    "SORT_OPERATIONS": False,
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "SORT_OPERATION_PARAMETERS": "events.openapi.generator.path_first",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    # served by this machine, as pages here load nothing from elsewhere
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "SWAGGER_UI_OAUTH2_CONFIG": {"scopes": ["read", "write", "aggregation"]},
}

# Pages of other origins may call the API and nothing else, with tokens and never with cookies

CORS_URLS_REGEX = r"^/api/"
CORS_ALLOW_CREDENTIALS = False
CORS_ALLOW_METHODS = ["GET", "POST", "PATCH", "DELETE"]
CORS_ALLOW_HEADERS = [
    "authorization", "content-type", "content-encoding", "idempotency-key", "if-none-match", "tracking-read",
    "x-request-id",
]  # fmt: skip
# Pages of these origins may embed boards that are public by a link
BOARD_FRAME_ANCESTORS = environment.origins("BOARD_FRAME_ANCESTORS")
CORS_EXPOSE_HEADERS = [
    "Allow", "ETag", "Link", "Retry-After", "RateLimit", "RateLimit-Policy", "Tracking-Accuracy", "Tracking-Read",
    "WWW-Authenticate", "X-Request-ID",
]  # fmt: skip

# Logs on standard error: what goes wrong, and a line for each request

LOG_FORMAT = environment.choice("LOG_FORMAT", "text", ["text", "json"])
REQUEST_LOG = environment.boolean("REQUEST_LOG", default=True)
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "text": {"()": "events.observability.log_lines.LineFormatter"},
        "json": {"()": "events.observability.log_lines.JSONFormatter"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": LOG_FORMAT}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    # warnings are left out, as anyone could fill the log with refused requests
    "loggers": {name: {"level": "ERROR"} for name in ("django.request", "oauth2_provider")}
    # Django logs as an error, with a traceback, what any client can send: an unknown Host, too many parameters
    | {"django.security": {"level": "CRITICAL"}},
}

# Health and metrics

READY_LAG_SECONDS = environment.integer("READY_LAG_SECONDS", 300, minimum=0)
METRICS_TOKEN = environment.token("METRICS_TOKEN")

# Alerts: where they may be sent, how long what was sent is kept, and by which server e-mails go

SERVICE_URL = environment.origin("SERVICE_URL")
ALERT_PRIVATE_TARGETS = environment.boolean("ALERT_PRIVATE_TARGETS", default=False)
ALERT_KEEP_DAYS = environment.integer("ALERT_KEEP_DAYS", 90, minimum=1, maximum=36_500)
globals().update(environment.email("EMAIL_URL"))
EMAIL_BACKEND = "events.alerts.emails.Backend"
DEFAULT_FROM_EMAIL = environment.text("DEFAULT_FROM_EMAIL", "tracking-api@localhost")

# Limits

MAX_EVENTS = environment.integer("MAX_EVENTS", 10_000, minimum=1)
MAX_BODY_BYTES = environment.integer("MAX_BODY_BYTES", 10_000_000, minimum=1)
# for bodies outside the API, which are forms that people fill in
MAX_FORM_BYTES = DATA_UPLOAD_MAX_MEMORY_SIZE = environment.integer("MAX_FORM_BYTES", 65_536, minimum=1_024)
MAX_ITEMS = environment.integer("MAX_ITEMS", 100_000, minimum=1)
MAX_STREAM_ITEMS = environment.integer("MAX_STREAM_ITEMS", 5_000_000, minimum=1)
PERCENTILE_EVENTS = environment.integer("PERCENTILE_EVENTS", 2_000_000, minimum=1)
MAX_SERIES = environment.integer("MAX_SERIES", 10_000, minimum=1)
RETRY_AFTER_SECONDS = environment.integer("RETRY_AFTER_SECONDS", 1, minimum=1)
IDEMPOTENCY_KEEP_HOURS = environment.integer("IDEMPOTENCY_KEEP_HOURS", 48, minimum=1)
TOKEN_CACHE_SECONDS = environment.integer("TOKEN_CACHE_SECONDS", 10, minimum=0)

# Rate limits: what a client may send a minute and start a day, 0 for no limit, and where that is counted

RATE_LIMIT_REQUESTS = environment.integer("RATE_LIMIT_REQUESTS", 0, minimum=0)
RATE_LIMIT_EVENTS = environment.integer("RATE_LIMIT_EVENTS", 0, minimum=0)
RATE_LIMIT_NEW_SERIES = environment.integer("RATE_LIMIT_NEW_SERIES", 0, minimum=0)
RATE_LIMIT_TOKENS = environment.integer("RATE_LIMIT_TOKENS", 60, minimum=0)
# questions a minute of a board's public link, of all who have it together
RATE_LIMIT_BOARD_LINKS = environment.integer("RATE_LIMIT_BOARD_LINKS", 1_200, minimum=0)
CACHE_URL = environment.cache("CACHE_URL", "memory://")

# Rollups

ROLLUP_RESOLUTIONS = environment.choices("ROLLUP_RESOLUTIONS", ["minute", "hour"], ["minute", "hour"])
# whether minutes are kept of old hours, too, in which a series has few events for each of them
ROLLUP_SPARSE_MINUTES = environment.boolean("ROLLUP_SPARSE_MINUTES", default=False)
ROLLUP_TAIL_EVENTS = environment.integer("ROLLUP_TAIL_EVENTS", 50_000, minimum=1)
ROLLUP_HISTOGRAMS = environment.namespaces("ROLLUP_HISTOGRAMS")
RETENTION = environment.retention("RETENTION")
RETENTION_MAY_DELETE_MOST = environment.boolean("RETENTION_MAY_DELETE_MOST", default=False)
ARCHIVE = environment.archive("ARCHIVE")
STATEMENT_TIMEOUT_SECONDS = environment.integer("STATEMENT_TIMEOUT_SECONDS", 30, minimum=1)

# Clients: every so many seconds, the counts of what each one sends are written down; 0 counts nothing

CLIENT_USAGE_SECONDS = environment.integer("CLIENT_USAGE_SECONDS", 5, minimum=0, maximum=3_600)

# Server: where `manage.py serve` listens, how many requests it answers at a time, and what a client may hold up

HOST = environment.address("HOST", "127.0.0.1")
PORT = environment.integer("PORT", 8000, minimum=1, maximum=65_535)
SERVER_WORKERS = environment.integer("SERVER_WORKERS", 2, minimum=1)
SERVER_THREADS = environment.integer("SERVER_THREADS", 8, minimum=1, maximum=1_000)
SERVER_STREAMS = environment.integer("SERVER_STREAMS", 4, minimum=1, maximum=1_000)
STREAM_SECONDS = environment.integer("STREAM_SECONDS", 120, minimum=1)
STREAM_BYTES = environment.integer("STREAM_BYTES", 1_000_000_000, minimum=1)
HEADER_SECONDS = environment.integer("HEADER_SECONDS", 10, minimum=1)
BODY_SECONDS = environment.integer("BODY_SECONDS", 60, minimum=1)
IDLE_SECONDS = environment.integer("IDLE_SECONDS", 75, minimum=1)
MAX_HEADER_BYTES = environment.integer("MAX_HEADER_BYTES", 16_384, minimum=1_024, maximum=1_048_576)
MAX_CONNECTIONS = environment.integer("MAX_CONNECTIONS", 10_000, minimum=1)
MAX_CONNECTIONS_PER_ADDRESS = environment.integer("MAX_CONNECTIONS_PER_ADDRESS", 256, minimum=0)
# When the server is told to stop, requests that came may take so long to be answered
STOP_SECONDS = 8
