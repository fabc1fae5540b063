"""Owns the endpoints. Each authenticates, validates, calls one thing and answers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any, cast

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_cache_control, patch_vary_headers
from django.utils.encoding import escape_uri_path
from django.utils.http import quote_etag
from rest_framework import serializers, status
from rest_framework.exceptions import APIException, PermissionDenied, ValidationError
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from typing_extensions import override

from events.access.grants import check_namespace, check_rows, readable_namespaces
from events.access.rate_limits import EVENTS, REQUESTS
from events.access.tokens import (
    BearerAuthentication,
    BrowserAuthentication,
    KnownToken,
    TokenHasScopeOrUserMayView,
    grant_of,
)
from events.aggregation.answer import Answer
from events.aggregation.catalogue import Catalogue, Series, answered
from events.aggregation.question import Question
from events.alerts.firings import firings
from events.alerts.lag import read_lag
from events.database import reading, replica
from events.database.snapshot import snapshot
from events.distribution.cluster import is_cluster
from events.http.fast_path.views import EndpointView, json_response
from events.http.negotiation import JSONUnlessNamed
from events.http.renderers import CSVRenderer, JSONRenderer, NDJSONRenderer, SeriesCSVRenderer, StreamRenderer
from events.ingest.decoding import Batch
from events.ingest.new_series import take_new_series
from events.ingest.parsers import (
    DocumentParser,
    EventFormParser,
    EventJSONParser,
    EventMultiPartParser,
    EventNDJSONParser,
    EventParser,
)
from events.ingest.store import idempotency_key_of, store
from events.log.namespace_patterns import Namespaces
from events.log.series import SeriesKey
from events.openapi import operations
from events.openapi.parts import ACCURACY_HEADER, READ_HEADER, SOURCES
from events.query.questions import questions_of
from events.query.replies import Replies
from events.serializers import (
    AggregationQuerySerializer,
    CatalogueQuerySerializer,
    FiringsQuerySerializer,
    NamespaceSerializer,
    OverviewQuerySerializer,
    SeriesPathSerializer,
    StatisticsQuerySerializer,
)
from events.series.overview import Overview
from events.series.statistics import statistics
from events.worker import pacing


def _validated(serializer_class: type[serializers.Serializer[Any]], data: Mapping[str, Any]) -> dict[str, Any]:
    serializer = serializer_class(data=data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


class TrackView(EndpointView):
    """``POST /api/track/``: store events."""

    required_scope = "write"
    parser_classes = [EventJSONParser, EventNDJSONParser, EventFormParser, EventMultiPartParser]

    @operations.track
    def post(self, request: Request) -> HttpResponse:
        """Store the events; answer 201 with the event or the number of events, once they are committed."""
        batch = cast(Batch, request.data or self._decode_nothing(request))
        check_rows(grant_of(request), batch.rows, single=batch.single)
        key = idempotency_key_of(request)
        give_back = EVENTS.take(request, self, len(batch.rows))
        try:
            take_new_series(request, self, batch.rows)
        except APIException:
            give_back()
            raise
        answer = store(batch, cast(KnownToken, request.auth).client, key)
        return json_response(answer, status.HTTP_201_CREATED)

    def _decode_nothing(self, request: Request) -> Batch:
        parsers = self.get_parsers()
        parser = self.get_content_negotiator().select_parser(request, parsers) if request.content_type else parsers[0]
        return cast(EventParser, parser).decode_nothing()


class ReadView(EndpointView):
    """A view that reads, for a token with the scope and for a user of the dashboard."""

    authentication_classes = [BearerAuthentication, BrowserAuthentication]
    permission_classes = [TokenHasScopeOrUserMayView]


class ReplicaView(ReadView):
    """A view that may read from the replica, where the request says so."""

    @property
    @override
    def default_response_headers(self) -> dict[str, str]:
        headers = super().default_response_headers
        return {**headers, "Vary": ", ".join([*filter(None, [headers.get("Vary")]), READ_HEADER])}

    def read(self, request: Request, answer: Callable[[], HttpResponseBase]) -> HttpResponseBase:
        """Answer from the database that the request chooses, and say from which one it was where it chooses any.

        Raises ValidationError for a header that isn't known.
        """
        wanted = request.META.get("HTTP_TRACKING_READ")
        if wanted not in {None, *SOURCES}:
            choices = ", ".join(SOURCES)
            raise ValidationError({READ_HEADER: [f"“{wanted}” is not accepted. Choose one of: {choices}."]})
        # the coordinator of a cluster doesn't know how far the standbys of the other nodes are
        response, source = replica.read_from("primary" if wanted is None or is_cluster() else wanted, answer)
        if wanted is not None:
            response[READ_HEADER] = str(source)
        return response


class AggregationView(ReplicaView):
    """``GET /api/events/<namespace>/<name>``: aggregates of one series."""

    required_scope = "aggregation"
    renderer_classes = [JSONRenderer, CSVRenderer, NDJSONRenderer]
    content_negotiation_class = JSONUnlessNamed

    @operations.aggregate
    def get(self, request: Request, namespace: str, name: str) -> HttpResponseBase:
        """Answer 200 with a list of ``{"aggregatedTimestamp", "value"}``, ordered by time; 304 where it's unchanged."""
        series = _validated(SeriesPathSerializer, {"namespace": namespace, "name": name})
        check_namespace(grant_of(request), self.required_scope, series["namespace"])
        query = _validated(AggregationQuerySerializer, request.query_params)
        response = self.read(request, partial(self._answer, request, Question(**series, **query)))
        patch_vary_headers(response, ["Accept", "Authorization", "Cookie"])
        patch_cache_control(response, private=True, no_cache=True)
        return response

    def _answer(self, request: Request, question: Question) -> HttpResponseBase:
        with snapshot():
            answer = Answer(question)
            etag = _etag(answer, request.accepted_renderer)
            response: HttpResponseBase = _not_modified(request, etag) or self._respond(
                answer, request.accepted_renderer
            )
        if not response.streaming:  # a long answer is still to be read
            _shorten_tail(answer)
        _mark(response, answer, etag)
        return response

    def _respond(self, answer: Answer, renderer: BaseRenderer) -> HttpResponseBase:
        if not isinstance(renderer, StreamRenderer):
            return Response(answer.items())
        answer.check_stream()
        response = StreamingHttpResponse(content_type=_content_type(renderer))
        response.streaming_content = reading.kept(self._lines(answer.question, renderer, response))
        return response

    def _lines(
        self, question: Question, renderer: StreamRenderer, response: HttpResponseBase
    ) -> Generator[bytes, None, None]:
        """Yield the lines of a long answer, which is read later and perhaps by another thread."""
        with snapshot():
            answer = Answer(question)
            items = answer.iterate()
            # the version of what is sent now, as an event may have come since the answer was made
            _mark(response, answer, _etag(answer, renderer))
            yield from renderer.lines(items)
        _shorten_tail(answer)


