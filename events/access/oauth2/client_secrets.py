"""Decides how clients' secrets are stored: which ones are strong, and the digest that is enough for those.

A password is short and chosen by a person, so its hash must be slow: whoever steals the hash tries what people choose.
A secret that the service makes has 128 random characters, over 700 bits. No guess is likelier than any other, so a
million rounds would slow down no attacker, but every right token request. One round of SHA-256 with a salt keeps a
random secret as safe, in microseconds. NIST SP 800-63B-4, 3.1.1.2, draws the same line: a slow hash is for secrets that
people choose.
"""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.auth.hashers import BasePasswordHasher, get_hasher, identify_hasher, mask_hash
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare
from typing_extensions import override

LEAST_CHARACTERS = 32
_LEAST_DISTINCT = 8  # of random secrets of 32 hexadecimal digits, one in 28 million has fewer


class ClientSecretHasher(BasePasswordHasher):
    """Salted SHA-256 for strong secrets; weak ones may be guessed, so they get the slow hash of passwords."""

    algorithm = "client_secret_sha256"

    @override
    def encode(self, password: str, salt: str) -> str:
        if not is_strong(password):
            return get_hasher("default").encode(password, salt)
        return f"{self.algorithm}${salt}${_digest(password, salt)}"

    @override
    def decode(self, encoded: str) -> dict[str, Any]:
        algorithm, salt, digest = encoded.split("$", 2)
        return {"algorithm": algorithm, "salt": salt, "hash": digest}

    @override
    def verify(self, password: str, encoded: str) -> bool:
        decoded = self.decode(encoded)
        return constant_time_compare(_digest(password, decoded["salt"]), decoded["hash"])

    @override
    def safe_summary(self, encoded: str) -> dict[Any, Any]:
        decoded = self.decode(encoded)
        return {**decoded, "salt": mask_hash(decoded["salt"]), "hash": mask_hash(decoded["hash"])}

    @override
    def harden_runtime(self, password: str, encoded: str) -> None:
        """Do nothing, as every stored digest of this kind takes equally long to verify."""


def is_strong(secret: str) -> bool:
    """Tell whether a secret is long, varied and not a repeated shorter text, as a random one is."""
    repeats = secret in (secret + secret)[1:-1]
    return len(secret) >= LEAST_CHARACTERS and len(set(secret)) >= _LEAST_DISTINCT and not repeats


def is_hashed(secret: str) -> bool:
    """Tell whether a text is a hash of any of PASSWORD_HASHERS, and not a secret itself."""
    try:
        identify_hasher(secret)
    except ValueError:
        return False
    return True


def refuse_weak(secret: str) -> None:
    """Raise ValidationError for a weak secret; a hash is let through, as a form sends the stored one back."""
    if not is_hashed(secret) and not is_strong(secret):
        raise ValidationError(
            f"Take a random secret of {LEAST_CHARACTERS} or more characters, such as the one that is made for you.",
            code="weak_secret",
        )


def refuse_unhashed(hashed: bool) -> None:
    """Raise ValidationError where ``hashed`` is False, which asks to store a secret in plain text."""
    if not hashed:
        raise ValidationError("Secrets are stored as digests only; leave this checked.", code="unhashed_secret")


def guard(application: Any) -> None:
    """Make every form of the toolkit's model of clients refuse weak and unhashed secrets, the admin's forms too.

    The toolkit has no setting for that, so the validators are added to the fields' default validators, which are no
    part of its migrations.
    """
    for name, validator in (("client_secret", refuse_weak), ("hash_client_secret", refuse_unhashed)):
        field = application._meta.get_field(name)
        field.default_validators = [*field.default_validators, validator]
        field.__dict__.pop("validators", None)  # Django caches them on first use


def _digest(secret: str, salt: str) -> str:
    return hashlib.sha256((salt + secret).encode()).hexdigest()
