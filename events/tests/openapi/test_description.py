"""The substance of the description of the API: what clients are generated from changes on purpose only.

``description.json`` holds paths, parameters, bodies and schemas, without prose and examples. Where the API changes,
delete the file and run this test: it makes the file anew and fails once, and the difference is there to be read.
"""

import json
from pathlib import Path

import pytest
from rest_framework.test import APIClient

STORED = Path(__file__).with_name("description.json")
PROSE = {"description", "summary", "examples"}


def substance(described):
    """Leave out what is written for people, and the order of what has none."""
    if isinstance(described, list):
        return [substance(each) for each in described]
    if not isinstance(described, dict):
        return described
    kept = {key: substance(value) for key, value in described.items() if key not in PROSE}
    if isinstance(kept.get("required"), list):
        kept["required"].sort()
    return kept


def test_it_is_in_substance_what_it_was():
    described = APIClient().get("/api/schema/").json()
    del described["info"]["version"]
    if not STORED.exists():
        STORED.write_text(json.dumps(substance(described), indent=1, sort_keys=True) + "\n")
        pytest.fail(f"{STORED.name} is made anew: read how it differs, and run this again.")

    assert substance(described) == json.loads(STORED.read_text())
