"""What Django refuses of a request: answered, and not logged, as anybody could fill the log with it."""

import pytest
from django.template.loader import render_to_string
from django.test import Client

UNREADABLE = {"detail": "The request can't be read, or its Host is none of this service's."}
FIELDS = "&".join(["a"] * 1_001)
FORM = {"content_type": "application/x-www-form-urlencoded"}
TOO_MANY_FILES = "".join(
    f'--b\r\nContent-Disposition: form-data; name="a"; filename="{number}"\r\n\r\n\r\n' for number in range(101)
)
FILES = {"data": f"{TOO_MANY_FILES}--b--\r\n", "content_type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", f"/?{FIELDS}", {}),
        ("GET", f"/accounts/login/?{FIELDS}", {}),
        ("POST", "/accounts/login/", {"data": FIELDS, **FORM}),
        ("POST", "/accounts/login/", FILES),
        ("GET", "/accounts/login/", {"headers": {"Host": "elsewhere.example"}}),
        ("GET", "/accounts/login/", {"headers": {"Host": "["}}),
        ("GET", "/api/docs/", {"headers": {"Host": "elsewhere.example"}}),
    ],
    ids=["parameters", "parameters of a form", "fields", "files", "host", "no host", "host of the API"],
)
def test_it_is_a_400_of_which_nothing_is_logged(caplog, method, path, options):
    response = Client().generic(method, path, **options)

    assert response.status_code == 400
    if path.startswith("/api/"):
        assert response.json() == UNREADABLE
    else:
        assert response.text == render_to_string("400.html")
    assert caplog.messages == []