class QueryView(ReplicaView):
    """``POST /api/query/``: aggregates of several series in one round trip."""

    required_scope = "aggregation"
    parser_classes = [DocumentParser]
    throttle_classes = []  # counted by its questions

    @operations.query
    def post(self, request: Request) -> HttpResponseBase:
        """Answer 200 with a reply to each question, in their order; all are read in one snapshot."""
        questions = self._questions(request)
        allowed = [self.allowed(request, each) if isinstance(each, Question) else each for each in questions]
        return self.read(request, partial(self._answer, allowed))

    def allowed(self, request: Request, question: Question) -> Question | APIException:
        """Return the question, or the error that says why whoever asks may not ask it."""
        try:
            check_namespace(grant_of(request), self.required_scope, question.namespace)
        except PermissionDenied as error:
            return error
        return question

    def count(self, request: Request, questions: int) -> None:
        """Count so many questions against the limit of whoever asks. Raises what a rate limit does."""
        REQUESTS.take(request, self, questions, called="questions")

    def _questions(self, request: Request) -> list[Question | APIException]:
        try:
            questions = questions_of(request.data)
        except APIException:
            self.count(request, 1)
            raise
        self.count(request, len(questions))
        return questions

    def _answer(self, questions: list[Question | APIException]) -> HttpResponse:
        found = Replies(questions)
        if found.has_long_tail and not reading.is_of_replica():
            pacing.catch_up_in_background()
        response = json_response({"answers": found.replies}, status.HTTP_200_OK)
        patch_vary_headers(response, ["Authorization", "Cookie"])
        patch_cache_control(response, private=True, no_store=True)
        return response


