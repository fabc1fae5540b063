"""The same contract in the plain way, to measure against: serializer, ``save()``, no cache."""
