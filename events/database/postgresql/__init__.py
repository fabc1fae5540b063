"""Django's PostgreSQL backend: behind poolers too, and with a check of a kept connection that costs no round trip."""
