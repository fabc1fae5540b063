"""Owns the patterns of namespaces, one a line: the name of a namespace, or the beginning of some and an asterisk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from django.core.exceptions import ValidationError

ALL = "*"
_MOST_CHARACTERS = 255


@dataclass(frozen=True)
class Namespaces:
    """The namespaces that patterns stand for, compared code point by code point as they are stored."""

    exact: frozenset[str]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Namespaces:
        """Read the patterns in a text, one a line."""
        return cls.of_patterns(lines_of(text))

    @classmethod
    def of_patterns(cls, patterns: Collection[str]) -> Namespaces:
        """Take patterns as they are, as a name may have several lines."""
        exact = frozenset(pattern for pattern in patterns if not pattern.endswith("*"))
        return cls(exact, tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*")))

    def __contains__(self, namespace: str) -> bool:
        return namespace in self.exact or namespace.startswith(self.prefixes)

    def __bool__(self) -> bool:
        return bool(self.exact or self.prefixes)


EVERYWHERE = Namespaces(frozenset(), ("",))


def fits(namespace: str, pattern: str) -> bool:
    """Tell whether a pattern is the namespace, or the beginning of the namespace and an asterisk."""
    return namespace.startswith(pattern[:-1]) if pattern.endswith("*") else namespace == pattern


def lines_of(text: str) -> list[str]:
    """List the patterns in a text; blank lines are skipped, and other blanks are kept, as a namespace may have some."""
    lines = (line.removesuffix("\r") for line in text.split("\n"))
    return [line for line in lines if line.strip()]


def validate_patterns(text: str) -> None:
    """Refuse a pattern that fits no namespace, or others than it seems to. Raises Django's ValidationError."""
    for pattern in lines_of(text):
        beginning = pattern.removesuffix("*")
        if "*" in beginning:
            raise ValidationError(f"“{pattern[:50]}”: “*” may only end a pattern.", code="star")
        if "/" in pattern or pattern in {".", ".."}:
            detail = f"“{pattern[:50]}”: no namespace contains “/” nor is “.” or “..”."
            raise ValidationError(detail, code="path_segment")
        if len(beginning) > _MOST_CHARACTERS:
            detail = f"“{pattern[:50]}…”: no namespace is longer than {_MOST_CHARACTERS} characters."
            raise ValidationError(detail, code="max_length")
