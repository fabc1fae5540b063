"""How clients' secrets are kept: which are strong enough, and the digest that suits those.

A password is short and chosen by a person, so its hash has to be slow: who gets hold of it tries what people choose. A
secret that the service makes has 128 random characters, over 700 bits: there is nothing to try that would be likelier
than anything else, and a million rounds would only make each right token request cost what they are meant to cost an
attacker. One round of SHA-256 with a salt keeps such a secret as well, in microseconds (NIST SP 800-63B-4, 3.1.1.2,
draws the same line: a slow hash is for what is chosen by people).
"""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.auth.hashers import BasePasswordHasher, get_hasher, identify_hasher, mask_hash
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare
from typing_extensions import override

LEAST_CHARACTERS = 32
_LEAST_DISTINCT = 8  # of 32 random hexadecimal digits, one in 28 million has fewer


class ClientSecretHasher(BasePasswordHasher):
    """Salted SHA-256 for strong secrets; what is weak gets the slow hash of passwords, as it may be guessed."""

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
        """Do nothing: no stored digest of this kind takes longer than another."""


def is_strong(secret: str) -> bool:
    """Tell whether a secret is long, varied and no repetition of a shorter text, as random ones are."""
    repeats = secret in (secret + secret)[1:-1]
    return len(secret) >= LEAST_CHARACTERS and len(set(secret)) >= _LEAST_DISTINCT and not repeats


def is_hashed(secret: str) -> bool:
    """Tell whether a text is a hash of any kind that is known here, and no secret itself."""
    try:
        identify_hasher(secret)
    except ValueError:
        return False
    return True


def refuse_weak(secret: str) -> None:
    """Raise ValidationError for a secret that may be guessed; a hash, which a form sends back, is let through."""
    if not is_hashed(secret) and not is_strong(secret):
        raise ValidationError(
            f"Take a random secret of {LEAST_CHARACTERS} or more characters, such as the one that is made for you.",
            code="weak_secret",
        )


def refuse_unhashed(hashed: bool) -> None:
    """Raise ValidationError where a secret should be stored as it is."""
    if not hashed:
        raise ValidationError("Secrets are stored as digests only; leave this checked.", code="unhashed_secret")


def guard(application: Any) -> None:
    """Have every form of the toolkit's model of clients refuse weak and unhashed secrets, the admin's too.

    By the fields' default validators, as the toolkit has no setting for it: those are no part of its migrations.
    """
    for name, validator in (("client_secret", refuse_weak), ("hash_client_secret", refuse_unhashed)):
        field = application._meta.get_field(name)
        field.default_validators = [*field.default_validators, validator]
        field.__dict__.pop("validators", None)  # which Django remembers


def _digest(secret: str, salt: str) -> str:
    return hashlib.sha256((salt + secret).encode()).hexdigest()
