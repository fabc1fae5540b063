"""Owns the paths of the API, each with and without its trailing slash."""

from django.urls import re_path

from events.annotations.views import AnnotationsView, AnnotationView
from events.boards.public import PublicQueryView
from events.openapi.views import DocumentationView, SchemaView
from events.views import (
    AggregationView,
    CatalogueView,
    FiringsView,
    NamespaceCatalogueView,
    OverviewView,
    QueryView,
    StatisticsView,
    TrackView,
)

urlpatterns = [
    re_path(r"^track/?\Z", TrackView.as_view(), name="track"),
    re_path(r"^events/?\Z", CatalogueView.as_view(), name="catalogue"),
    re_path(r"^events/(?P<namespace>[^/]+)/?\Z", NamespaceCatalogueView.as_view(), name="namespace-catalogue"),
    re_path(r"^events/(?P<namespace>[^/]+)/(?P<name>[^/]+)/?\Z", AggregationView.as_view(), name="aggregation"),
    re_path(r"^query/?\Z", QueryView.as_view(), name="query"),
    re_path(r"^series/?\Z", OverviewView.as_view(), name="overview"),
    re_path(r"^series/(?P<namespace>[^/]+)/(?P<name>[^/]+)/?\Z", StatisticsView.as_view(), name="statistics"),
    re_path(r"^annotations/?\Z", AnnotationsView.as_view(), name="annotations"),
    re_path(r"^annotations/(?P<id>[^/]+)/?\Z", AnnotationView.as_view(), name="annotation"),
    re_path(r"^boards/(?P<token>[^/]+)/query/?\Z", PublicQueryView.as_view(), name="public-query"),
    re_path(r"^firings/?\Z", FiringsView.as_view(), name="firings"),
    re_path(r"^schema/?\Z", SchemaView.as_view(), name="api-schema"),
    re_path(r"^docs/?\Z", DocumentationView.as_view(), name="api-docs"),
]
