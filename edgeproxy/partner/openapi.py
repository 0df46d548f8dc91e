"""The partner REST API for machines, from `partner.resources.OPERATIONS`, so that it cannot say another thing than the
server does.
"""

import functools
import re
from typing import Any

from edgeproxy.accounts import moments
from edgeproxy.http.openapi.tree import JSON, XML, Tree, closed, header, like, plain, ref, sample
from edgeproxy.partner import digest, samples, wire
from edgeproxy.partner.resources import OPERATIONS
from edgeproxy.partner.resources.cdrs import CDR_EXTENDED
from edgeproxy.partner.resources.fields import CustomFields, Fields, Paged
from edgeproxy.partner.resources.operation import BODY_MOST, SMALL_BODY_MOST, Operation
from edgeproxy.partner.resources.records import LISTS

GROUP = "Partner REST API"
ABOUT = f"""\
For partners' servers: their customers, the static tracking numbers that these have (sources), greetings, and records of
calls.

A request comes over HTTPS, from an address that the account lists, with a user and a password by HTTP Digest. The demo
takes plain HTTP too.

The fields of a GET or DELETE stand in the query, those of a POST or PUT in the body: as a form, or as JSON. A DELETE
takes a form too. Filters that are sent together must all hold. The ids of a path may stand among the fields as well, if
they are the same. Of JSON, numbers and flags are taken as their text; the values in answers are texts. There are at
most {wire.FIELDS_MOST} fields, in at most {SMALL_BODY_MOST} bytes, or {BODY_MOST} with a `sounddata`; a body may be
coded by gzip or deflate.

Answers are JSON, or XML where `Accept` or an extension on the resource (`/customers.xml/1`) wants it. In XML the list
is the root, paging its attributes, and an empty element stands for null. HEAD is answered as GET is. A POST can stand
for another method by `_method` in the query or by `X-HTTP-Method-Override`.
"""

TAGS = {
    "customers": "The partner's clients.",
    "sources": "Static tracking numbers that belong to customers.",
    "voicemail_greetings": "What callers hear who reach a voicemail.",
    "cdrs": "Call records.",
    "recordings": "Recordings of calls: this gateway makes none, and answers clients that look for them.",
    "miscellaneous": "Whether the API answers.",
}
SECURITY: Tree = {
    "digest": {
        "type": "http",
        "scheme": "digest",
        "description": f"RFC 7616 with {' or '.join(digest.OFFERED)} and `qop=auth`.",
    }
}

_FORM = wire.FORMS[0]
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}$"

# Rule of a field → the same in words.
_IN_WORDS = {
    r"^(0|[1-9][0-9]{0,11})$": "at most 12 digits, no 0 before others",
    r"^(0|[1-9][0-9]{0,2})$": "`0` to `999`",
    r"^([1-9][0-9]{0,2}|1000)$": "`1` to `1000`",
    r"^[0-9]{1,9}$": "at most 9 digits",
    r"^[01]$": "`0` or `1`",
    r"^[012]$": "`0`, `1` or `2`",
    moments.PATTERN: "a moment",
}

