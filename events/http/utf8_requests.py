"""Requests whose queries and forms are UTF-8, whatever charset their ``Content-Type`` claims."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.handlers.wsgi import WSGIRequest
from django.utils.http import parse_header_parameters

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class UTF8Request(WSGIRequest):
    """Django's, which would follow the claim, even to codecs of no text at all (``hex``, ``zlib``), and then fail."""

    def _set_content_type_params(self, meta: WSGIEnvironment) -> None:
        self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))