class CatalogueView(ReplicaView):
    """``GET /api/events/``: the series there are."""

    required_scope = "read"
    renderer_classes = [JSONRenderer, SeriesCSVRenderer, NDJSONRenderer]
    content_negotiation_class = JSONUnlessNamed

    @operations.list_series
    def get(self, request: Request, namespace: str | None = None) -> HttpResponseBase:
        """Answer 200 with a list of series, ordered by namespace and name; a page has a link to the next one."""
        query = _validated(CatalogueQuerySerializer, request.query_params)
        catalogue = Catalogue(self._namespaces(request, namespace), search=query.get("search", ""))
        return self.read(request, partial(self._list, request, catalogue, query["limit"], query["after"]))

    def _list(
        self, request: Request, catalogue: Catalogue, limit: int | None, after: SeriesKey | None
    ) -> HttpResponseBase:
        renderer = request.accepted_renderer
        if limit is None and isinstance(renderer, StreamRenderer):
            lines = reading.kept(_lines_of(renderer, catalogue, after))
            return StreamingHttpResponse(lines, content_type=_content_type(renderer))
        page = catalogue.whole(after) if limit is None else catalogue.page(limit, after)
        response = self._answer(request, page.series)
        if page.has_more:
            response["Link"] = f'<{_uri_after(request, page.series[-1])}>; rel="next"'
        return response

    def head(self, request: Request, namespace: str | None = None) -> HttpResponseBase:
        """Answer with the headers alone; nothing is read for them, so there is no length and no link to a next page."""
        _validated(CatalogueQuerySerializer, request.query_params)
        self._namespaces(request, namespace)
        content_type = _content_type(request.accepted_renderer)
        return self.read(request, lambda: StreamingHttpResponse((), content_type=content_type))

    def _namespaces(self, request: Request, namespace: str | None) -> Namespaces:
        grant = grant_of(request)
        if namespace is None:
            return readable_namespaces(grant)
        chosen = _validated(NamespaceSerializer, {"namespace": namespace})["namespace"]
        check_namespace(grant, self.required_scope, chosen)
        return Namespaces(frozenset([chosen]), ())

    def _answer(self, request: Request, series: list[Series]) -> HttpResponseBase:
        renderer = request.accepted_renderer
        if isinstance(renderer, StreamRenderer):
            body = b"".join(renderer.lines(map(answered, series)))
            return HttpResponse(body, content_type=_content_type(renderer))
        return Response(list(map(answered, series)))


def _etag(answer: Answer, renderer: BaseRenderer) -> str:
    return quote_etag(f"{answer.version()}-{renderer.format}")


def _not_modified(request: Request, etag: str) -> HttpResponseBase | None:
    """Return a 304 for who has the version that an ETag names, else None.

    ``If-Match`` and ``If-Unmodified-Since`` are conditions of a change. An answer has no date, and its ETag may be
    weak, which the first never matches, so that Django would refuse a reading with either.
    """
    for condition in ("HTTP_IF_MATCH", "HTTP_IF_UNMODIFIED_SINCE"):
        request.META.pop(condition, None)
    return get_conditional_response(request._request, etag=etag)


