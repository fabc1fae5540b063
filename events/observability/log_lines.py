"""Formats lines of log as text or as JSON, with the id of the request that they are about."""

import logging
from typing import Any

import msgspec
from typing_extensions import override

from events.observability.observation import current
from events.observability.request_log import hide_token, instant_text


class _DiscreetFormatter(logging.Formatter):
    """Leaves the tokens of boards' public links out of tracebacks."""

    @override
    def formatException(self, ei: Any) -> str:
        return "\n".join(map(hide_token, super().formatException(ei).split("\n")))


class LineFormatter(_DiscreetFormatter):
    """Formats text: a message takes one line, whatever is in it; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return instant_text(record.created)

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        text = hide_token(super().formatMessage(record))  # Django's messages have the path of the request
        line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
        request_id = current().request_id
        return f"{line} request={request_id}" if request_id else line


class JSONFormatter(_DiscreetFormatter):
    """Formats JSON: an object a line, which holds the traceback too."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": instant_text(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": hide_token(record.getMessage()),
        }
        if request_id := current().request_id:
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
