"""Owns the endpoints of annotations."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.http import Http404, HttpResponse
from django.utils.cache import patch_cache_control
from django.utils.encoding import escape_uri_path
from rest_framework import status
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.views import APIView
from typing_extensions import override

from events.access.grants import check_namespace, readable_namespaces
from events.access.models import Grant
from events.access.tokens import (
    VIEW_EVENTS,
    BearerAuthentication,
    BrowserAuthentication,
    TokenHasScope,
    grant_of,
    known_token,
)
from events.annotations import operations
from events.annotations.models import Annotation
from events.annotations.serializers import AnnotationListSerializer, AnnotationSerializer, PlaceField
from events.annotations.store import store
from events.http.fast_path.views import EndpointView, json_response
from events.ingest.parsers import DocumentParser
from events.ingest.store import idempotency_key_of
from events.log.namespace_patterns import Namespaces

_VERBS = {"POST": "add", "PATCH": "change", "DELETE": "delete"}


class MayAnnotate(TokenHasScope):
    """Allows a token with the scope, and a signed-in user with the permission that the method needs."""

    @override
    def has_permission(self, request: Request, view: APIView) -> bool:
        if request.auth is not None or not request.user.is_authenticated:
            return super().has_permission(request, view)
        verb = _VERBS.get(request.method or "")
        self.message = f"You lack the permission to {f'{verb} annotations' if verb else 'view events'}."
        permission = f"events.{verb}_annotation" if verb else VIEW_EVENTS
        return request.user.has_perms([VIEW_EVENTS, permission])


class AnnotationEndpoint(EndpointView):
    """A view of annotations, for tokens and for users of the dashboard."""

    authentication_classes = [BearerAuthentication, BrowserAuthentication]
    permission_classes = [MayAnnotate]
    parser_classes = [DocumentParser]

    @property
    def required_scope(self) -> str:
        """Return the scope that the request's method needs."""
        return "read" if self.request.method in SAFE_METHODS else "write"


class AnnotationsView(AnnotationEndpoint):
    """``/api/annotations/``: list and add annotations."""

    @operations.list_annotations
    def get(self, request: Request) -> HttpResponse:
        """Answer 200 with the annotations that are asked for and may be read; a page has a link to the next one."""
        query = AnnotationListSerializer(data=request.query_params)
        query.is_valid(raise_exception=True)
        chosen = query.validated_data
        annotations = Annotation.objects.in_namespaces(readable_namespaces(grant_of(request)))
        if namespaces := chosen.get("namespace"):
            for namespace in namespaces:
                check_namespace(grant_of(request), self.required_scope, namespace)
            annotations = annotations.in_namespaces(Namespaces(frozenset(namespaces), ()))
        annotations = annotations.within(chosen["ts_min"], chosen["ts_max"]).with_tags(chosen.get("tag", ()))
        limit = chosen["limit"]
        found = list(annotations.in_order(chosen["after"])[: limit + 1])
        response = _answer([each.answered() for each in found[:limit]])
        if len(found) > limit:
            response["Link"] = f'<{_uri_after(request, found[limit - 1])}>; rel="next"'
        return response

    @operations.add_annotation
    def post(self, request: Request) -> HttpResponse:
        """Store an annotation; answer 201 with it, as it is stored."""
        serializer = AnnotationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        annotation = serializer.changed()
        check_namespace(grant_of(request), self.required_scope, annotation.namespace)
        known = known_token(request)
        store(annotation, known.client if known else f"user {request.user.pk}", idempotency_key_of(request))
        return _answer(annotation.answered(), status.HTTP_201_CREATED)


class AnnotationView(AnnotationEndpoint):
    """``/api/annotations/<id>``: read, change and delete one annotation."""

    @operations.read_annotation
    def get(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  # as the API calls it
        """Answer 200 with the annotation."""
        return _answer(self._find(request, id).answered())

    @operations.change_annotation
    def patch(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  # as the API calls it
        """Change the fields that are given; answer 200 with the annotation as it is now."""
        given = request.data  # all of it has come before the row is locked
        with transaction.atomic():
            serializer = AnnotationSerializer(self._find(request, id), data=given, partial=True)
            serializer.is_valid(raise_exception=True)
            changed = serializer.changed()
            check_namespace(grant_of(request), self.required_scope, changed.namespace)
            changed.save(force_update=True)
        return _answer(changed.answered())

    @operations.delete_annotation
    def delete(self, request: Request, id: str) -> HttpResponse:  # noqa: A002  # as the API calls it
        """Delete the annotation; answer 204."""
        with transaction.atomic():
            self._find(request, id).delete()
        return HttpResponse(status=status.HTTP_204_NO_CONTENT)

    def _find(self, request: Request, key: str) -> Annotation:
        """Find the annotation; to be changed, it is locked, so that what others change at the same time is kept.

        Raises Http404, and PermissionDenied where the client may read it and no more.
        """
        grant = grant_of(request)
        found = Annotation.objects.all() if request.method in SAFE_METHODS else Annotation.objects.select_for_update()
        try:
            annotation = found.filter(key=UUID(key)).first()
        except ValueError:
            annotation = None
        # who can't see it must not learn that it is there, nor of which namespace
        if annotation is None or (grant and not _is_known_to(grant, annotation, {"read", self.required_scope})):
            raise Http404
        check_namespace(grant, self.required_scope, annotation.namespace)
        return annotation


def _is_known_to(grant: Grant, annotation: Annotation, scopes: set[str]) -> bool:
    return any(annotation.namespace in grant.namespaces(scope) for scope in scopes)


def _answer(data: object, code: int = status.HTTP_200_OK) -> HttpResponse:
    response = json_response(data, code)
    patch_cache_control(response, private=True, no_store=True)
    return response


def _uri_after(request: Request, annotation: Annotation) -> str:
    query = request.query_params.copy()
    query["after"] = PlaceField.text_of(annotation.place)
    uri: str = request.build_absolute_uri(f"{escape_uri_path(request.path)}?{query.urlencode(safe='/:')}")
    return uri
