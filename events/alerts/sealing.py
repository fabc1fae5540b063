"""Seals the URLs and secrets of webhooks before they are stored, by a key that is made of SECRET_KEY.

They can't be digests, as a secret is needed to sign, and the path of a URL to send. Whoever has the database alone, or
a backup of it, can't read them (Fernet: AES-128-CBC and HMAC-SHA256, https://cryptography.io/en/latest/fernet/).
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from functools import lru_cache
from urllib.parse import urlsplit

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

_PURPOSE = b"secrets of alert targets"


class Unreadable(Exception):
    """What is stored was sealed by another SECRET_KEY."""

    def __init__(self) -> None:
        super().__init__("Its URL or secret was sealed by another SECRET_KEY: enter it again.")


def sealed(text: str) -> str:
    """Seal a text; an empty one stays empty."""
    return _fernets(_keys()).encrypt(text.encode()).decode() if text else ""


def opened(text: str) -> str:
    """Return the text that was sealed. Raises Unreadable."""
    if not text:
        return ""
    try:
        return _fernets(_keys()).decrypt(text.encode()).decode()
    except InvalidToken:
        raise Unreadable from None


def shown(url: str) -> str:
    """Return what may be shown of a URL: its scheme and host, but not its path, which may be a secret."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/…"[:300]


def _keys() -> tuple[str, ...]:
    return settings.SECRET_KEY, *map(str, settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=4)
def _fernets(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(urlsafe_b64encode(_derived(key))) for key in keys])


def _derived(key: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=_PURPOSE).derive(key.encode())
