"""Memory and disk that many clients share, so that none of them can take it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from threading import Lock


class Budget:
    """Counts bytes in use, in all and for each holder. Threads may share one."""

    def __init__(self, most: int, most_each: int) -> None:
        self.most, self.most_each = most, most_each
        self._used: Counter[Hashable] = Counter()
        self._total = 0
        self._lock = Lock()

    def take(self, holder: Hashable, size: int) -> bool:
        """Count ``size`` more bytes for a holder where that fits; where not, count nothing and return False.

        The holder None has no limit of its own.
        """
        with self._lock:
            if self._total + size > self.most or self.exceeds_share(holder, size):
                return False
            self._total += size
            self._used[holder] += size
            return True

    def exceeds_share(self, holder: Hashable, size: int) -> bool:
        """Tell whether ``size`` more bytes are more than the holder may have, whatever others have."""
        return holder is not None and self._used[holder] + size > self.most_each

    def give_back(self, holder: Hashable, size: int) -> None:
        """Count ``size`` bytes less for a holder."""
        with self._lock:
            self._total -= size
            self._used[holder] -= size
            if not self._used[holder]:
                del self._used[holder]
