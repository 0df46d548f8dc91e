"""The OpenAPI 3.1 document of what the gateway answers over HTTP (CONTRACT §1, §2, §3, §6).

The partner API's part is made from `partner.resources.OPERATIONS`, so that it cannot say another thing than the server
does. `POST /api` is judged by `resolve.wire`: the schema here restates its rules, and tests hold each limit against it.
"""

import functools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from edgeproxy import __version__
from edgeproxy.errors import Kind
from edgeproxy.partner import digest, handler
from edgeproxy.partner.resources import CDR_EXTENDED, LISTS, OPERATIONS, CustomFields, Fields, Operation, Paged
from edgeproxy.resolve import wire
from edgeproxy.resolve.handler import X_HTTP_STATUSES, X_SIGN

Tree = dict[str, Any]

_JSON, _XML, _TEXT = "application/json", "application/xml", "text/plain"
_FORM = handler.FORMS[0]
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$"

_ABOUT = """\
The gateway of call tracking: a signed page of numbers in, tracking numbers out, and a REST API over the same inventory.

The dynamic numbers API, `POST /api`, is on the edge port, which visitors reach. All else is on the manage port, which
serves this document; health is on both. `CONTRACT` names the project's wire contract, by section.
"""

_ABOUT_PARTNER = f"""\
The partner REST API (CONTRACT §3) over HTTPS, with HTTP Digest, from addresses that the account lists.

The fields of a GET or DELETE are its query's; those of a POST or PUT are its body's, as a form or as JSON. A DELETE
takes a form too. At most {handler.FIELDS_MOST} fields, in at most {handler.BODY_MOST} bytes. The ids of a path may
stand among the fields as well, if they are the same. Of JSON, numbers and flags are taken as their text; the values in
answers are texts.

Answers are JSON, or XML where `Accept` or an extension on the resource (`/customers.xml/1`) wants it. In XML the list
is the root, paging its attributes, and an empty element stands for null. HEAD is answered as GET is. A POST can stand
for another method by `_method` in the query or by `X-HTTP-Method-Override`.
"""

# What the partner API's fields mean, in requests and in answers.
_MEANINGS = {
    "alt_numbers": "further numbers of the source",
    "answered": "`1`: the call was answered",
    "anum": "the caller's number; its last three digits are `xxx`",
    "anum_md5": "a salted hash of the caller's number, the same for all its calls to this account",
    "bnum": "the tracking number that was called",
    "campaign_id": "the partner's campaign",
    "cdr_id": "the call record's id",
    "class": "the source's class",
    "cnum": "the destination that the call was put through to",
    "corporateid": "the customer's company number",
    "created": "when the source was made",
    "customer_id": "the customer's id",
    "customer_name": "the customer's name",
    "custnr": "the partner's own number for the customer",
    "datalength": "bytes of the sound",
    "destnr": "the destination that calls are put through to",
    "dncs_class_name": "kept for the partner; decides nothing here",
    "duration": "the call's length, in seconds",
    "duration_adjusted": "the call's length after adjustment, in seconds",
    "email": "an e-mail address",
    "expire": "when the source ends",
    "extended": "`1`: show also customer, source and session of each call",
    "freespee_caller_id": "kept for the partner; decides nothing here",
    "from_date": "calls that began then or later",
    "locked": "`1`: a source uses the greeting, so it cannot be deleted",
    "media": "where the number is shown, such as Google.com",
    "modified": "when the source was last changed",
    "name": "a name for people",
    "newest_first": "`1`: the last call first",
    "notify_on_missed_call": "`1`: missed calls are told by e-mail or text message",
    "page": "the page, from 0",
    "pagesize": "records on a page",
    "phonenr": "the tracking number",
    "quarantined": "`1`: the source was in quarantine when the call came",
    "receive_monthly_report": "kept for the partner; decides nothing here",
    "reserve_number": "`1`: the number is kept for later and serves no calls yet",
    "session_id": "the visitor's session, where the number was leased to one",
    "smsnumber": "where text messages go",
    "sounddata": "the sound, in base64",
    "source_class": "the source's class",
    "source_id": "the source's id",
    "source_media": "where the source's number is shown",
    "source_name": "the source's name",
    "start": "when the call began",
    "status": "where the source stands in its life",
    "timestamp": "of a source: when it begins to serve; of a greeting: when it was last changed",
    "to_date": "calls that began no later",
    "tracking_id": "the partner's id of the visitor, where there is one",
    "used_by": "the sources that use the greeting",
    "uuid": "the customer's UUID, made here",
    "vm_divert_all": "`1`: all calls go to the voicemail",
    "vm_divert_busy": "`1`: calls that find the destination busy go to the voicemail",
    "vm_divert_noanswer": "`1`: calls that are not answered go to the voicemail",
    "vm_greeting_id": "the voicemail greeting's id",
}
_CUSTOM = re.compile(r"custom_[0-9]+")
_CUSTOM_MEANING = "a field that the account has defined at set-up; others are refused"
_CUSTOMS = "^custom_([1-9]|1[0-9]|20)$"

