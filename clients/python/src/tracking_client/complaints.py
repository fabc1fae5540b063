"""Logs what goes wrong, and the same at most once a minute."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress

logger = logging.getLogger("tracking_client")
_PAUSE_SECONDS = 60.0


class Complaints:
    """Writes to the log; what is said again within a minute is counted, and said with the next."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._kept_back: dict[str, int] = {}
        self.forget_locks()

    def forget_locks(self) -> None:
        """Make locks anew, as in a forked process, where a thread of the parent may have held them."""
        self._lock = threading.RLock()  # as a signal's handler may interrupt whoever holds it

    def say(self, topic: str, message: str, *arguments: object, level: int = logging.WARNING) -> None:
        """Log the message, unless another one on the topic was logged within the last minute."""
        now = time.monotonic()
        with self._lock:
            if now - self._said.get(topic, -_PAUSE_SECONDS) < _PAUSE_SECONDS:
                self._kept_back[topic] = self._kept_back.get(topic, 0) + 1
                return
            self._said[topic] = now
            kept_back = self._kept_back.pop(topic, 0)
        if kept_back:
            message += " (and %d times before that, within a minute)"
            arguments = (*arguments, kept_back)
        with suppress(Exception):  # of a handler: neither who tracks nor the thread that sends ends by it
            logger.log(level, message, *arguments)
