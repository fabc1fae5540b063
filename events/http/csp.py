"""Content security policies: what a page may have its browser load, run and send, and where to (W3C CSP 3)."""

# Nothing but what this host serves in files of their own: nothing elsewhere, and no script or style within a page.
_OF_ANY_PAGE = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "frame-ancestors": "'none'",
    "base-uri": "'none'",
}


def policy(**sources: str) -> str:
    """Return the policy of a page that has these sources besides, or in the place of, what any page has.

    A directive's name is written with underscores: ``form_action="'self'"``.
    """
    directives = {**_OF_ANY_PAGE, **{name.replace("_", "-"): source for name, source in sources.items()}}
    return "; ".join(f"{name} {source}" for name, source in directives.items())