# The ids are those of the documented examples, and of `edgeproxy demo`.
_EXAMPLES: dict[str, Any] = {
    "alt_numbers": ["+493012345601"],
    "campaign_id": "spring",
    "cdr_id": "1",
    "class": "0",
    "corporateid": "123",
    "custnr": "1412",
    "custom_1": "abc",
    "customer_id": "1",
    "destnr": "+493012345601",
    "email": "ads@example.com",
    "expire": "2036-01-31 23:59:59",
    "from_date": "2026-01-01",
    "media": "Google.com",
    "name": "DailyLoans",
    "page": "0",
    "pagesize": "100",
    "smsnumber": "+493012345601",
    "sounddata": "UklGRiQAAABXQVZF",
    "source_id": "643967",
    "status": "active",
    "timestamp": "2026-01-31 23:59:59",
    "to_date": "2036-12-31",
    "vm_greeting_id": "2",
}

# List in an answer → what one of its records is called, in the document and in XML.
_RECORDS = {
    "customers": ("Customer", "customer"),
    "sources": ("Source", "source"),
    "voicemail_greetings": ("VoicemailGreeting", "voicemail_greeting"),
    "cdrs": ("CallRecord", "cdr"),
}
_XML_ITEMS = {"alt_numbers": "alt_number", "used_by": "source_id"}
_MOMENTS = ("timestamp", "expire", "created", "modified", "start")
_SOMETIMES = (*CDR_EXTENDED, "sounddata")  # shown where they are asked for
_PAGING = {
    "total": "records on all pages",
    "page": "this page, from 0",
    "pagesize": "records on a page, at most",
    "numpages": "pages",
}

_TAGS = {
    "dynamic numbers": "The numbers of a page or an app, and what to show instead (CONTRACT §1, §2).",
    "customers": "The partner's clients (CONTRACT §3).",
    "sources": "Static tracking numbers that belong to customers (CONTRACT §3).",
    "voicemail_greetings": "What callers hear who reach a voicemail (CONTRACT §3).",
    "cdrs": "Call records (CONTRACT §3).",
    "miscellaneous": "Whether the API answers (CONTRACT §3).",
    "service": "For those who run the gateway (CONTRACT §6).",
}


@functools.cache
def document(version: str) -> Tree:
    """The document of a gateway whose partner API has that `version` in its paths; not to be changed."""
    paths: Tree = {"/api": _api(), **_service()}
    for operation in OPERATIONS:
        for path in operation.paths:
            paths.setdefault(f"/{version}/{path}", {})[operation.method.lower()] = _partner(operation, path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgeproxy",
            "version": __version__,
            "description": f"{_ABOUT}\n{_ABOUT_PARTNER}",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the manage port"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": {**_api_schemas(), **_partner_schemas()},
            "responses": _errors(),
            "securitySchemes": _security_schemes(),
        },
    }


def _ref(kind: str, name: str) -> Tree:
    return {"$ref": f"#/components/{kind}/{name}"}


def _closed(properties: Tree, required: Iterable[str], **more: Any) -> Tree:
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": False,
        **more,
    }


def _security_schemes() -> Tree:
    about = "The hex HMAC-SHA1 of the raw body, with a secret of the account (CONTRACT §1, Signature)."
    return {
        "digest": {
            "type": "http",
            "scheme": "digest",
            "description": f"RFC 7616 with {' or '.join(digest.OFFERED)} and `qop=auth` (CONTRACT §3, Access).",
        },
        "signature": {"type": "apiKey", "in": "header", "name": str(X_SIGN), "description": about},
        "signatureInQuery": {
            "type": "apiKey",
            "in": "query",
            "name": "sign",
            "description": f"{about} If the header is sent as well, both must be good.",
        },
    }


# POST /api ------------------------------------------------------------------------------------------------------------

