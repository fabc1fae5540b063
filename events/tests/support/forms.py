"""Forms as a browser sends them that changes nothing, and as another request does at the same time."""

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


def stored_meanwhile(monkeypatch, form_class, row):
    """Has another request store a row once a form was found valid, the first time."""
    is_valid, rows = form_class.is_valid, [row]

    def found_valid(form):
        found = is_valid(form)
        while rows:
            rows.pop().save()
        return found

    monkeypatch.setattr(form_class, "is_valid", found_valid)
