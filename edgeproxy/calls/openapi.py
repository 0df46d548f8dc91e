"""The calls API for machines, from the pydantic models of `calls.wire` and what is attributed in `calls`.

Tests hold the bodies against the models, and the answers against a gateway's.
"""

from typing import get_args

from pydantic import BaseModel

from edgeproxy.accounts import moments
from edgeproxy.accounts.account import CLICK_IDS
from edgeproxy.calls import handler, wire
from edgeproxy.calls.attribution import Certainty, How, Match
from edgeproxy.http.openapi.tree import JSON, MANAGE, RETRY_AFTER, Tree, always, closed, like, ref, sample
from edgeproxy.numbers import openapi as static
from edgeproxy.store.partner import Status

GROUP = "Calls"
ABOUT = """\
For the telephony side: who was shown a number that is called, where the call goes, and its record.

A body is JSON, whatever its `Content-Type`. Null is as good as not sent. Unknown fields are refused, and so are fields
that stand twice. There are no limits but that of bad access tokens, and no points are spent. All requests can be
repeated: an event counts once.
"""
TAGS = {"calls": "Who was shown a number, where calls on it go, and what becomes of calls."}
SECURITY: Tree = {}  # the access tokens of the static numbers API

_NUMBER_MOST = 256  # characters of a number, as accounts.number has it
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"

# Model → what its fields mean; JSON Schema cannot tell which texts are a number or a moment.
_MEANINGS = {
    "Event": {
        "at": "when it happened: RFC 3339, in the account's time zone where it does not say, or seconds or "
        "milliseconds since 1970",
        "call_id": "the telephony side's id of the call, the same in all of its events",
        "caller": "the caller's number, or a SIP header or URI that holds it; kept without its last three digits, and "
        "as a salted hash. One that is withheld (empty, `anonymous`, `+266696687`, …) is kept as `anonymous`; of what "
        "is no number nothing is kept",
        "event": "what happened",
        "number": "the tracking number that was dialled: E.164, or as it is dialled in the account's region; the same "
        "in all of a call's events that have one",
    },
    "Erasure": {
        "caller": "the number of the caller to forget, in any form that an event may have it in",
        "sessionId": "the session to forget",
        "trackingId": "the partner's id of the visitor to forget, with all of its sessions",
    },
}

_EXAMPLES = {
    "Event": [
        {
            "call_id": "c-1",
            "event": "started",
            "number": "+493015981151",
            "caller": "+49301234567",
            "at": "2026-01-31T23:59:59Z",
        },
        {"call_id": "c-1", "event": "ended"},
    ],
    "Erasure": [{"trackingId": "visitor-1"}],
}

_CERTAINTIES: dict[Certainty, str] = {
    "exact": "one match, and it held the number at that moment",
    "likely": "one match, whose lease was over and cooling down",
    "ambiguous": "several matches, of which any may be the one; or one of `many_networks`, whose visitor is not known",
    "none": "no match",
}

# Status → when it is the answer.
_ERRORS = {
    "400": "The body is no JSON object, or a field or parameter is missing, unknown or wrong; all are told at once. "
    "Mend what `errors` names.",
    "401": "`Access-Token` is missing or unknown. Send one of the account's tokens.",
    "404": "The number is not in the account's inventory, and nobody was shown it. Check its digits.",
    "415": "The body's `Content-Encoding` is another one than gzip or deflate. Send it as it is, or in one of these.",
    "429": "Too many bad access tokens from this address. Wait as long as `Retry-After` says.",
    "500": "A fault of ours. Tell those who run the gateway: its log says why.",
    "503": "The store does not answer, it is not known whether this is safe on disk, or others change the same call at "
    "once. Send it again: an event counts once.",
}


# Operation → what the page's `curl` asks `edgeproxy demo` for.
_SAMPLES = {
    "get_calls_lookup": "'{at}/lookup?number=%2B493015981151'",
    "post_calls": """{at} \\\n  -d '{{"call_id":"c-1","event":"started","number":"+493015981151"}}'""",
    "post_calls_erase": """{at}/erase \\\n  -d '{{"trackingId":"visitor-1"}}'""",
}


