"""Makes the fixture by which the tests of a file call the API, and asks for tokens."""

import pytest
from django.test import Client


def client_with(scopes):
    """A fixture: an API client whose token has these scopes."""

    @pytest.fixture
    def client(client_with_scopes):
        return client_with_scopes(scopes)

    return client


def fetch_token(path="/o/token/", **fields):
    """What the service answers to a client that asks for a token, or tells of one at another path."""
    return Client().post(path, {"grant_type": "client_credentials", **fields})
