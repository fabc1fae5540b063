"""Lines to import, and what the log has."""

from events.models import Event


def log():
    return list(Event.objects.order_by("pk").values_list("namespace", "name", "timestamp", "value"))


def lines(count, start=0):
    return "".join(
        f'{{"namespace":"S","name":"n","timestamp":{1_600_000_000 + number},"value":{number}}}\n'
        for number in range(start, start + count)
    )