def paths(_: str) -> Tree:
    """What is asked for a call, and about it."""
    number = {"type": "string", "minLength": 1, "maxLength": _NUMBER_MOST, "examples": ["+493015981151"]}
    examples = ["2026-01-31T23:59:59Z", "1769903999", "1769903999120"]
    at = {"type": "string", "examples": examples} | like(moments.PATTERN, "a moment")
    lookup = {
        **_operation("get_calls_lookup", "Tell who was shown a number", "CallLookup", "Everyone it may have been."),
        "description": "All that held the number at that moment, and leases that were cooling down; never silently the "
        "latest alone. Other parameters are refused.",
        "parameters": [
            {
                "name": "number",
                "in": "query",
                "required": True,
                "schema": number,
                "description": "the tracking number: E.164, or as it is dialled in the account's region",
            },
            {
                "name": "at",
                "in": "query",
                "required": False,
                "schema": at,
                "description": "the moment: RFC 3339, in the account's time zone where it does not say, or seconds or "
                "milliseconds since 1970; without it, now. A `+` that is not escaped is taken",
            },
        ],
    }
    event = {
        **_operation("post_calls", "Tell of an event of a call", "CallStarted", "Taken in."),
        "description": "Events may come in any order, at once, and again; a repeated one is answered as the first was, "
        "as long as the call is remembered. Once a call has started and ended, `statistics/cdrs` lists its record. "
        "What a call does to the lease that it came on is the pool's to say.",
        "requestBody": _body(wire.Event),
    }
    event["responses"]["200"]["content"][JSON]["schema"] = {
        "oneOf": [ref("schemas", "CallStarted"), ref("schemas", "CallTakenIn")]
    }
    erasure = {
        **_operation("post_calls_erase", "Forget a visitor, a session or a caller", "CallErasureReceipt", "Done."),
        "description": "Visits, leases and events are erased; records of calls stay, without what leads to a person. "
        "Where nothing is known of them, the receipt holds zeros.",
        "requestBody": _body(wire.Erasure),
    }
    del event["responses"]["404"], erasure["responses"]["404"]
    return {
        f"{handler.PATH}/lookup": {"get": lookup},
        handler.PATH: {"post": event},
        f"{handler.PATH}/erase": {"post": erasure},
    }


def _operation(name: str, summary: str, answer: str, success: str) -> Tree:
    asked = _SAMPLES[name].format(at=MANAGE + handler.PATH)
    return {
        "operationId": name,
        "tags": list(TAGS),
        "summary": summary,
        "x-codeSamples": [sample(f"curl -sS -H 'Access-Token: demo-token' \\\n  {asked}")],
        "security": [{"accessToken": []}],
        "responses": {
            "200": {"description": success, "content": {JSON: {"schema": ref("schemas", answer)}}},
            **{status: ref("responses", f"CallsError{status}") for status in _ERRORS},
        },
    }


def _body(model: type[BaseModel]) -> Tree:
    return {
        "required": True,
        "description": f"A JSON object of at most {wire.BODY_MOST} bytes; it may be coded by gzip or deflate.",
        "content": {JSON: {"schema": ref("schemas", _name(model))}},
    }


def responses() -> Tree:
    """The errors, which all operations share; those of the partner API look the same."""
    headers = {"429": always(RETRY_AFTER)}
    return {
        f"CallsError{status}": {
            "description": about,
            **({"headers": headers[status]} if status in headers else {}),
            "content": {JSON: {"schema": ref("schemas", "Errors")}},
        }
        for status, about in _ERRORS.items()
    }


# What is sent ---------------------------------------------------------------------------------------------------------


def _name(model: type[BaseModel]) -> str:
    return f"Call{model.__name__}"


def _taken(model: type[BaseModel]) -> Tree:
    """The body that a model checks, with what its validators add."""
    whole = model.model_json_schema(by_alias=True)
    properties: Tree = {}
    for name, schema in whole["properties"].items():
        nullable = "anyOf" in schema  # which only `X | None` makes
        rules = dict(schema["anyOf"][0]) if nullable else schema
        rules = {key: rule for key, rule in rules.items() if key not in ("title", "description")}
        if name == "at":  # a number has from nine digits on
            rules = {"type": ["string", "number", "null"], "minimum": 10**8, "exclusiveMaximum": moments.END_MS}
            rules |= like(moments.PATTERN, "a moment")
        elif name == "call_id":
            rules |= like(
                rules["pattern"], "letters, digits, and the signs of a SIP `Call-ID`; no blanks; at most 255 characters"
            )
        elif nullable:
            rules["type"] = [rules["type"], "null"]
        told = "; ".join(text for text in (_MEANINGS[model.__name__][name], schema.get("description")) if text)
        properties[name] = rules | {"description": told}
    more = {"description": whole["description"], "examples": _EXAMPLES[model.__name__]}
    return closed(properties, whole.get("required", ()), **more)


