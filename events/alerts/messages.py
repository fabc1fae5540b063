"""Writes what is told of an alert: a delivery for each of its targets, in the words that the target understands."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.conf import settings

from events.alerts.models import Alert, AlertTarget, Delivery, Firing
from events.calendar import timestamps

# More series than these are counted, but not listed.
_MOST_LISTED = 100
_MOST_IN_A_TEXT = 20
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_NO_TIME = "0001-01-01T00:00:00Z"  # Alertmanager's way to say that something has not ended


@dataclass(frozen=True)
class Message:
    """What is told of an alert: that it fires for some series, that it resolved, or nothing, as a test."""

    id: str
    event: str
    alert: Alert
    firings: Sequence[Firing]
    created_at: datetime

    @property
    def subject(self) -> str:
        """One line that says it all."""
        count = len(self.firings)
        where = _path(self.firings[0]) if count == 1 else f"{count} series"
        what = {"firing": "fires", "resolved": "is resolved", "test": "is tested"}[self.event]
        of = f" for {where}" if count else ""
        return _line(f"[{self.alert.severity}] {self.alert.name} {what}{of}")[:300]

    @property
    def lines(self) -> list[str]:
        """A line for each of the first series."""
        rest = len(self.firings) - _MOST_IN_A_TEXT
        return [_told(each) for each in self.firings[:_MOST_IN_A_TEXT]] + ([f"and {rest} more"] if rest > 0 else [])

    @property
    def url(self) -> str:
        """Where the alert is to be seen; empty where SERVICE_URL isn't set."""
        return f"{settings.SERVICE_URL}/alerts/{self.alert.pk}" if settings.SERVICE_URL and self.alert.pk else ""


def deliveries(alert: Alert, event: str, firings: Sequence[Firing], now: datetime) -> list[Delivery]:
    """Make, without storing it, a delivery of an event to each target of an alert; none where nothing happened."""
    return [delivery(target, alert, event, firings, now) for target in alert.targets.all()] if firings else []


def delivery(target: AlertTarget, alert: Alert, event: str, firings: Sequence[Firing], now: datetime) -> Delivery:
    """Make a delivery to one target. Its body is written now, so that whatever is sent again is the same."""
    made = uuid.uuid4()
    message = Message(str(made), event, alert, firings, now)
    write = _text_body if target.kind == AlertTarget.EMAIL else _BODIES[target.body_format]
    return Delivery(
        id=made, target=target, alert=alert if alert.pk else None, alert_name=alert.name, event=event,
        subject=message.subject, body=write(message), created_at=now, next_attempt_at=now,
    )  # fmt: skip


def _json_body(message: Message) -> str:
    alert = message.alert
    return _dumped({
        "id": message.id,
        "event": message.event,
        "alert": {
            "id": alert.pk, "name": alert.name, "severity": alert.severity,
            "condition": alert.sentence(), "description": alert.description, "url": message.url,
        },
        "createdAt": timestamps.to_text(message.created_at),
        "count": len(message.firings),
        "series": [_series(each) for each in message.firings[:_MOST_LISTED]],
    })  # fmt: skip


def _series(firing: Firing) -> dict[str, Any]:
    return {
        "namespace": firing.namespace,
        "name": firing.name,
        "value": firing.value,
        "firedAt": timestamps.to_text(firing.fired_at),
        "resolvedAt": _text(firing.resolved_at),
        "resolvedValue": firing.resolved_value,
        "revision": firing.revision,
        "chart": _chart(firing),
    }


def _slack_body(message: Message) -> str:
    def escaped(text: str) -> str:
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    return _dumped({"text": _chat_text(message, escaped, "*")})


def _mattermost_body(message: Message) -> str:
    return _dumped({"text": _chat_text(message, lambda text: text, "**")})


def _chat_text(message: Message, escaped: Callable[[str], str], bold: str) -> str:
    """Write a text in which nothing that events are called by is a mark-up or calls anybody: it is quoted as code."""

    def code(text: str) -> str:
        return f"`{escaped(_line(text)).replace('`', 'ˋ')}`"

    texts = [f"{bold}{message.event}{bold} {code(message.subject)}", code(message.alert.sentence())]
    if message.alert.description:
        texts.append(code(message.alert.description))
    return "\n".join([*texts, *(f"• {code(line)}" for line in message.lines), *([message.url] if message.url else [])])


def _alertmanager_body(message: Message) -> str:
    """Write what Alertmanager sends to webhooks (https://prometheus.io/docs/alerting/latest/configuration/)."""
    alert = message.alert
    status = "resolved" if message.event == "resolved" else "firing"
    labels = {"alertname": alert.name, "severity": alert.severity}
    annotations = {"summary": message.subject, "description": alert.description, "condition": alert.sentence()}
    listed: Sequence[Firing | None] = message.firings[:_MOST_LISTED] or [None]
    alerts = []
    for each in listed:
        of_series = {} if each is None else {"namespace": each.namespace, "name": each.name}
        starts_at = message.created_at if each is None else each.fired_at
        ends_at = None if each is None else each.resolved_at
        value = {} if each is None else {"value": str(each.value), "revision": each.revision}
        alerts.append({
            "status": status, "labels": {**labels, **of_series}, "annotations": {**annotations, **value},
            "startsAt": timestamps.to_text(starts_at), "endsAt": _text(ends_at) or _NO_TIME,
            "generatorURL": message.url,
            "fingerprint": uuid.uuid5(uuid.NAMESPACE_OID, f"{alert.pk} {of_series}").hex[:16],
        })  # fmt: skip
    return _dumped({
        "version": "4", "groupKey": f"alert {alert.pk}", "status": status, "receiver": "tracking-api",
        "truncatedAlerts": max(0, len(message.firings) - _MOST_LISTED),
        "groupLabels": {"alertname": alert.name}, "commonLabels": labels, "commonAnnotations": annotations,
        "externalURL": settings.SERVICE_URL, "alerts": alerts,
    })  # fmt: skip


def _text_body(message: Message) -> str:
    """Write an e-mail."""
    about = [message.subject, message.alert.sentence(), message.alert.description]
    parts = [*about, "\n".join(message.lines), message.url, f"Delivery {message.id}"]
    return "\n\n".join(part for part in parts if part) + "\n"


_BODIES: dict[str, Callable[[Message], str]] = {
    "json": _json_body,
    "slack": _slack_body,
    "mattermost": _mattermost_body,
    "alertmanager": _alertmanager_body,
}


def _told(firing: Firing) -> str:
    value = "" if firing.value is None else f", {firing.value:g}"
    text = f"{_path(firing)}{value}, since {timestamps.to_text(firing.fired_at)}"
    if firing.resolved_at:
        text += f", until {timestamps.to_text(firing.resolved_at)}"
    return f"{text}. {firing.revision}" if firing.revision else text


def _path(firing: Firing) -> str:
    return f"{firing.namespace}/{firing.name}"


def _chart(firing: Firing) -> str:
    if not settings.SERVICE_URL:
        return ""
    return f"{settings.SERVICE_URL}/chart?{urlencode({'series': _path(firing)})}"


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else timestamps.to_text(instant)


def _line(text: str) -> str:
    """Write a text on one line, as a header must be."""
    return _CONTROL.sub(" ", text).strip()


def _dumped(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))
