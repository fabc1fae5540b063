"""Django's PostgreSQL backend, with a check of a kept connection that costs no round trip."""