def _event() -> Tree:
    needs_number = {"properties": {"number": {"type": "string"}}, "required": ["number"]}
    return _taken(wire.Event) | {"if": {"properties": {"event": {"const": "started"}}}, "then": needs_number}


def _erasure() -> Tree:
    schema = _taken(wire.Erasure)
    whom = [{"properties": {name: {"type": "string"}}, "required": [name]} for name in schema["properties"]]
    return schema | {"oneOf": whom, "description": schema["description"] + " Exactly one is required."}


# What is answered -----------------------------------------------------------------------------------------------------


def schemas() -> Tree:
    """Bodies, answers, what matches a call, and where it goes."""
    call_id = _text("the call's id, as it was sent")
    found = {
        "number": _text("the tracking number, E.164"),
        "at": _moment("the moment that was asked for, or at which the call started"),
        "certainty": {
            "enum": list(get_args(Certainty)),
            "description": "how far the first match can be trusted, not counting `shared`; "
            + "; ".join(f"`{name}`: {_CERTAINTIES[name]}" for name in get_args(Certainty)),
        },
        "matches": {
            "type": "array",
            "items": {"oneOf": [ref("schemas", name) for name in _matches()]},
            "description": "everyone whom the number may have been shown to, the best first: `lease`, `source`, "
            "`static`, `cooldown`, `shared`, and of leases the latest",
        },
    }
    started = {
        "call_id": call_id,
        **found,
        "route": ref("schemas", "CallRoute") | {"description": "where the call goes, by the first match"},
    }
    about = "events that were told to have happened before the one that they follow; absent where none was"
    corrected = {"corrected": ref("schemas", "CallCorrections") | {"description": about}}
    cdr_id = _text("the id of the call's record; null until the call has started and ended", null=True)
    taken_in = {"call_id": call_id, "cdr_id": cdr_id}
    return {
        _name(wire.Event): _event(),
        _name(wire.Erasure): _erasure(),
        "CallLookup": _whole(found, "Everyone whom a number may have been shown to at a moment."),
        "CallStarted": closed(
            started | corrected,
            started,
            description="The answer to `started`: who was shown the number, and where the call goes.",
        ),
        "CallTakenIn": closed(taken_in | corrected, taken_in, description="The answer to `answered` and `ended`."),
        "CallCorrections": _corrections(),
        "CallErasureReceipt": _receipt(),
        "CallRoute": _route(),
        "FirstTouch": _page({}, "The page with which a visit began: there the click stands that brought the visitor."),
        "LastPage": _page(
            {
                "after_call": {
                    "type": ["boolean", "null"],
                    "description": "the page came after the moment that was asked for; null: not known",
                }
            },
            "The latest page of a visit that is known; of a call that is told again, that was known when it started.",
        ),
        **_matches(),
    }


def _matches() -> Tree:
    """What a match holds, by how it came about."""
    pool = _text("the pool that the number is in")
    visited: Tree = {
        "sessionId": _text("the visitor's session"),
        "trackingId": _text("the partner's id of the visitor, if it gave one", null=True),
        "number_on_page": _text("the number on the page that the tracking number replaced, E.164"),
        "fullUrl": _text("the last page's URL; null once the session is no longer known", null=True),
        "fullReferrer": _text("where the visitor came from; null once the session is no longer known", null=True),
        "parameters": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
            "description": "the custom dimensions of all pages of the visit, the latest of each name; null once the "
            "session is no longer known",
        },
        "first_touch": {
            "oneOf": [ref("schemas", "FirstTouch"), {"type": "null"}],
            "description": "the visit's first page; null where it is not known",
        },
        "last_page": {
            "oneOf": [ref("schemas", "LastPage"), {"type": "null"}],
            "description": "the visit's last page; null once the session is no longer known",
        },
        "many_networks": {
            "type": "boolean",
            "description": "pages of this session came from more networks at once than one visitor has, as if a cache "
            "gave one visitor's page to all",
        },
        "begin": _moment("when the session was given the number"),
        "end": _moment("when the lease ended, or will unless the visitor asks again; null: not known", null=True),
    }
    lease = _match(("lease", "cooldown"), visited | {"pool": pool}, "A session that was shown the number.")
    lease["required"].remove("pool")  # a number can leave its pool after the lease
    source = {
        "begin": _moment("when the source began to serve"),
        "end": _moment("when the source ends, or its number rests no more; null: not known", null=True),
        "source_id": _text("the source's id"),
        "customer_id": _text("the id of the customer it belongs to", null=True),
        "name": _text("the source's name", null=True),
        "media": _text("where the number is shown, such as Google.com", null=True),
        "class": _text("the source's class", null=True),
        "status": {"enum": list(get_args(Status)), "description": "where the source stands in its life, now"},
    }
    listed = static.schemas()["StaticNumber"]["properties"]
    kept = {
        name: listed[name] | {"description": f"{listed[name]['description']}; null: not set"}
        for name in ("displayOptions", "poolName")
    }
    return {
        "LeaseMatch": lease,
        "SourceMatch": _match(("source",), source, "A source, which the number belonged to."),
        "StaticMatch": _match(("static",), kept, "A static number in use."),
        "SharedMatch": _match(
            ("shared",), {"pool": _text("the pool that shows it")}, "A number that a pool shows when nothing is free."
        ),
    }


