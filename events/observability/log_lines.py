"""Lines of log, as text or as JSON; each names the request that it is about."""

import logging

import msgspec

from events.observability.observation import current
from events.observability.request_log import instant_text


class LineFormatter(logging.Formatter):
    """Text: a message takes one line, whatever is in it; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """In UTC, with milliseconds."""
        return instant_text(record.created)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """The line, with the request's id where there is a request."""
        line = "".join(each if each.isprintable() else repr(each)[1:-1] for each in super().formatMessage(record))
        request_id = current().request_id
        return f"{line} request={request_id}" if request_id else line


class JSONFormatter(logging.Formatter):
    """JSON: an object a line, a traceback within."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
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
