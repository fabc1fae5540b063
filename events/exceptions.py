"""Errors of the API that REST framework has no class for."""

from django.conf import settings
from django.db import InterfaceError, OperationalError
from rest_framework import status
from rest_framework.exceptions import APIException

# What the database raises while it can't be reached, is locked, or is out of room; the next attempt may succeed.
DATABASE_AWAY = (OperationalError, InterfaceError)


class RequestTooLarge(APIException):
    """413: more than a limit allows; the detail names the limit."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_code = "too_large"


class ServiceUnavailable(APIException):
    """503 with ``Retry-After``: nothing of the request was stored, and the client may send it again."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "The database can't be reached or is busy. Nothing was stored; try again."

    def __init__(self) -> None:
        super().__init__()
        self.wait = settings.RETRY_AFTER_SECONDS  # REST framework turns it into Retry-After