def _page(more: Tree, about: str) -> Tree:
    texts = {"type": "object", "additionalProperties": {"type": "string"}}
    click_ids = {
        "properties": {name: _text(f"the value of `{name}`") for name in CLICK_IDS},
        "additionalProperties": False,
    }
    fields = {
        "at": _moment("when the visitor was on the page", null=True),
        "fullUrl": _text("the page's URL", null=True),
        "fullReferrer": _text("the page's referrer", null=True),
        "utm": texts | {"description": "`utm_*` of the page's URL, or else of its custom dimensions"},
        "click_ids": {
            "type": "object",
            **click_ids,
            "description": "ad networks' ids of the click, read in the same way",
        },
        "parameters": texts | {"description": "the page's custom dimensions"},
    }
    return _whole(fields | more, about)


def _match(hows: tuple[How, ...], more: Tree, about: str) -> Tree:
    kind: Tree = {"const": hows[0]} if len(hows) == 1 else {"enum": list(hows)}
    told = "; ".join(f"`{how}`: {Match(how).why}" for how in hows)
    how = {"how": kind | {"description": told}, "why": _text("the same in words, for people")}
    return _whole(how | more, about)


def _route() -> Tree:
    fields = {
        "destination": _text(
            "the number to put the call through to, E.164; null: there is none, or the source is in quarantine",
            null=True,
        ),
        "alternatives": {
            "type": "array",
            "items": {"type": "string"},
            "description": "further numbers of a source, to be tried in this order",
        },
        "reserve": _text("the number to try if nobody answers, E.164; null: there is none", null=True),
        "timeout_s": {
            "type": ["integer", "null"],
            "minimum": 10,
            "maximum": 120,
            "description": "seconds without an answer after which the reserve is tried; null without a reserve",
        },
        "ignore_early_media": {"type": "boolean", "description": "announcements before the answer count as no answer"},
    }
    return _whole(
        fields,
        "Where a call goes. On a leased number, to the number on page that it replaced; on a source's, to its "
        "destination; on a static number, by its redirect scenario; on a shared one, to what the pool replaces if that "
        "is one number.",
    )


def _corrections() -> Tree:
    correction = {
        "told": _moment("when it happened, by what was told"),
        "taken": _moment("when it is taken to have happened: the moment of the event that it follows"),
        "why": _text("the reason, for people"),
    }
    return closed(
        {event: _whole(correction, f"the moment of `{event}`") for event in ("answered", "ended")},
        (),
        description="Of a call's events, those that were told to have happened before the one that they follow.",
    )


def _receipt() -> Tree:
    about = {
        "sessions": "sessions that were still known",
        "leases": "leases in the history",
        "visits": "visits, and events of calls, in the streams",
        "visitors": "visitors whose last numbers were remembered",
        "calls": "records of calls, which stay without what leads to a person",
    }
    counts: Tree = {name: {"type": "integer", "minimum": 0, "description": text} for name, text in about.items()}
    erased = _whole(counts, "how many there were, and are erased")
    return _whole({"erased": erased, "at": _moment("when it was done")}, "What an erasure found and erased.")


def _whole(properties: Tree, about: str) -> Tree:
    """An object that lacks none of its members."""
    return closed(properties, properties, description=about)


def _text(about: str, *, null: bool = False) -> Tree:
    return {"type": ["string", "null"] if null else "string", "description": about}


def _moment(about: str, *, null: bool = False) -> Tree:
    return (
        _text(f"{about}; UTC", null=null) | {"format": "date-time"} | like(_MOMENT, "like `2026-01-31T23:59:59.120Z`")
    )