# Field → most characters, as resolve.wire has it.
_TEXT_MOST = {
    "advId": 64,
    "fullUrl": 2048,
    "trackingId": 128,
    "fullReferrer": 2048,
    "userAgent": 1024,
    "requestIpAddress": 45,
    "sessionId": 64,
}
_DIMENSION_KEY_MOST = 64
_DIMENSION_MOST = 2048
_DIMENSIONS_MOST = {"custnr": 45, "custname": 60, "custemail": 150}
_WEB_REQUIRES = ("fullUrl", "userAgent", "requestIpAddress")  # not empty, of a page in a browser

_FAULT_STATUSES = {
    400: "The body is malformed or too large, or a field is missing or wrong.",
    403: "The signature, the limit of requests per second (CONTRACT §2) or the day's budget of points refuses it.",
    500: "The store did not answer in time, or a fault of ours.",
    501: "The account has neither pool nor source.",
}


def _texts(status: int) -> Iterator[Tree]:
    for kind in Kind:
        if kind.status == status:
            before, holds_detail, after = kind.text.partition("{}")
            yield {"pattern": f"^{before}.+{after}$"} if holds_detail else {"const": kind.text}


def _api_schemas() -> Tree:
    shown = _closed(
        {
            "number_on_page": {"type": "string", "description": "as it was sent, trimmed"},
            "replace_with": _closed(
                {
                    "e164": {"type": "string", "pattern": r"^\+[0-9]{5,20}$", "description": "the tracking number"},
                    "local": {"type": "string", "description": "the tracking number as a visitor is to see it"},
                },
                ("e164", "local"),
            ),
        },
        ("number_on_page", "replace_with"),
    )
    numbers = _closed(
        {
            "success": {"const": True},
            "numbers": {
                "type": "array",
                "items": shown,
                "description": "a number that nothing replaces is left out",
            },
            "sessionId": {"type": "string", "description": "to be sent with the visitor's next request"},
        },
        ("success", "numbers", "sessionId"),
    )
    faults = {
        f"Fault{status}": _closed(
            {"success": {"const": False}, "error": {"type": "string", "anyOf": list(_texts(status))}},
            ("success", "error"),
            description=about,
        )
        for status, about in _FAULT_STATUSES.items()
    }
    return {"PageOfNumbers": _page_schema(), "Numbers": numbers, **faults}


def _page_schema() -> Tree:
    """What `wire.check` takes. It takes null for an empty text too, which the contract does not promise."""
    about = {
        "advId": "the account",
        "fullUrl": "the page's URL",
        "trackingId": "the partner's id of the visitor",
        "fullReferrer": "where the visitor came from",
        "userAgent": "the visitor's `User-Agent`",
        "requestIpAddress": "the visitor's IP address, which may be anonymised",
        "sessionId": "from the last answer; empty or left out at first",
    }
    texts: Tree = {
        name: {"type": "string", "maxLength": most, "description": about[name]} for name, most in _TEXT_MOST.items()
    }
    texts["advId"]["minLength"] = 1
    blank = r"[^\s,]"  # what at least one number must hold
    numbers = {
        "description": f"the numbers of the page: comma separated, or an array; at most {wire.NUMBERS_MOST}",
        "oneOf": [
            {
                "type": "string",
                "pattern": f"^[^,]*(,[^,]*){{0,{wire.NUMBERS_MOST - 1}}}$",
                "allOf": [{"pattern": blank}],
            },
            {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": wire.NUMBERS_MOST,
                "contains": {"type": "string", "pattern": r"\S"},
            },
        ],
    }
    scalar = ["string", "number", "boolean"]
    parameters = {
        "type": "object",
        "description": "custom dimensions; numbers and booleans are kept as their JSON text",
        "maxProperties": wire.DIMENSIONS_MOST,
        "propertyNames": {"maxLength": _DIMENSION_KEY_MOST},
        "properties": {name: {"type": scalar, "maxLength": most} for name, most in _DIMENSIONS_MOST.items()},
        "additionalProperties": {"type": scalar, "maxLength": _DIMENSION_MOST},
    }
    return {
        "type": "object",
        "description": "A page or an app's screen, and who sees it. A NUL in a text, or a key that stands twice, makes "
        "the body malformed; unknown fields are ignored unless they are objects or arrays.",
        "properties": {
            "advId": texts.pop("advId"),
            "numbers": numbers,
            "type": {"enum": ["web", "app"], "description": "a page in a browser, or an app"},
            **texts,
            "parameters": parameters,
            "dryRun": {"type": "boolean", "description": "answer, and lease nothing", "default": False},
        },
        "required": ["advId", "numbers", "type", "fullUrl", "trackingId", "fullReferrer", "parameters"],
        "additionalProperties": {"type": [*scalar, "null"]},
        "if": {"properties": {"type": {"const": "web"}}},
        "then": {
            "properties": {name: {"minLength": 1} for name in _WEB_REQUIRES},
            "required": list(_WEB_REQUIRES),
        },
        "examples": [
            {
                "advId": "demo",
                "numbers": "+493015981100",
                "type": "web",
                "fullUrl": "https://www.example.com/cars/42?utm_source=newsletter",
                "trackingId": "visitor-1",
                "fullReferrer": "https://www.example.com/",
                "parameters": {"custnr": "1412", "custname": "Autohaus Mitte"},
                "userAgent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "requestIpAddress": "203.0.113.7",
                "sessionId": "",
            }
        ],
    }


