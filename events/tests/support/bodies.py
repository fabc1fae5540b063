"""Events as clients send them, and as a stored one is answered."""

ORDER = {"namespace": "Shop", "name": "order", "timestamp": "2020-11-12T11:10:00Z", "value": 142.0}
PAGE_VIEW = {"namespace": "Frontend", "name": "pageView", "timestamp": "2020-11-12T11:10:00Z", "value": 142.5}
SMALL = {"namespace": "a", "name": "b", "timestamp": 0, "value": 1}
