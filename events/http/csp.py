"""Makes content security policies: what a page may make its browser load, run and send (W3C CSP 3)."""

# Only files of this host: nothing from elsewhere, and no script or style inside a page.
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
    """Return a page's policy: any page's, to which ``sources`` add directives, or whose directives they replace.

    A directive's name is written with underscores: ``form_action="'self'"``.
    """
    directives = {**_OF_ANY_PAGE, **{name.replace("_", "-"): source for name, source in sources.items()}}
    return "; ".join(f"{name} {source}" for name, source in directives.items())