def _api() -> Tree:
    policy = {
        "RateLimit-Policy": _header("the limits: requests of an IP per second, points of the account per day"),
        "RateLimit": _header("what is left of them"),
    }
    again = {"Retry-After": _header("seconds after which trying again can help")}
    statuses: Tree = {
        "200": {
            "description": f"The numbers to show; without `{X_HTTP_STATUSES}` every error too.",
            "headers": policy | again,
            "content": {
                _JSON: {
                    "schema": {
                        "oneOf": [
                            _ref("schemas", name)
                            for name in ("Numbers", *(f"Fault{status}" for status in _FAULT_STATUSES))
                        ]
                    }
                }
            },
        }
    }
    headers = {403: policy | again, 500: policy, 501: policy}
    for status, about in _FAULT_STATUSES.items():
        statuses[str(status)] = {
            "description": f"{about} Only with `{X_HTTP_STATUSES}`.",
            **({"headers": headers[status]} if status in headers else {}),
            "content": {_JSON: {"schema": _ref("schemas", f"Fault{status}")}},
        }
    statuses["408"] = _plain("The body did not arrive in time.")
    edge = {"default": "edge.example.com", "description": "host and port that visitors' requests reach"}
    return {
        "servers": [{"url": "https://{edge}", "description": "the edge port", "variables": {"edge": edge}}],
        "post": {
            "operationId": "post_api",
            "tags": ["dynamic numbers"],
            "summary": "Ask for the tracking numbers to show instead of a page's numbers",
            "description": "The same session and number on the page give the same tracking number while the lease "
            "lives, and each request renews it (CONTRACT §1). The content type is not enforced.",
            "security": [{"signature": []}, {"signatureInQuery": []}],
            "parameters": [
                {
                    "name": str(X_HTTP_STATUSES),
                    "in": "header",
                    "schema": {"type": "string"},
                    "description": "whatever its value, errors get their status; without it everything is 200",
                }
            ],
            "requestBody": {
                "required": True,
                "description": f"A JSON object of at most {wire.BODY_MOST} bytes.",
                "content": {_JSON: {"schema": _ref("schemas", "PageOfNumbers")}},
            },
            "responses": statuses,
        },
    }


def _header(about: str) -> Tree:
    return {"description": about, "schema": {"type": "string"}}


def _plain(about: str) -> Tree:
    return {"description": about, "content": {_TEXT: {"schema": {"type": "string"}}}}


# Service --------------------------------------------------------------------------------------------------------------


def _service() -> Tree:
    def get(name: str, summary: str, description: str, responses: Tree) -> Tree:
        operation = {"operationId": f"get_{name}", "tags": ["service"], "summary": summary, "security": []}
        return {"get": {**operation, "description": description, "responses": responses}}

    return {
        "/healthz": get(
            "healthz", "Tell that the process is alive", "On both ports. Touches nothing.", {"200": _plain("It is.")}
        ),
        "/readyz": get(
            "readyz",
            "Tell whether to send traffic here",
            "On both ports. Fails until the store has answered once, and while the gateway drains.",
            {"200": _plain("Yes."), "503": _plain("Not yet, or no more.")},
        ),
        "/metrics": get(
            "metrics",
            "Read the metrics",
            "On the manage port, in Prometheus' text format, summed over the workers.",
            {"200": _plain("The metrics.")},
        ),
        "/openapi.json": get(
            "openapi",
            "Read this document",
            "On the manage port.",
            {"200": {"description": "This document.", "content": {_JSON: {"schema": {"type": "object"}}}}},
        ),
        "/docs": get(
            "docs",
            "Read this document as a page",
            "On the manage port.",
            {"200": {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}},
        ),
    }