def _mark(response: HttpResponseBase, answer: Answer, etag: str) -> None:
    """Say which version of the answer the response has, and how accurate it is where not all such answers are exact.

    A 304 says nothing of that, as nothing was read: a cache would take it for what is true of the answer that it keeps.
    """
    is_weak = response.get("ETag", "").startswith("W/")  # as a long answer, of which this is the second time, is packed
    response["ETag"] = f"W/{etag}" if is_weak else etag
    if answer.accuracy is not None and response.status_code != status.HTTP_304_NOT_MODIFIED:
        response[ACCURACY_HEADER] = answer.accuracy


def _lines_of(renderer: StreamRenderer, catalogue: Catalogue, after: SeriesKey | None) -> Generator[bytes, None, None]:
    yield from renderer.lines(map(answered, catalogue.iterate(after)))


def _shorten_tail(answer: Answer) -> None:
    if answer.has_long_tail and not reading.is_of_replica():
        pacing.catch_up_in_background()


class NamespaceCatalogueView(CatalogueView):
    """``GET /api/events/<namespace>``: the series of a namespace."""

    @operations.list_series_of_namespace
    @override
    def get(self, request: Request, namespace: str | None = None) -> HttpResponseBase:
        return super().get(request, namespace)


class OverviewView(ReadView):
    """``GET /api/series/``: a page of the series, with how each of them is going."""

    required_scope = "read"

    @operations.overview
    def get(self, request: Request) -> HttpResponseBase:
        """Answer 200 with a page of series and how many there are in all."""
        query = _validated(OverviewQuerySerializer, request.query_params)
        namespaces = readable_namespaces(grant_of(request))
        overview = Overview(namespaces, search=query.get("search", ""), with_hidden=query["hidden"] == "yes")
        total, page, pages, lines = overview.page(query["page"], query["order"])
        return json_response({"count": total, "page": page, "pages": pages, "series": lines}, status.HTTP_200_OK)


class StatisticsView(ReadView):
    """``GET /api/series/<namespace>/<name>``: what the events of a window are altogether."""

    required_scope = "aggregation"

    @operations.statistics
    def get(self, request: Request, namespace: str, name: str) -> HttpResponseBase:
        """Answer 200 with count, sum, average, least and most value, and what people say of the series."""
        series = _validated(SeriesPathSerializer, {"namespace": namespace, "name": name})
        check_namespace(grant_of(request), self.required_scope, series["namespace"])
        query = _validated(StatisticsQuerySerializer, request.query_params)
        found = statistics(Question(**series, **query))
        if found.has_long_tail:
            pacing.catch_up_in_background()
        return json_response({**series, **found.answered()}, status.HTTP_200_OK)


class FiringsView(ReadView):
    """``GET /api/firings/``: which alerts fired when."""

    required_scope = "read"

    @operations.list_firings
    def get(self, request: Request) -> HttpResponseBase:
        """Answer 200 with what fired in a window, and for how many seconds an evaluation of the alerts is due."""
        query = _validated(FiringsQuerySerializer, request.query_params)
        grant, series = grant_of(request), query.get("series")
        for key in series or ():
            check_namespace(grant, self.required_scope, key.namespace)
        found = firings(readable_namespaces(grant), series, query["ts_min"], query["ts_max"])
        lag = read_lag()
        return json_response({"lagSeconds": lag.rounded if lag else 0, "firings": found}, status.HTTP_200_OK)


def _content_type(renderer: BaseRenderer) -> str:
    return f"{renderer.media_type}; charset=utf-8" if isinstance(renderer, StreamRenderer) else str(renderer.media_type)


def _uri_after(request: Request, series: Series) -> str:
    """Build the address of the request's next page, which starts past a series."""
    query = request.query_params.copy()
    query["after"] = f"{series['namespace']}/{series['name']}"
    uri: str = request.build_absolute_uri(f"{escape_uri_path(request.path)}?{query.urlencode(safe='/')}")
    return uri
