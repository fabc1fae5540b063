"""Owns what becomes of two requests that store the same name at the same time."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from django.db import IntegrityError
from django.http import HttpResponse

_Method = TypeVar("_Method", bound=Callable[..., HttpResponse])


def again_where_taken(answer: _Method) -> _Method:
    """Have a method of a view answer anew where another request stored a row of that name after it had looked.

    The second time it finds the row: a form says that the name is taken, or changes what is there.
    """

    @wraps(answer)
    def answered(*args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return answer(*args, **kwargs)
        except IntegrityError:
            return answer(*args, **kwargs)

    return cast(_Method, answered)
