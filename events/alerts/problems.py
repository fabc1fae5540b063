"""Writes why an alert can't be evaluated."""

from __future__ import annotations

from rest_framework.exceptions import APIException

_MOST_CHARACTERS = 300


def words_of(error: Exception) -> str:
    """Write what is wrong in a sentence; what the database says of itself is left to the log."""
    if isinstance(error, APIException):
        detail = error.detail
        texts = detail.values() if isinstance(detail, dict) else [detail]
        words = " ".join(str(text) for each in texts for text in (each if isinstance(each, list) else [each]))
        return words[:_MOST_CHARACTERS]
    return f"It can’t be evaluated ({type(error).__name__})."
