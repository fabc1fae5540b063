"""Forms as a browser sends them that changes nothing."""

from html.parser import HTMLParser

from typing_extensions import override


class _Inputs(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = {}

    @override
    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        kind = attributes.get("type", "text")
        if tag == "input" and "name" in attributes and kind in {"text", "number"}:
            self.found[attributes["name"]] = (attributes.get("value") or "").replace("\r", "").replace("\n", "")


def inputs_of(page):
    """The names and texts of the inputs of one line: a browser leaves line breaks out."""
    inputs = _Inputs()
    inputs.feed(page)
    return inputs.found
