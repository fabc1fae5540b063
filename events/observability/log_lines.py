"""Formats lines of log as text or as JSON, with the id of the request that they are about."""

import logging

import msgspec
from typing_extensions import override

from events.observability.observation import current
from events.observability.request_log import instant_text


class LineFormatter(logging.Formatter):
    """Formats text: a message takes one line, whatever is in it; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    @override
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return instant_text(record.created)

    @override
    def formatMessage(self, record: logging.LogRecord) -> str:
        line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in super().formatMessage(record))
        request_id = current().request_id
        return f"{line} request={request_id}" if request_id else line


class JSONFormatter(logging.Formatter):
    """Formats JSON: an object a line, which holds the traceback too."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": instant_text(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := current().request_id:
            line["request_id"] = request_id
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()
