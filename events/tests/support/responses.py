"""Reads the responses of Django's test client."""


def body_of(response):
    """The bytes, also of an answer that is sent in pieces."""
    return b"".join(response.streaming_content) if response.streaming else response.content


def items_of(response):
    """The timestamps and values of an aggregate in JSON."""
    assert response.status_code == 200, response.content
    return [(item["aggregatedTimestamp"], item["value"]) for item in response.json()]


def statuses(call, count):
    """The statuses of so many calls, one after the other."""
    return [call().status_code for _ in range(count)]
