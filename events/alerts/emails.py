"""Sends a delivery by e-mail, over the mail server that EMAIL_URL names."""

from __future__ import annotations

from smtplib import SMTPException

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import BadHeaderError, EmailMessage
from django.core.validators import validate_email

from events.alerts.webhooks import Outcome

_MOST_ADDRESSES = 20


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
    except (SMTPException, BadHeaderError, OSError, UnicodeError) as error:
        return Outcome(False, f"The mail server didn't take it ({type(error).__name__}).")
    return Outcome(bool(sent), "Given to the mail server." if sent else "It has no recipients.")
