"""Settings as ``django-admin startproject`` and the toolkit's tutorial give them."""

from tracking_api.settings import *  # noqa: F403
from tracking_api.settings import DATABASES, OAUTH2_PROVIDER

INSTALLED_APPS = [
    "benchmarks.plain",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "oauth2_provider",
    "rest_framework",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "benchmarks.plain.urls"
OAUTH2_PROVIDER = {name: value for name, value in OAUTH2_PROVIDER.items() if not name.endswith("_CLASS")}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["oauth2_provider.contrib.rest_framework.OAuth2Authentication"],
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {"timeout": 60}
else:
    DATABASES["default"]["ENGINE"] = "django.db.backends.postgresql"