# What the partner API's fields mean, in requests and in answers.
_MEANINGS = {
    "address_city": "of the customer's address: the city",
    "address_country": "of the customer's address: the country",
    "address_state": "of the customer's address: the state or region",
    "address_street": "of the customer's address: street and house number",
    "address_zip": "of the customer's address: the postal code",
    "alt_numbers": "further numbers of the source",
    "answered": "`1`: the call was answered",
    "anum": "the caller's number, its last three digits as `xxx`; `anonymous` if it is withheld; null if none is known",
    "anum_md5": "a salted hash of the caller's number, the same for all its calls to this account; null without one",
    "anum_ndc_name": "the region of the caller's number; not known here",
    "bnum": "the tracking number that was called",
    "campaign_id": "the partner's campaign",
    "cdr_id": "the call record's id",
    "class": "the source's class",
    "cli_id": "not known here",
    "cnum": "the destination that the call was put through to",
    "commission": "not known here",
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
    "expired": "`1`: the recording is kept no more",
    "extended": "`1`: show also customer, source, session, first touch and last page of each call",
    "fbclid": "Meta's click id of the first page",
    "first_at": "when the visit's first page was",
    "first_parameters": "the first page's custom dimensions, a JSON object",
    "first_referrer": "the first page's referrer",
    "first_url": "the first page's URL",
    "freespee_caller_id": "kept for the partner; decides nothing here",
    "from_date": "calls that began then or later",
    "gbraid": "Google's click id of the first page, from an app to the web",
    "gclid": "Google's click id of the first page",
    "last_after_call": "`1`: the last page that was known came after the call; `0`: before",
    "last_at": "when the last page was that was known as the call was told of",
    "last_referrer": "that page's referrer",
    "last_url": "that page's URL",
    "locked": "`1`: a source uses the greeting, so it cannot be deleted",
    "media": "where the number is shown, such as Google.com",
    "modified": "when the source was last changed",
    "msclkid": "Microsoft's click id of the first page",
    "name": "a name for people",
    "newest_first": "`1`: the last call first",
    "notify_on_missed_call": "`1`: missed calls are told by e-mail or text message",
    "order_id": "not known here",
    "page": "the page, from 0",
    "parameters": "the custom dimensions of all pages, the latest of each name, a JSON object",
    "pagesize": "records on a page",
    "partner_campaign_id": "not known here",
    "partner_publisher_id": "not known here",
    "phonenr": "the tracking number",
    "pricing_model_id": "not known here",
    "publisher_id": "not known here",
    "quarantined": "`1`: the source was in quarantine when the call came",
    "receive_monthly_report": "kept for the partner; decides nothing here",
    "recording_id": "the recording's id",
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
    "timestamp": "of a source: when it begins to serve; of a greeting: when it was last changed; of a recording: when "
    "it was made",
    "to_date": "calls that began no later; a day without a time is taken in whole",
    "tracking_id": "the partner's id of the visitor, where there is one",
    "ttclid": "TikTok's click id of the first page",
    "used_by": "the sources that use the greeting",
    "utm_campaign": "of the first page",
    "utm_content": "of the first page",
    "utm_medium": "of the first page",
    "utm_source": "of the first page",
    "utm_term": "of the first page",
    "uuid": "the customer's UUID, made here",
    "vm_divert_all": "`1`: all calls go to the voicemail",
    "vm_divert_busy": "`1`: calls that find the destination busy go to the voicemail",
    "vm_divert_noanswer": "`1`: calls that are not answered go to the voicemail",
    "vm_greeting_id": "the voicemail greeting's id",
    "wbraid": "Google's click id of the first page, from the web to an app",
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
    "recordings": ("Recording", "recording"),
}
_XML_ITEMS = {"alt_numbers": "alt_number", "used_by": "source_id"}
_MOMENTS = ("timestamp", "expire", "created", "modified", "start", "first_at", "last_at")
_SOMETIMES = (*CDR_EXTENDED, "sounddata")  # shown where they are asked for
_PAGING = {
    "total": "records on all pages",
    "page": "this page, from 0",
    "pagesize": "records on a page, at most",
    "numpages": "pages",
}

# Status → when it is the answer, and what to do.
_ERRORS = {
    "400": "A field is missing, unknown or wrong (all are told at once), or the request as a whole is malformed. "
    "Mend what `errors` names.",
    "403": "Refused: a record is in use, its status does not allow this, no number is free, this is plain HTTP, or "
    "too many logins from this address have failed. `errors` says which: end what uses the record, look at its "
    "`status`, have numbers added, use HTTPS, or wait as long as `Retry-After` says.",
    "404": "There is no such record, resource, version or format. Check the id, and the version in the path.",
    "405": "The resource does not have this method. `Allow` names those it has.",
    "415": "The body's `Content-Encoding` is another one than gzip or deflate. Send it as it is, or in one of these.",
    "500": "A fault of ours. Tell those who run the gateway: its log says why.",
    "501": "The method is not implemented. Use GET, HEAD, POST, PUT or DELETE.",
    "503": "The store does not answer, or it is not known whether a change is safe on disk. Look whether it was made "
    "before you repeat it.",
}


