"""Reads queries and forms of requests as UTF-8, whatever charset their ``Content-Type`` claims; no form is a 500."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIRequest
from django.http.multipartparser import MultiPartParserError
from django.utils.http import parse_header_parameters
from typing_extensions import override

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


class UTF8Request(WSGIRequest):
    """A request in UTF-8. Django's own follows the claim, and fails on codecs of no text (``hex``, ``zlib``)."""

    @override
    def _set_content_type_params(self, meta: WSGIEnvironment) -> None:  # type: ignore[misc]  # Django's stubs lack it
        self.content_type, self.content_params = parse_header_parameters(meta.get("CONTENT_TYPE", ""))

    @override
    def parse_file_upload(self, META: Any, post_data: Any) -> Any:
        """Read a multipart form. Raises MultiPartParserError, which Django answers by a 400."""
        try:
            return super().parse_file_upload(META, post_data)
        except TypeError:  # Python's, where a parameter of a part's header comes with and without a number
            raise MultiPartParserError("A header of the multipart form can't be read.") from None
