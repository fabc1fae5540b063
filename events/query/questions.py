"""Owns the body of a query: several questions, each with the parameters of the aggregation endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from rest_framework import serializers
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.serializers import as_serializer_error
from typing_extensions import override

from events.aggregation.question import Question
from events.fields import SegmentField
from events.serializers import AggregationQuerySerializer, JSONObject, StrictFieldsMixin

MOST_QUESTIONS = 20


class QuerySerializer(StrictFieldsMixin, serializers.Serializer[Any]):
    """The body as a whole; what is wrong with a question is said in its own answer."""

    questions = serializers.ListField(allow_empty=False, max_length=MOST_QUESTIONS)


class QuestionSerializer(AggregationQuerySerializer):
    """One question: a series and the parameters of its aggregates; one that is null or "" counts as not given.

    A number may be a text too, as in the query of the aggregation endpoint.
    """

    reads_text_as_queries = True

    namespace = SegmentField()
    name = SegmentField()
    format = None  # type: ignore[assignment]  # what the base class declares is left out so

    @override
    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, Mapping):
            given = JSONObject(
                (key, value) for key, value in data.items() if key in _REQUIRED or (value is not None and value != "")
            )
            given.repeated = getattr(data, "repeated", ())
            data = given
        return super().to_internal_value(data)


_REQUIRED = {"namespace", "name"}


def questions_of(body: Any) -> list[Question | APIException]:
    """Return the questions of a body; for one that is wrong, what is wrong with it.

    Raises ValidationError where the body is none of 1 to ``MOST_QUESTIONS`` questions.
    """
    query = QuerySerializer(data=body)
    query.is_valid(raise_exception=True)
    return [_question(each) for each in query.validated_data["questions"]]


def _question(data: Any) -> Question | APIException:
    serializer = QuestionSerializer(data=data)
    try:
        return Question(**cast(dict[str, Any], serializer.run_validation(data)))
    except ValidationError as error:
        return ValidationError(as_serializer_error(error))