def paths(version: str) -> Tree:
    """Each path with its methods; that `version` stands before all."""
    found: Tree = {}
    for operation in OPERATIONS:
        for path in operation.paths:
            tree = _operation(operation, path)
            tree["x-codeSamples"] = [sample(samples.line(version, operation.method, path))]
            found.setdefault(f"/{version}/{path}", {})[operation.method.lower()] = tree
    return found


def responses() -> Tree:
    """The errors, which all operations share."""
    headers = {
        "403": {"Retry-After": header("seconds, after too many failed logins")},
        "405": {"Allow": header("the methods that the resource has")},
    }
    errors: Tree = {
        f"Error{status}": {
            "description": about,
            **({"headers": headers[status]} if status in headers else {}),
            "content": {
                JSON: {"schema": ref("schemas", "Errors")},
                XML: {"schema": ref("schemas", "ErrorsXML")},
            },
        }
        for status, about in _ERRORS.items()
    }
    errors["Error401"] = {
        **plain(
            "No credentials, none that are good, or an address that the account does not list. It is not JSON. Digest "
            "begins with this answer, and clients such as `curl --digest` go on by themselves; one that ends with it "
            "has the wrong user or password, or is not in the account's `networks`."
        ),
        "headers": {"WWW-Authenticate": header("a Digest challenge for each algorithm, the preferred one first")},
    }
    return dict(sorted(errors.items()))


def schemas() -> Tree:
    """Bodies, records and lists of them, and errors; what the latter three look like in XML too."""
    found: Tree = {"Ping": closed({"ping": {"const": "ok"}}, ("ping",))}
    found["PingXML"] = {**found["Ping"], "xml": {"name": "miscellaneous"}}
    lines = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    found["Errors"] = closed({"errors": {**lines, "description": "what is wrong, line by line"}}, ("errors",))
    found["ErrorsXML"] = closed({"error": lines}, ("error",), xml={"name": "errors"})
    for operation in OPERATIONS:
        if operation.gives is not None and _RECORDS[operation.gives[0]][0] not in found:
            found |= _answer_schemas(*operation.gives)
        if operation.method in ("POST", "PUT"):
            for path in operation.paths:
                for as_form in (False, True):
                    found[_body_name(operation, path, as_form=as_form)] = _body_schema(operation, path, as_form=as_form)
    return found


def _answer_schemas(listed: str, fields: tuple[str, ...]) -> Tree:
    """A record, and the lists of such records: whole, or a page; in JSON, or in XML."""
    name, element = _RECORDS[listed]
    models = [operation.fields for operation in OPERATIONS if operation.gives and operation.gives[0] == listed]
    record = closed(
        {field: _shown(field) for field in fields},
        (field for field in fields if field not in _SOMETIMES),
        xml={"name": element},
    )
    if any(issubclass(model, CustomFields) for model in models):
        record["patternProperties"] = {
            _CUSTOMS: {
                "type": ["string", "null"],
                "description": _CUSTOM_MEANING,
                "x-inWords": "`custom_1` … `custom_20`",
            }
        }
    found: Tree = {name: record}
    for suffix, member, as_root, as_attribute in (
        ("", listed, {}, {}),
        ("XML", element, {"xml": {"name": listed}}, {"xml": {"attribute": True}}),
    ):
        records = {"type": "array", "items": ref("schemas", name)}
        required = () if suffix else (member,)  # in XML, a list without records has no elements
        found[f"{name}List{suffix}"] = closed({member: records}, required, **as_root)
        if any(issubclass(model, Paged) for model in models):
            paging = {
                field: {"type": "integer", "minimum": 0, "description": about} | as_attribute
                for field, about in _PAGING.items()
            }
            found[f"{name}Page{suffix}"] = closed({**paging, member: records}, (*_PAGING, *required), **as_root)
    return found


