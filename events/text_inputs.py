"""Owns what becomes of a text in an input of one line: browsers leave its line breaks out."""

from __future__ import annotations

from typing import Any

from django import forms
from typing_extensions import override

_NO_LINE_BREAKS = str.maketrans("", "", "\r\n")


def on_one_line(text: str) -> str:
    """Return a text as browsers show and send it in an input of one line."""
    return text.translate(_NO_LINE_BREAKS)


class LineBreaksMixin(forms.BaseForm):
    """Keeps the line breaks of what a form shows in inputs of one line, where nothing else of the text is changed."""

    @override
    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        for name, text in cleaned.items():
            shown = self.get_initial_for_field(self.fields[name], name)
            is_of_one_line = isinstance(self.fields[name].widget, forms.TextInput)
            if is_of_one_line and isinstance(shown, str) and text == on_one_line(shown):
                cleaned[name] = shown
        return cleaned
