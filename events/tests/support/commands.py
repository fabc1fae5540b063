"""Commands called within the tests' process."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command


def run(command, *arguments):
    """What the command writes to standard output, and to standard error."""
    out, err = StringIO(), StringIO()
    call_command(command, *map(str, arguments), stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def fails(command, *arguments):
    """What the command says as it refuses."""
    with pytest.raises(CommandError) as error:
        run(command, *arguments)
    return str(error.value)
