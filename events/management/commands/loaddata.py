"""``manage.py loaddata``: load fixtures as Django does, but never hand out an event's id for a second time."""

from collections.abc import Iterable

from django.core.management.commands import loaddata
from django.core.serializers.base import DeserializedObject
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from typing_extensions import override

from events.distribution import cluster
from events.models import Event
from events.rollups.marks import ORIGIN_BITS


class Command(loaddata.Command):
    @override
    def save_obj(self, obj: DeserializedObject) -> bool:
        """Save the object, unless it is an event that is stored just so: its buckets would be rebuilt for nothing."""
        event = obj.object
        # one without an id was looked for by its content, and is not stored
        if not isinstance(event, Event) or Event in self.excluded_models or event.pk is None:
            return super().save_obj(obj)
        # the service chooses the partition
        given = [field for field in Event._meta.concrete_fields if field.name != "partition"]
        fields = {field.attname: getattr(event, field.attname) for field in given}
        return Event.objects.using(self.using).filter(**fields).exists() or super().save_obj(obj)

    @override
    def reset_sequences(self, connection: BaseDatabaseWrapper, models: Iterable[type[Model]]) -> None:
        """Let the next id follow the highest stored one, but never let the next id of an event go back.

        Where the newest events were deleted, that id would lie below the watermark, and its event be in no answer.
        """
        super().reset_sequences(connection, set(models) - {Event})
        if Event in models and connection.vendor == "postgresql":
            if cluster.is_cluster():
                _raise_next_ids(connection)
            else:
                _raise_next_id(connection)


def _raise_next_id(connection: BaseDatabaseWrapper) -> None:
    table = Event._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence(%s, 'id')", [table])
        sequence = cursor.fetchone()[0]
        next_id = f"SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END FROM {sequence}"  # noqa: S608
        is_behind = f"FROM {table} HAVING max(id) >= ({next_id})"
        cursor.execute(f"SELECT 1 {is_behind}")
        if cursor.fetchone():  # the fixture has events with higher ids
            cursor.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")  # so that nobody takes an id meanwhile
            cursor.execute(f"SELECT setval(%s, max(id)) {is_behind}", [sequence])


def _raise_next_ids(connection: BaseDatabaseWrapper) -> None:
    """Do the same on each node of a cluster, for its own ids."""
    table = Event._meta.db_table
    # writers of every node wait meanwhile
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        sequence = f"pg_get_serial_sequence('{table}', 'id')::regclass"
        for group, last in cluster.ask_every_node(f"SELECT coalesce(pg_sequence_last_value({sequence}), 0)").items():
            start, end = group << ORIGIN_BITS, (group + 1) << ORIGIN_BITS
            cursor.execute(f"SELECT max(id) FROM {table} WHERE id > %s AND id < %s", [max(int(last), start), end])  # noqa: S608
            if newest := cursor.fetchone()[0]:
                is_its_own = f"(SELECT groupid FROM pg_dist_local_group) = {group}"  # noqa: S608
                cluster.ask_every_node(f"SELECT CASE WHEN {is_its_own} THEN setval({sequence}, {newest}) END")
