"""Reads a long answer as the view does: looked at in one snapshot, and read in another, perhaps much later."""

from events.aggregation.answer import Answer
from events.database.snapshot import snapshot


def stream(question):
    """An iterator of the items; where the view would refuse the question, that is raised here, before the first one."""
    with snapshot():
        Answer(question).check_stream()

    def items():
        with snapshot():
            yield from Answer(question).iterate()

    return items()
