"""The track endpoint, as a tutorial has it."""

from django.urls import path
from oauth2_provider.contrib.rest_framework import TokenHasScope
from rest_framework import generics, serializers

from benchmarks.plain.models import Event


class EventSerializer(serializers.ModelSerializer):
    """One event."""

    class Meta:
        model = Event
        fields = ("namespace", "name", "timestamp", "value")


class TrackView(generics.CreateAPIView):
    """Stores an event."""

    serializer_class = EventSerializer
    permission_classes = [TokenHasScope]
    required_scopes = ["write"]


urlpatterns = [path("api/track/", TrackView.as_view())]