def _shown(field: str) -> Tree:
    """A field of a record in an answer."""
    if field in LISTS:
        item = {"type": "string", "xml": {"name": _XML_ITEMS[field]}}
        schema: Tree = {"type": "array", "items": item, "xml": {"wrapped": True}}
    else:
        schema = {"type": ["string", "null"]}
    if field in _MOMENTS:
        schema |= like(_MOMENT, "`YYYY-MM-DD HH:MM:SS`")
    return schema | {"description": _MEANINGS[field] + (", UTC" if field in _MOMENTS else "")}


def _ids(path: str) -> list[str]:
    return re.findall(r"\{(\w+)\}", path)


def _operation(operation: Operation, path: str) -> Tree:
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
                kind: {"schema": ref("schemas", _body_name(operation, path, as_form=kind == _FORM))}
                for kind in (_FORM, JSON)
            },
        }
    elif taken:
        parameters += [
            _parameter(name, "query", schema, required=name in required)
            for name, schema in taken.items()
            if name not in ids
        ]
    answers = {kind: {"schema": _answer(operation, path, kind)} for kind in (JSON, XML)}
    return tree | {
        "parameters": parameters,
        "responses": {
            "200": {"description": "Done.", "content": answers},
            **{status: ref("responses", f"Error{status}") for status in sorted((*_ERRORS, "401"))},
        },
    }


def _parameter(name: str, where: str, schema: Tree, *, required: bool) -> Tree:
    rules = {key: value for key, value in schema.items() if key != "description"}
    return {
        "name": name, "in": where, "required": required, "schema": rules, "description": schema["description"],
    }  # fmt: skip


def _answer(operation: Operation, path: str, kind: str) -> Tree:
    suffix = "XML" if kind == XML else ""
    if operation.gives is None:
        return ref("schemas", f"Ping{suffix}")
    name = _RECORDS[operation.gives[0]][0]
    whole = ref("schemas", f"{name}List{suffix}")
    if not issubclass(operation.fields, Paged) or _ids(path):
        return whole
    # What is asked for by its id, in the query too, comes without paging.
    return {"oneOf": [ref("schemas", f"{name}Page{suffix}"), whole]}


def _body_name(operation: Operation, path: str, *, as_form: bool) -> str:
    """`NewGreeting`, or `NewGreetingByPath` where the path holds ids; either with `Form` for a form."""
    return operation.fields.__name__ + ("ByPath" if _ids(path) else "") + ("Form" if as_form else "")


def _body_schema(operation: Operation, path: str, *, as_form: bool) -> Tree:
    ids, model = _ids(path), _json_schema(operation.fields)
    return closed(
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
        if "pattern" in rules:
            rules |= like(rules["pattern"], _IN_WORDS[rules["pattern"]])
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
            told.append(
                f"comma separated, at most {rules['maxItems']}; or `{name}[]=…`, `{name}[0]=…`, or several times"
            )
            each = f"[^,]{{0,{rules['items']['maxLength']}}}"
            rules = {
                "type": "string",
                **like(f"^{each}(,{each}){{0,{rules['maxItems'] - 1}}}$", f"at most {rules['maxItems']} numbers"),
            }
            example, default = ",".join(example or ()), None
        if default is not None and operation.method != "PUT":  # what a PUT does not send is kept
            rules["default"] = default
        if example:
            rules["examples"] = [example]
        taken[name] = rules | {"description": "; ".join(told)}
    return taken
