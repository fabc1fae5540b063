"""Owns what the querysets of all tables with a partition share: choosing rows by series or by partition."""

from __future__ import annotations

from typing import Self, TypeVar

from django.db import models

from events.database import partitions

_Row = TypeVar("_Row", bound=models.Model)


class PartitionedQuerySet(models.QuerySet[_Row]):
    """Rows with a namespace, a name and the partition that follows from both; each method chains."""

    def of_series(self, namespace: str, name: str) -> Self:
        """Choose the rows of one series."""
        return self.of_partition(partitions.partition_of(namespace, name)).filter(namespace=namespace, name=name)

    def of_partition(self, partition: int | None) -> Self:
        """Choose the rows of one partition; all of them where there is a single one, which is None."""
        return self if partition is None else self.filter(partition=partition)
