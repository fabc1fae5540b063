"""Which errors of the database may be over when a request is sent again."""

import psycopg2.errors
import pytest
from django.db import InternalError

from events.database.errors import is_database_away

ON_A_NODE = "\nCONTEXT:  while executing command on 127.0.0.1:9701\n"
CASES = {
    "failure on connection marked as essential: 127.0.0.1:9702\n": True,
    "server closed the connection unexpectedly\n\tThis probably means the server terminated abnormally" + ON_A_NODE: True,
    "connection not open" + ON_A_NODE: True,
    "could not receive data from server: Connection reset by peer" + ON_A_NODE: True,
    "could not send data to server: Broken pipe" + ON_A_NODE: True,
    "terminating connection due to administrator command\n": True,
    "canceling statement due to user request\n": True,
    'could not extend file "base/5/16384": No space left on device\n': True,
    'could not extend file "base/5/16384": wrote only 4096 of 8192 bytes at block 7\n': True,
    "no space left on device\n": True,
    "out of memory\n": True,
    "out of shared memory\n": True,
    "cache lookup failed for relation 102022" + ON_A_NODE: False,
}  # fmt: skip


@pytest.mark.parametrize(("text", "is_away"), CASES.items(), ids=range(len(CASES)))
def test_a_node_that_goes_away_amid_a_statement_is_no_mistake(text, is_away):
    error = InternalError(text)
    error.__cause__ = psycopg2.errors.InternalError_(text)

    assert is_database_away(error) is is_away