# The partner API ------------------------------------------------------------------------------------------------------

_ERRORS = {
    "400": "A field is missing, unknown or wrong (all are told at once), or the request as a whole is malformed.",
    "403": "Refused: a record is in use, its status does not allow this, no number is free, this is plain HTTP, or "
    "too many logins from this address have failed.",
    "404": "There is no such record, resource, version or format.",
    "405": "The resource does not have this method.",
    "500": "A fault of ours.",
    "501": "The method is not implemented.",
    "503": "The store does not answer, or it is not known whether a change is safe on disk.",
}


def _errors() -> Tree:
    headers = {
        "403": {"Retry-After": _header("seconds, after too many failed logins")},
        "405": {"Allow": _header("the methods that the resource has")},
    }
    errors: Tree = {
        f"Error{status}": {
            "description": about,
            **({"headers": headers[status]} if status in headers else {}),
            "content": {
                _JSON: {"schema": _ref("schemas", "Errors")},
                _XML: {"schema": _ref("schemas", "ErrorsXML")},
            },
        }
        for status, about in _ERRORS.items()
    }
    errors["Error401"] = {
        **_plain("No credentials, none that are good, or an address that the account does not list. It is not JSON."),
        "headers": {"WWW-Authenticate": _header("a Digest challenge for each algorithm, the preferred one first")},
    }
    return dict(sorted(errors.items()))


def _partner_schemas() -> Tree:
    schemas: Tree = {"Ping": _closed({"ping": {"const": "ok"}}, ("ping",))}
    schemas["PingXML"] = {**schemas["Ping"], "xml": {"name": "miscellaneous"}}
    lines = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    schemas["Errors"] = _closed({"errors": {**lines, "description": "what is wrong, line by line"}}, ("errors",))
    schemas["ErrorsXML"] = _closed({"error": lines}, ("error",), xml={"name": "errors"})
    for operation in OPERATIONS:
        if operation.gives is not None and _RECORDS[operation.gives[0]][0] not in schemas:
            schemas |= _answer_schemas(*operation.gives)
        if operation.method in ("POST", "PUT"):
            for path in operation.paths:
                for as_form in (False, True):
                    schemas[_body_name(operation, path, as_form=as_form)] = _body_schema(
                        operation, path, as_form=as_form
                    )
    return schemas


def _answer_schemas(listed: str, fields: tuple[str, ...]) -> Tree:
    """A record, and the lists of such records: whole, or a page; in JSON, or in XML."""
    name, element = _RECORDS[listed]
    models = [operation.fields for operation in OPERATIONS if operation.gives and operation.gives[0] == listed]
    record = _closed(
        {field: _shown(field) for field in fields},
        (field for field in fields if field not in _SOMETIMES),
        xml={"name": element},
    )
    if any(issubclass(model, CustomFields) for model in models):
        record["patternProperties"] = {_CUSTOMS: {"type": ["string", "null"], "description": _CUSTOM_MEANING}}
    schemas: Tree = {name: record}
    for suffix, member, as_root, as_attribute in (
        ("", listed, {}, {}),
        ("XML", element, {"xml": {"name": listed}}, {"xml": {"attribute": True}}),
    ):
        records = {"type": "array", "items": _ref("schemas", name)}
        required = () if suffix else (member,)  # in XML, a list without records has no elements
        schemas[f"{name}List{suffix}"] = _closed({member: records}, required, **as_root)
        if any(issubclass(model, Paged) for model in models):
            paging = {
                field: {"type": "integer", "minimum": 0, "description": about} | as_attribute
                for field, about in _PAGING.items()
            }
            schemas[f"{name}Page{suffix}"] = _closed({**paging, member: records}, (*_PAGING, *required), **as_root)
    return schemas


def _shown(field: str) -> Tree:
    """A field of a record in an answer."""
    if field in LISTS:
        item = {"type": "string", "xml": {"name": _XML_ITEMS[field]}}
        schema: Tree = {"type": "array", "items": item, "xml": {"wrapped": True}}
    else:
        schema = {"type": ["string", "null"]}
    if field in _MOMENTS:
        schema["pattern"] = _MOMENT
    return schema | {"description": _MEANINGS[field] + (", UTC" if field in _MOMENTS else "")}


