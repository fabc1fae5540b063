"""The fields of serializers, which are copied for each request."""

from datetime import UTC, datetime

from django.http import QueryDict

from events.serializers import AggregationQuerySerializer, FiringsQuerySerializer

INSTANT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
QUERY = "tsMin=1700000000&series=Shop/order&series=Shop/visit"


def test_serializers_of_requests_at_the_same_time_are_apart():
    """Text is read as a number in a query alone, which a field knows from its serializer."""
    of_query = AggregationQuerySerializer(data=QueryDict("tsMin=1700000000"))
    of_document = AggregationQuerySerializer(data={"tsMin": "1700000000"})
    assert list(of_query.fields) == list(of_document.fields)

    assert (of_query.is_valid(), of_document.is_valid()) == (True, False)

    assert of_query.validated_data["ts_min"] == INSTANT
    assert list(of_document.errors) == ["tsMin"]


def test_the_fields_within_a_field_are_apart_too():
    both = [FiringsQuerySerializer(data=QueryDict(QUERY)) for _ in range(2)]

    children = [serializer.fields["series"].child for serializer in both]

    assert [child.root for child in children] == both
    assert [serializer.is_valid() for serializer in both] == [True, True]
    assert both[0].validated_data == both[1].validated_data == {
        "ts_min": INSTANT, "ts_max": None, "series": [("Shop", "order"), ("Shop", "visit")],
    }  # fmt: skip
