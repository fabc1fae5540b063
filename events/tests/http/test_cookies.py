"""Cookies that cost a processor minutes, read by Python before 3.11.10 and 3.12.6."""

from http.cookies import SimpleCookie

import pytest
from django.http import parse_cookie
from django.test import Client


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ("plain", "plain"),
        ('"', '"'),
        ('"quoted"', "quoted"),
        (r'"a \"word\" \\ \054\073 \101\377"', 'a "word" \\ ,; A\xff'),
        (r'"\400\18 \8"', "40018 8"),
        ('"\\"', "\\"),
    ],
)
def test_quotes_are_read_as_ever(sent, read):
    assert parse_cookie(f"a={sent}") == {"a": read}


def test_what_python_quotes_is_read_back():
    value = "".join(map(chr, range(256)))
    cookie = SimpleCookie({"a": value})

    assert parse_cookie(cookie.output(header="").strip())["a"] == value


@pytest.mark.django_db
def test_many_quotes_cost_little():
    """A test client has no limit to headers; where time grows with the square, this takes minutes."""
    response = Client(headers={"Cookie": 'sessionid="' + "\\" * 200_000 + '"'}).get("/accounts/login/")

    assert response.status_code == 200
