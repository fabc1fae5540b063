"""What schemathesis must be told: how to send NDJSON, and JSON as a text, and how to pack, and which rules the description can't hold."""

import gzip
import json
import zlib

import schemathesis
from requests.auth import AuthBase

from events.ingest.unpacking import zstd

# The description's patterns allow a 30th of February and numbers past all bounds. What is made of these is always valid.
_DAY = "(0[1-9]|1[0-2]){dash}(0[1-9]|1[0-9]|2[0-8])|[Ww](0[1-9]|[1-4][0-9]|5[0-2]){dash}[1-7]|[12][0-9][1-9]"
_TIME = (
    "[Tt ]([01][0-9]|2[0-3])(:[0-5][0-9](:[0-5][0-9]([.,][0-9]{1,9})?)?|[0-5]{4})?( ?([Zz]|[+-]0[0-9](:?[0-5][0-9])?))?"
)
_ISO_8601 = f"^[12][0-9]{{3}}(-({_DAY.format(dash='-')})({_TIME})?|({_DAY.format(dash='')}){_TIME})$"
_LINES = [
    *("application/x-ndjson", "application/ndjson", "application/jsonl"),
    *("application/x-jsonlines", "application/jsonlines"),
]


@schemathesis.hook
def before_load_schema(context, raw_schema):
    components = raw_schema["components"]["schemas"]
    components["Timestamp"]["anyOf"][1]["pattern"] = _ISO_8601
    components["TimestampText"]["anyOf"][1]["pattern"] = _ISO_8601
    components["TimestampText"]["anyOf"][2] = {
        "type": "string",
        "pattern": r"^(([+-][0-9]{1,10}|[1-9][0-9]{8,9})(\.[0-9]{0,20})?|[0-9]{1,4}\.[0-9]{0,20})$",
    }
    components["EventForm"]["properties"]["value"]["anyOf"][1]["pattern"] = (
        r"^[+-]?([0-9]{1,20}(\.[0-9]{0,20})?|\.[0-9]{1,20})([eE][+-]?[0-9]{1,2})?$"
    )
    [aggregate] = raw_schema["paths"]["/api/events/{namespace}/{name}"].values()
    [zone] = [parameter for parameter in aggregate["parameters"] if parameter["name"] == "timezone"]
    zone["schema"]["pattern"] = r"^(UTC|Europe/Berlin|America/St_Johns|Etc/GMT\+5)$"
    content = raw_schema["paths"]["/api/track/"]["post"]["requestBody"]["content"]
    for media_type in _LINES:
        content[media_type]["schema"] = {**components["Events"], "minItems": 1}
    content["text/plain"]["schema"] = content["application/json"]["schema"]


@schemathesis.serializer("text/plain")
def text(context, value):
    return value if isinstance(value, bytes | str) else json.dumps(value).encode()


@schemathesis.serializer(*_LINES)
def ndjson(context, value):
    if isinstance(value, bytes | str):
        return value
    return b"\n".join(json.dumps(item).encode() for item in (value if isinstance(value, list) else [value]))


class Packed(AuthBase):
    """Packs the body once it is made; requests asks it last."""

    def __init__(self, compress):
        self.compress = compress

    def __call__(self, request):
        body = request.body or b""
        request.body = self.compress(body.encode() if isinstance(body, str) else body)
        request.headers["Content-Length"] = str(len(request.body))
        return request


_CODINGS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress}


@schemathesis.hook
def before_call(context, case, kwargs):
    coding = (case.headers or {}).get("Content-Encoding")
    if coding in _CODINGS:
        kwargs["auth"] = Packed(_CODINGS[coding])


# JSON Schema has no word for how one parameter must be to another.
_BETWEEN_PARAMETERS = (
    b"Must not be later than tsMax.",
    b"Its calendar leaves the years 1 to 9999 in this window.",
    b"items; choose a shorter window",
    b"Must not be earlier than timestamp.",
    b"Must be the timestamp and the id of an annotation, with a slash between.",  # 30 February
)


@schemathesis.hook
def filter_failure(context, failure, case, response):
    # what is wrong with a question is said in its own answer
    if case.operation.path.endswith("/query/") and response.status_code == 200 and "questions" in (case.body or ()):
        return type(failure).__name__ != "AcceptedNegativeData"
    if case.operation.path in {"/api/annotations/{id}", "/api/boards/{token}/query/"} and response.status_code == 404:
        return False
    return response.status_code != 400 or not any(rule in response.content for rule in _BETWEEN_PARAMETERS)


@schemathesis.hook
def filter_query(context, query):
    """No parameter left empty, which is allowed: schemathesis doesn't read ``allowEmptyValue``.

    Nor a stream of all the minutes of thousands of years, which takes its time.
    """
    query = query or {}
    is_filled = query.get("fill", "none") != "none" and {"tsMin", "tsMax"} & query.keys()
    return "" not in query.values() and not (is_filled and query.get("format") in {"csv", "ndjson"})
