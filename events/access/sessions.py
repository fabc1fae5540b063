"""Keeps sessions in the database under digests of their keys, so whoever reads the table can't take one over."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.base_session import AbstractBaseSession
from django.utils import timezone
from typing_extensions import override


class SessionStore(DatabaseStore):
    """Django's sessions in the database, except that the cookie holds the key and the row only the key's digest.

    A key has 32 random characters of an alphabet of 36, some 165 bits. Nobody finds one by trying, so a fast digest is
    enough.
    """

    @override
    def load(self) -> dict[str, Any]:
        rows = self.model.objects.filter(session_key=_digest(self.session_key), expire_date__gt=timezone.now())
        row = rows.first()
        if row is None:
            self._session_key = None
            return {}
        return self.decode(row.session_data)

    @override
    def exists(self, session_key: str) -> bool:
        return super().exists(_digest(session_key))

    @override
    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        row = super().create_model_instance(data)
        row.session_key = _digest(row.session_key)
        return row

    @override
    def delete(self, session_key: str | None = None) -> None:
        self.model.objects.filter(session_key=_digest(session_key or self.session_key)).delete()

    # The database store's async methods query by the key itself; the base class's call the methods above.
    aload, aexists, asave, adelete = SessionBase.aload, SessionBase.aexists, SessionBase.asave, SessionBase.adelete
    acreate = SessionBase.acreate


def _digest(key: str | None) -> str:
    # 40 hexadecimal digits, as many as the column holds
    return hashlib.blake2b((key or "").encode(), digest_size=20).hexdigest()
