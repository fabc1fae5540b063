"""Divides memory or disk among clients, so that none of them can take it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from threading import Lock


class Budget:
    """Counts bytes in use, of all owners and of each one. Threads may share a budget."""

    def __init__(self, most: int, most_each: int) -> None:
        self.most, self.most_each = most, most_each
        self._used: Counter[Hashable] = Counter()
        self._total = 0
        self._lock = Lock()

    def take(self, owner: Hashable, size: int) -> bool:
        """Count ``size`` more bytes for an owner and return True; where they don't fit, count nothing and return False.

        The owner None has no share of its own, only the limit of all.
        """
        with self._lock:
            if self._total + size > self.most or self.exceeds_share(owner, size):
                return False
            self._total += size
            self._used[owner] += size
            return True

    def exceeds_share(self, owner: Hashable, size: int) -> bool:
        """Tell whether ``size`` more bytes are more than the owner may have, whatever the others have."""
        return owner is not None and self._used[owner] + size > self.most_each

    def give_back(self, owner: Hashable, size: int) -> None:
        """Count ``size`` bytes less for an owner."""
        with self._lock:
            self._total -= size
            self._used[owner] -= size
            if not self._used[owner]:
                del self._used[owner]
