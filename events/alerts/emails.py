"""Sends a delivery by e-mail, over the mail server that EMAIL_URL names."""

from __future__ import annotations

from smtplib import SMTP, SMTP_SSL, SMTPException, SMTPResponseException
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import BadHeaderError, EmailMessage
from django.core.mail.backends.smtp import EmailBackend
from django.core.validators import validate_email
from typing_extensions import override

from events.alerts.webhooks import Outcome

_MOST_ADDRESSES = 20


class PartlyRefused(Exception):
    """The mail server took a message for some of its recipients; ``args`` are the others."""


class _Telling(SMTP):
    @override
    def sendmail(self, *args: Any, **options: Any) -> dict[str, tuple[int, bytes]]:
        if refused := super().sendmail(*args, **options):
            raise PartlyRefused(*refused)
        return {}


class _TellingOverTLS(_Telling, SMTP_SSL):
    pass


class Backend(EmailBackend):
    """Django's own way to send e-mails, but it tells of recipients that the mail server refuses among others."""

    @property
    @override
    def connection_class(self) -> type[SMTP]:
        """The class of the connection to the mail server."""
        return _TellingOverTLS if self.use_ssl else _Telling


def addresses_in(text: str) -> list[str]:
    """List the addresses in a text, one a line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def validate_addresses(text: str) -> None:
    """Refuse what is no list of e-mail addresses. Raises Django's ValidationError."""
    addresses = addresses_in(text)
    if len(addresses) > _MOST_ADDRESSES:
        raise ValidationError(f"No more than {_MOST_ADDRESSES} addresses.", code="max_addresses")
    for address in addresses:
        validate_email(address)


def send(addresses: str, delivery_id: str, subject: str, body: str) -> Outcome:
    """Send one e-mail to all addresses. Its Message-ID is made of the delivery's id, so a repeat is recognised."""
    if not settings.EMAIL_HOST:
        return Outcome(False, "EMAIL_URL is not set.")
    domain = settings.DEFAULT_FROM_EMAIL.rpartition("@")[2].strip("> ") or "localhost"
    headers = {"Message-ID": f"<{delivery_id}@{domain}>", "Auto-Submitted": "auto-generated"}
    message = EmailMessage(subject, body, to=addresses_in(addresses), headers=headers)
    try:
        sent = message.send()
    except PartlyRefused as error:  # to send it again would be a repeat for all others
        return Outcome(True, f"Given to the mail server, which refused {', '.join(map(str, error.args))}.")
    except SMTPResponseException as error:
        return Outcome(False, f"The mail server didn't take it ({type(error).__name__}, {error.smtp_code}).")
    except (SMTPException, BadHeaderError, OSError, UnicodeError) as error:
        return Outcome(False, f"The mail server didn't take it ({type(error).__name__}).")
    return Outcome(bool(sent), "Given to the mail server." if sent else "It has no recipients.")
