"""Answers as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from rest_framework import renderers


class JSONRenderer(renderers.BaseRenderer):
    """Compact JSON in UTF-8."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self, data: Any, accepted_media_type: str | None = None, renderer_context: Mapping[str, Any] | None = None
    ) -> bytes:
        """The data as JSON; nothing for an answer without a body."""
        return b"" if data is None else msgspec.json.encode(data, enc_hook=str)
