"""Reads what the views answer: a long answer, looked at in one snapshot and read in another later, and the catalogue."""

from unittest.mock import patch

from events.aggregation import reader
from events.aggregation.answer import Answer
from events.aggregation.catalogue import Catalogue
from events.database.snapshot import snapshot


def stream(question):
    """An iterator of the items; where the view would refuse the question, that is raised here, before the first one.

    So few rows are merged at a time that a bucket's could be divided.
    """
    with snapshot():
        Answer(question).check_stream()

    def items():
        with snapshot(), patch.object(reader, "_MERGED_AT_A_TIME", 1):
            yield from Answer(question).iterate()

    return items()


def catalogue():
    """Every series, however many there are."""
    return list(Catalogue().iterate())
