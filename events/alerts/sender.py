"""Sends what is waiting: claims deliveries, sends a few at a time, and notes what came of each as soon as it ends."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from datetime import datetime, timedelta
from functools import partial

from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from events.alerts import emails, sealing, webhooks
from events.alerts.models import AlertTarget, Delivery
from events.alerts.webhooks import Outcome

logger = logging.getLogger(__name__)

# How long after each attempt that failed the next one is made: most of a day altogether.
BACK_OFF = tuple(timedelta(seconds=each) for each in (10, 30, 60, 300, 900, 1_800, 3_600, 7_200, 14_400, 28_800))
# Longer than any attempt takes; a delivery whose worker was killed meanwhile is sent again after it, with the same id.
_CLAIMED_FOR = timedelta(seconds=90)
_MOST_RETRY_AFTER = timedelta(hours=1)
# So many are sent at once, and so many of them to one receiver, which may hang: the others are not to wait for it.
_AT_ONCE, _TO_ONE_RECEIVER = 8, 2
# While some are being sent, it is looked so often for others that are due.
_LOOK_SECONDS = 1.0


def send_waiting(is_wanted: Callable[[], bool] = lambda: True) -> int:
    """Send all that is due, some at a time; return how many attempts were made.

    Each is claimed first, by moving its next attempt past the time that this one may take. So several workers share
    the work, and whatever happens to them, a delivery is sent at least once.
    """
    count = 0
    sending: dict[Future[Outcome], Delivery] = {}
    with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="alert-delivery") as threads:
        try:
            while is_wanted():
                while claimed := _claim(sending.values()):
                    sending |= {threads.submit(_made, each, _sending(each)): each for each in claimed}
                    count += len(claimed)
                if not sending:
                    break
                _note_all(sending, wait_for(sending, _LOOK_SECONDS, FIRST_COMPLETED).done)
        finally:
            _note_all(sending, list(sending))
    return count


def _note_all(sending: dict[Future[Outcome], Delivery], ended: Iterable[Future[Outcome]]) -> None:
    """Note what came of attempts, once each has ended, and take them out of those that are being sent."""
    for attempt in ended:
        _note(sending.pop(attempt), attempt.result())


def _made(delivery: Delivery, send: Callable[[], Outcome]) -> Outcome:
    try:
        return send()
    except Exception as error:  # or nothing would be known of those that were made beside it
        logger.exception("A mistake in sending %s to %s", delivery.pk, delivery.target)
        return Outcome(False, f"It can’t be sent ({type(error).__name__}).")


def send_again(delivery: Delivery, now: datetime) -> bool:
    """Have a delivery that is not waiting sent once more, with the same id and body; tell whether it will be."""
    done = Delivery.objects.filter(pk=delivery.pk).exclude(status=Delivery.WAITING)
    return bool(done.update(status=Delivery.WAITING, attempts=0, next_attempt_at=now))


def _claim(sending: Collection[Delivery] = ()) -> Sequence[Delivery]:
    """Claim some that are due, as far as there is room beside those that are being sent.

    None is claimed before those of the same alert and target that came first were tried once.
    """
    # by scheme and host, which e-mail has none of, as one server takes it all
    to_receiver = Counter(each.target.shown_url for each in sending)
    full = [receiver for receiver, count in to_receiver.items() if count >= _TO_ONE_RECEIVER]
    now, waiting = timezone.now(), Delivery.objects.filter(status=Delivery.WAITING)
    first = waiting.filter(
        alert=OuterRef("alert"), target=OuterRef("target"), created_at__lt=OuterRef("created_at"), outcome=""
    )
    due = waiting.filter(~Exists(first), next_attempt_at__lte=now)
    # should an attempt outlast its claim, it is not made twice
    others = due.exclude(target__shown_url__in=full).exclude(pk__in=[each.pk for each in sending])
    claimed = []
    for delivery in others.select_related("target").order_by("next_attempt_at")[: _AT_ONCE - len(sending)]:
        if to_receiver[delivery.target.shown_url] >= _TO_ONE_RECEIVER:
            continue
        mine = due.filter(pk=delivery.pk, attempts=delivery.attempts)
        if mine.update(next_attempt_at=now + _CLAIMED_FOR, attempts=F("attempts") + 1):
            delivery.attempts += 1
            to_receiver[delivery.target.shown_url] += 1
            claimed.append(delivery)
    return claimed


def _sending(delivery: Delivery) -> Callable[[], Outcome]:
    """Make what sends a delivery, and touches no database."""
    target, key = delivery.target, str(delivery.pk)
    if target.kind == AlertTarget.EMAIL:
        return partial(emails.send, target.addresses, key, delivery.subject, delivery.body)
    try:
        url, secret = target.url, target.secret
    except sealing.Unreadable as error:
        return partial(Outcome, False, str(error))
    timestamp = int(timezone.now().timestamp())
    return partial(webhooks.send, url, secret, key, timestamp, delivery.body.encode())


def _note(delivery: Delivery, outcome: Outcome) -> None:
    now = timezone.now()
    values: dict[str, object] = {"outcome": outcome.words[:300]}
    if outcome.is_delivered:
        values |= {"status": Delivery.DELIVERED, "delivered_at": now, "next_attempt_at": None}
    elif delivery.attempts > len(BACK_OFF):
        values |= {"status": Delivery.FAILED, "next_attempt_at": None}
        logger.error("A delivery failed for good: %s to %s: %s", delivery.pk, delivery.target, outcome.words)
    else:
        wait = BACK_OFF[delivery.attempts - 1]
        if outcome.retry_after is not None:
            wait = max(wait, min(timedelta(seconds=outcome.retry_after), _MOST_RETRY_AFTER))
        values |= {"next_attempt_at": now + wait}
    # an attempt that another worker has begun meanwhile, as this one took too long, has the last word
    Delivery.objects.filter(pk=delivery.pk, attempts=delivery.attempts).update(**values)
