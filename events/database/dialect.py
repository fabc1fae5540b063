"""Tells which of the two databases is in use, and has the words that they spell differently."""

from __future__ import annotations

from typing import TypeVar

from django.db import connection

_T = TypeVar("_T")


def is_postgresql() -> bool:
    """Tell whether the database is PostgreSQL; else it is SQLite."""
    return connection.vendor == "postgresql"


def choose(*, postgresql: _T, sqlite: _T) -> _T:
    """Return what is meant for the database in use."""
    return postgresql if is_postgresql() else sqlite


def greatest() -> str:
    """Return the SQL function that gives the largest of its arguments."""
    return choose(postgresql="GREATEST", sqlite="MAX")


def least() -> str:
    """Return the SQL function that gives the smallest of its arguments."""
    return choose(postgresql="LEAST", sqlite="MIN")


def binary_collation() -> str:
    """Return the name of the collation that sorts texts by their bytes."""
    return choose(postgresql="C", sqlite="BINARY")
