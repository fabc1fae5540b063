"""What the tests of the admin share."""

import pytest
from django.contrib.auth.models import User


@pytest.fixture
def client(client, db):
    client.force_login(User.objects.create_superuser("admin"))
    return client
