"""Makes the fixture by which the tests of a file call the API."""

import pytest


def client_with(scopes):
    """A fixture: an API client whose token has these scopes."""

    @pytest.fixture
    def client(client_with_scopes):
        return client_with_scopes(scopes)

    return client
