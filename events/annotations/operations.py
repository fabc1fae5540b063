"""Describes the calls of annotations for the description of the API."""

from __future__ import annotations

from drf_spectacular.extensions import OpenApiSerializerFieldExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import Direction, OpenApiParameter, OpenApiResponse, extend_schema_field
from typing_extensions import override

from events.annotations.serializers import (
    MOST_LISTED,
    AnnotationListSerializer,
    AnnotationSerializer,
    LineField,
    ListLimitField,
    PlaceField,
)
from events.openapi.parts import (
    JSON,
    answer,
    any_of,
    call,
    document_errors,
    errors,
    forbidden,
    header,
    idempotency_key,
    not_granted,
    request,
)
from events.openapi.schemas import LINE, Schema, array, ref

_ID = OpenApiParameter("id", {"type": "string", "format": "uuid"}, "path", description="The annotation's `id`.")
_SENT = {
    "namespace": "Shop", "timestamp": "2020-11-12T11:10:00Z", "title": "Release 4.2", "tags": ["deployment"],
}  # fmt: skip
_STORED = {"id": "3f8e7c1a-52d6-4a0b-9d57-0c1f5e6a7b89", **_SENT, "end": None, "text": ""}
_ORDER = ("id", "namespace", "timestamp", "end", "title", "text", "tags")
_SHOWN = {name: _STORED[name] for name in _ORDER}
_BAD = answer(
    any_of("Detail", "FieldErrors", "ListErrors"),
    "Bad input: the body names each field and what is wrong with it.",
    A_field={"end": ["Must not be earlier than timestamp."]},
)
_REFUSED = {scope: forbidden(scope, "FieldErrors", A_namespace=not_granted(scope)) for scope in ("read", "write")}
_TAG = "Annotations"

list_annotations = call(
    tag=_TAG,
    operation_id="list_annotations",
    summary="List annotations",
    description=f"Those of which any part lies in the window, ordered by time; {MOST_LISTED} at most, and where there "
    "are more, `Link` leads to the next ones. Without `namespace` they are those of all namespaces that the client may "
    "read.",
    parameters=[
        AnnotationListSerializer,
        header("Link", 'Where the next ones are, as `<…>; rel="next"`; absent on the last page.', 200),
    ],
    responses={
        (200, JSON): answer(array(ref("StoredAnnotation")), "The annotations.", A_deployment=[_SHOWN]),
        (400, JSON): answer(
            any_of("Detail", "FieldErrors", "ListErrors"),
            "Bad input: the body names each parameter and what it accepts.",
            A_parameter={"tsMin": ["Must not be later than tsMax."]},
        ),
        (403, JSON): _REFUSED["read"],
    },
)

add_annotation = call(
    tag=_TAG,
    operation_id="add_annotation",
    summary="Add an annotation",
    description="What happened at a moment, or from `timestamp` to `end`. It is drawn on the charts of its namespace.",
    parameters=[idempotency_key("with the same annotation")],
    request={JSON: AnnotationSerializer},
    examples=[request("A deployment", _SENT, JSON)],
    responses={
        (201, JSON): answer(ref("StoredAnnotation"), "It is stored.", A_deployment=_SHOWN),
        (400, JSON): _BAD,
        (403, JSON): _REFUSED["write"],
        **errors(422),
        **document_errors(),
    },
)

read_annotation = call(
    tag=_TAG,
    operation_id="read_annotation",
    summary="Read an annotation",
    parameters=[_ID],
    responses={
        (200, JSON): answer(ref("StoredAnnotation"), "The annotation.", A_deployment=_SHOWN),
        (403, JSON): _REFUSED["read"],
        **errors(404),
    },
)

change_annotation = call(
    tag=_TAG,
    operation_id="change_annotation",
    summary="Change an annotation",
    description="Only the fields that are given. An `end` of `null` makes it a moment.",
    parameters=[_ID],
    request={JSON: AnnotationSerializer},
    examples=[request("An end", {"end": "2020-11-12T11:25:00Z"}, JSON)],
    responses={
        (200, JSON): answer(ref("StoredAnnotation"), "The annotation as it is now.", A_deployment=_SHOWN),
        (400, JSON): _BAD,
        (403, JSON): _REFUSED["write"],
        **errors(404),
        **document_errors(),
    },
)

delete_annotation = call(
    tag=_TAG,
    operation_id="delete_annotation",
    summary="Delete an annotation",
    parameters=[_ID],
    responses={
        204: OpenApiResponse(None, "It is deleted."),
        (403, JSON): _REFUSED["write"],
        **errors(404),
    },
)


class ListLimitExtension(OpenApiSerializerFieldExtension):  # type: ignore[no-untyped-call]
    """Describes how many annotations may be listed."""

    target_class = ListLimitField

    @override
    def map_serializer_field(self, auto_schema: AutoSchema, direction: Direction) -> Schema:
        return {"type": "integer", "minimum": 1, "maximum": MOST_LISTED}


extend_schema_field(LINE)(LineField)
_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_INSTANT = r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{6})?Z"
extend_schema_field({"type": "string", "pattern": f"^{_INSTANT}/{_UUID}$"})(PlaceField)
