"""Makes the pages of errors that Django has no template for, for those who look at them in a browser."""

from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string


def wants_page(request: HttpRequest) -> bool:
    """Tell whether a browser asks, which names HTML among what it accepts; programs say nothing or ``*/*``."""
    return "text/html" in request.headers.get("Accept", "").lower()


def error_page(status: int, title: str, text: str, retry_after_seconds: int | None = None) -> HttpResponse:
    """Return a page that says what is wrong, made without asking the database who looks at it."""
    page = render_to_string("events/error.html", {"title": title, "text": text})
    headers = {} if retry_after_seconds is None else {"Retry-After": str(retry_after_seconds)}
    return HttpResponse(page, status=status, headers=headers)