def _ids(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _partner(operation: Operation, path: str) -> Tree:
    ids, required = _ids(path), _json_schema(operation.fields).get("required", ())
    taken = _taken(operation, as_form=False)
    parameters = [_parameter(name, "path", taken[name], required=True) for name in ids]
    tree: Tree = {
        "operationId": "_".join([operation.method.lower(), *re.findall(r"\w+", path)]),
        "tags": [operation.gives[0] if operation.gives else path.partition("/")[0]],
        "summary": operation.summary,
        "security": [{"digest": []}],
    }
    if operation.method in ("POST", "PUT"):
        tree["requestBody"] = {
            "required": any(name not in ids for name in required),
            "content": {
                kind: {"schema": _ref("schemas", _body_name(operation, path, as_form=kind == _FORM))}
                for kind in (_FORM, _JSON)
            },
        }
    elif taken:
        tree["description"] = _json_schema(operation.fields)["description"]
        parameters += [
            _parameter(name, "query", schema, required=name in required)
            for name, schema in taken.items()
            if name not in ids
        ]
    answers = {kind: {"schema": _answer(operation, path, kind)} for kind in (_JSON, _XML)}
    return tree | {
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": answers},
            **{status: _ref("responses", f"Error{status}") for status in sorted((*_ERRORS, "401"))},
        },
    }


def _parameter(name: str, where: str, schema: Tree, *, required: bool) -> Tree:
    rules = {key: value for key, value in schema.items() if key != "description"}
    return {
        "name": name, "in": where, "required": required, "schema": rules, "description": schema["description"],
    }  # fmt: skip


def _answer(operation: Operation, path: str, kind: str) -> Tree:
    suffix = "XML" if kind == _XML else ""
    if operation.gives is None:
        return _ref("schemas", f"Ping{suffix}")
    name = _RECORDS[operation.gives[0]][0]
    whole = _ref("schemas", f"{name}List{suffix}")
    if not issubclass(operation.fields, Paged) or _ids(path):
        return whole
    # What is asked for by its id, in the query too, comes without paging.
    return {"oneOf": [_ref("schemas", f"{name}Page{suffix}"), whole]}


def _body_name(operation: Operation, path: str, *, as_form: bool) -> str:
    """`NewGreeting`, or `NewGreetingByPath` where the path holds ids; either with `Form` for a form."""
    return operation.fields.__name__ + ("ByPath" if _ids(path) else "") + ("Form" if as_form else "")


def _body_schema(operation: Operation, path: str, *, as_form: bool) -> Tree:
    ids, model = _ids(path), _json_schema(operation.fields)
    return _closed(
        {name: schema for name, schema in _taken(operation, as_form=as_form).items() if name not in ids},
        (name for name in model.get("required", ()) if name not in ids),
        description=model["description"],
    )


@functools.cache
def _json_schema(model: type[Fields]) -> Tree:
    return model.model_json_schema(by_alias=True)


def _taken(operation: Operation, *, as_form: bool) -> Tree:
    """The schemas of an operation's fields, as its pydantic model checks them: in JSON, query or path, or in a form."""
    in_body = operation.method in ("POST", "PUT")
    model = _json_schema(operation.fields)
    taken: Tree = {}
    required = model.get("required", ())
    for name in sorted(model["properties"], key=lambda name: (name not in required, bool(_CUSTOM.fullmatch(name)))):
        schema = model["properties"][name]
        nullable = "anyOf" in schema  # which only `X | None` makes
        rules = {key: rule for key, rule in schema.items() if key not in ("anyOf", "default", "title", "description")}
        rules |= schema["anyOf"][0] if nullable else {}
        told = [_CUSTOM_MEANING if _CUSTOM.fullmatch(name) else _MEANINGS[name]]
        told += [text for text in (schema.get("description"), rules.pop("description", None)) if text]
        example, default = _EXAMPLES.get(name), schema.get("default")
        if nullable and in_body:
            told.append("empty for none" if as_form else "empty or null for none")
            rules.pop("minLength", None)
            if "pattern" in rules:
                rules["pattern"] = f"^$|{rules['pattern']}"
            if not as_form:
                rules["type"] = [rules["type"], "null"]
        elif rules["type"] == "array" and as_form:
            told.append(f"comma separated, at most {rules['maxItems']}")
            each = f"[^,]{{0,{rules['items']['maxLength']}}}"
            rules = {"type": "string", "pattern": f"^{each}(,{each}){{0,{rules['maxItems'] - 1}}}$"}
            example, default = ",".join(example or ()), None
        if default is not None and operation.method != "PUT":  # what a PUT does not send is kept
            rules["default"] = default
        if example:
            rules["examples"] = [example]
        taken[name] = rules | {"description": "; ".join(told)}
    return taken
