"""Says what is under way with a series that gets another name, is merged into another one, or is deleted."""

from __future__ import annotations

from typing import Any, NamedTuple

from typing_extensions import override

from events.rollups.marks import Marks


class Move(NamedTuple):
    """What is under way with a series: it gets another name, is merged into another series, or is deleted.

    All that is stored under its name by events up to the marks belongs to the series ``into``, or to none where it is
    deleted. Later events are a new series of the old name, which no rollup holds before the old ones are gone. Then
    ``is_emptied``, and the rollups hold the new series' events up to the marks.
    """

    namespace: str
    name: str
    into: tuple[str, str] | None
    marks: Marks
    is_merged: bool = False  # into a series that was there before
    is_emptied: bool = False
    by: str = ""  # which process takes the steps, and when it last said so, in seconds since 1970
    at: float = 0.0

    @classmethod
    def read(cls, stored: dict[str, Any] | None) -> Move | None:
        """Read what the row of a watermark holds."""
        if stored is None:
            return None
        marks = Marks({int(origin): last for origin, last in stored["marks"].items()})
        return cls(**{**stored, "into": stored["into"] and tuple(stored["into"]), "marks": marks})

    def stored(self) -> dict[str, Any]:
        """Return what the row of a watermark is to hold."""
        return {**self._asdict(), "marks": dict(self.marks.by_origin)}

    @property
    def old(self) -> tuple[str, str]:
        """The series that is moved."""
        return self.namespace, self.name

    def concerns(self, namespace: str, name: str) -> bool:
        """Tell whether a series has a part in it: it is moved itself, or another one is moved to it."""
        return self.old == (namespace, name) or (self.into == (namespace, name) and not self.is_emptied)

    @override
    def __str__(self) -> str:
        if self.into is None:
            return f"{self.namespace}/{self.name} is being deleted"
        what = "merged into" if self.is_merged else "renamed to"
        return f"{self.namespace}/{self.name} is being {what} {'/'.join(self.into)}"
