"""The static numbers API for machines, from the pydantic models of `numbers.wire` and what their validators add.

Tests hold both against `wire.check_change`, `check_one` and `check_many`.
"""

import shlex
from typing import Any

from pydantic import BaseModel

from edgeproxy.http.openapi.tree import JSON, MANAGE, RATE_LIMITS, RETRY_AFTER, Tree, always, closed, like, ref, sample
from edgeproxy.numbers import handler, wire

GROUP = "Static numbers"
ABOUT = """\
For advertising platforms: numbers that an advertisement keeps, how reports show their calls (display options), and
where the calls go (a redirect scenario).

A body is JSON, whatever its `Content-Type`. Null is as good as not sent where it is taken. Unknown fields are refused,
and so are fields that stand twice. A success spends its method's points; all else is free.
"""
TAGS = {"static numbers": "Numbers in use, how reports show their calls, and where these go."}
SECURITY: Tree = {
    "accessToken": {
        "type": "apiKey",
        "in": "header",
        "name": "Access-Token",
        "description": "One of the account's access tokens.",
    }
}

# What the fields mean, in requests and in answers.
_MEANINGS = {
    "campaign": "the campaign",
    "content": "the content, such as which of several advertisements",
    "displayOptions": "how reports show the calls",
    "ignoreEarlyMedia": "announcements before the answer count as no answer",
    "keyword": "the keyword",
    "medium": "the medium, such as `cpc`",
    "phoneNumber": "the static number",
    "phoneNumbers": "static numbers; the answer is in their order",
    "poolName": "a name for the number's group",
    "ptsnOptions": "where calls go; the spelling is the documented one",
    "redirectNumber": "the number that calls are put through to",
    "redirectOptions": "the redirect scenario",
    "redirectType": "the network that calls go to",
    "reserveNumber": "the number that calls go to if nobody answers",
    "reserveRedirect": "what becomes of a call that nobody answers",
    "reserveTimeOut": "seconds before a call goes there, 10 to 120",
    "source": "where the number is shown",
}
_SPELT_RIGHT = "pstnOptions"

# What validators add to the models' schemas. JSON Schema cannot tell which texts are a valid number.
_NUMBER = {
    **like(
        f"^{wire.WRITTEN.pattern}$",
        "5 to 15 digits, the first no 0; a plus before them, and blanks, dots, dashes and brackets between them",
    ),
    "description": "7 and ten digits more, or any other valid number with its country code, with or without a plus; "
    "8 and ten digits more where that is none of another country; digits may be an integer",
}
_AS_INTEGER = {"type": ["string", "integer"], "minimum": 10**4, "exclusiveMaximum": 10**15}
_NUMBERS = ("phoneNumber", "redirectNumber", "reserveNumber")
_AS_TEXT: dict[str, Tree] = {
    "reserveTimeOut": {"type": "string", **like("^(0?[1-9][0-9]|1[01][0-9]|120)$", "10 to 120 in digits")},
    "ignoreEarlyMedia": {"enum": ["true", "false"]},
}

_EXAMPLES: dict[str, list[Any]] = {
    "Change": [
        {
            "phoneNumber": "79990000001",
            "displayOptions": {"source": "yandex", "medium": "cpc"},
            "redirectOptions": {
                "redirectType": "PSTN",
                "ptsnOptions": {"redirectNumber": "74951234567"},
                "reserveRedirect": {"reserveNumber": "74957654321", "reserveTimeOut": "30"},
            },
            "poolName": "Demo",
        },
    ],
    "One": [{"phoneNumber": "79990000001"}],
    "Many": [{"phoneNumbers": ["79990000001", "79990000006"]}],
}

# Method → its body, what it does, what more is to be said of it, and of its success.
_METHODS: dict[str, tuple[type[BaseModel], str, str, str]] = {
    "update": (
        wire.Change,
        "Change a number in use",
        "A part (`displayOptions`, `redirectOptions`, `poolName`) that is not sent is kept, one that is sent is "
        "replaced whole.",
        "Done; the body is empty.",
    ),
    "create": (wire.Change, "Put a free number to use", "What is not sent is not set.", "Done; the body is empty."),
    "delete": (wire.One, "Make a number free", "What was set is lost.", "Done; the body is empty."),
    "list": (
        wire.Many,
        "Show numbers",
        "All of them, or none: one that is neither free nor in use as a static number is 404.",
        "A record for each number that was asked for; `displayOptions` is null for a free number.",
    ),
}

# Method → what `curl` sends to `edgeproxy demo`, whose first five numbers are in use, and whose others are free.
_SAMPLES = {
    "update": '{"phoneNumber":"79990000001","poolName":"Summer"}',
    "create": '{"phoneNumber":"79990000006","displayOptions":{"source":"yandex","medium":"cpc"}}',
    "delete": '{"phoneNumber":"79990000002"}',
    "list": '{"phoneNumbers":["79990000001","79990000006"]}',
}

# Status → its code, when it is the answer, and what to do.
_ERRORS = {
    "400": (
        "VALIDATION_ERROR",
        "The body is no JSON object, or wrong; then its violations are told, at most 50. Mend what they name.",
    ),
    "401": ("UNAUTHORIZED", "`Access-Token` is missing or unknown. Send one of the account's tokens."),
    "403": ("FORBIDDEN", "`SiteId` is missing, or not the access token's. Send the site that the token belongs to."),
    "404": (
        "NOT_FOUND",
        "A number is none of the site's, or it is listed and serves a pool or a source. Check its digits, or have it "
        "added to the account's numbers.",
    ),
    "409": (
        "CONFLICT",
        "The number is in another state than the method needs: `create` takes a free one, `update` and `delete` one in "
        "use. `list` shows which it is.",
    ),
    "415": (
        "UNSUPPORTED_MEDIA_TYPE",
        "The body's `Content-Encoding` is another one than gzip or deflate. Send it as it is, or in one of these.",
    ),
    "429": (
        "TOO_MANY_REQUESTS",
        "The limit of requests per second, the day's budget of points, which `RateLimit` comes with, or too many bad "
        "access tokens from this address. Wait as long as `Retry-After` says.",
    ),
    "500": (
        "INTERNAL_ERROR",
        "The store does not answer, it is not known whether a change is safe on disk, or a fault of ours. Ask `list` "
        "what became of the change, then repeat it.",
    ),
}


def paths(_: str) -> Tree:
    """Each method's path."""
    return {handler.PATH + method: {"post": _operation(method)} for method in wire.METHODS}


def _operation(method: str) -> Tree:
    model, summary, about, success = _METHODS[method]
    done: Tree = {"description": success, "headers": always(RATE_LIMITS)}
    if method == "list":
        done["content"] = {JSON: {"schema": {"type": "array", "items": ref("schemas", "StaticNumber"), "minItems": 1}}}
    site = {"type": "string", "examples": ["1001"]}
    return {
        "operationId": f"post_static_{method}",
        "tags": list(TAGS),
        "summary": summary,
        "description": about,
        "x-codeSamples": [sample(_curl(method))],
        "security": [{"accessToken": []}],
        "parameters": [
            {"name": "SiteId", "in": "header", "required": True, "schema": site, "description": "the account's site"}
        ],
        "requestBody": {
            "required": True,
            "description": f"A JSON object of at most {wire.BODY_MOST} bytes; it may be coded by gzip or deflate.",
            "content": {JSON: {"schema": ref("schemas", _name(model))}},
        },
        "responses": {
            "200": done,
            **{
                status: ref("responses", f"StaticError{status}")
                for status in _ERRORS
                if status != "409" or method != "list"  # a list takes numbers in either state
            },
        },
    }


def _curl(method: str) -> str:
    return (
        f"curl -sS {MANAGE}{handler.PATH}{method} \\\n"
        f"  -H 'Access-Token: demo-token' -H 'SiteId: 1001' \\\n"
        f"  -d {shlex.quote(_SAMPLES[method])}"
    )


def responses() -> Tree:
    """The errors, which all methods share."""
    headers = dict.fromkeys(("404", "409", "500"), RATE_LIMITS) | {"429": RATE_LIMITS | always(RETRY_AFTER)}
    return {
        f"StaticError{status}": {
            "description": about,
            **({"headers": headers[status]} if status in headers else {}),
            "content": {JSON: {"schema": ref("schemas", "StaticError") | _coded(code)}},
        }
        for status, (code, about) in _ERRORS.items()
    }


def _coded(code: str) -> Tree:
    """What a status adds to the errors' schema: its code."""
    error = {"properties": {"errorCode": {"const": code}}}
    return {"properties": {"data": {"properties": {"apiErrorData": error}}}}


def schemas() -> Tree:
    """Bodies of requests, a number as it is listed, and errors."""
    models = {model: None for model, *_ in _METHODS.values()}
    return {**{_name(model): _taken(model) for model in models}, "StaticNumber": _listed(), "StaticError": _error()}


def _name(model: type[BaseModel]) -> str:
    return f"Static{model.__name__}"


def _taken(model: type[BaseModel]) -> Tree:
    """The body that a model checks."""
    schema = _inlined(model, as_text=True)
    about = schema["description"]
    if model is wire.Change:
        _take_either_spelling(schema["properties"]["redirectOptions"])
        types = {name: schema["properties"][name]["type"][0] for name in wire.PARTS}
        schema["anyOf"] = [{"properties": {name: {"type": kind}}, "required": [name]} for name, kind in types.items()]
        about += f" At least one of {', '.join(f'`{name}`' for name in wire.PARTS)} is required."
    return schema | {"description": about, "examples": _EXAMPLES[model.__name__]}


def _take_either_spelling(redirect: Tree) -> None:
    """Let `pstnOptions` stand in place of `ptsnOptions`, as `wire.check_change` does; both are too much."""
    options = redirect["properties"]
    (spelt,) = (name for name in redirect["required"] if name != "redirectType")
    options[_SPELT_RIGHT] = options[spelt] | {"description": f"the same in place of `{spelt}`; one is required"}
    redirect["required"] = ["redirectType"]
    either = [{"type": "object", "required": [name]} for name in (spelt, _SPELT_RIGHT)]
    redirect["allOf"] = [{"oneOf": [*either, {"type": "null"}]}]


def _listed() -> Tree:
    """A number as `wire.show` has it: all is there, and null where it is not set."""
    schema = _inlined(wire.Change, as_text=False)
    waiting = [schema]
    while waiting:
        tree = waiting.pop()
        if "properties" in tree:
            tree["required"] = list(tree["properties"])
            waiting += tree["properties"].values()
    schema["properties"]["displayOptions"]["properties"]["source"]["type"] = ["string", "null"]  # where none were set
    return schema | {"description": "A number with its parts; without any, it is free."}


def _error() -> Tree:
    text = {"type": "string"}
    violation = closed(
        {
            "field": text | {"description": "the field's path, with dots; empty for the body as a whole"},
            "message": text | {"description": "what is wrong with it"},
        },
        ("field", "message"),
    )
    codes = [code for code, _ in _ERRORS.values()]
    data = {
        "apiErrorData": closed(
            {"errorCode": {"enum": codes}, "errorMessage": text | {"description": "why, for people"}},
            ("errorCode", "errorMessage"),
        ),
        "validationErrorData": closed(
            {"violations": {"type": "array", "items": violation, "minItems": 1}},
            ("violations",),
            description="of a body that is JSON, and wrong",
        ),
    }
    return closed({"data": closed(data, ("apiErrorData",))}, ("data",))


def _inlined(model: type[BaseModel], *, as_text: bool) -> Tree:
    """A model's schema without references, with what validators add; `as_text`: with what is taken as text too."""
    whole = model.model_json_schema(by_alias=True)
    rules = _rules(whole, whole.get("$defs", {}), as_text=as_text)
    return rules | {"description": whole["description"]}


def _rules(schema: Tree, models: Tree, *, as_text: bool) -> Tree:
    nullable = "anyOf" in schema  # which only `X | None` makes
    schema = schema["anyOf"][0] if nullable else schema
    schema = models[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    # Of defaults, the only one that is no null is ignoreEarlyMedia's.
    rules = {key: rule for key, rule in schema.items() if key not in ("$defs", "title", "description")}
    for limit, word in (("ge", "minimum"), ("le", "maximum")):  # so pydantic leaves them where a validator comes first
        if limit in rules:
            rules[word] = rules.pop(limit)
    if "properties" in rules:
        rules["properties"] = {
            name: _field(name, _rules(member, models, as_text=as_text), as_text=as_text)
            for name, member in rules["properties"].items()
        }
    if "pattern" in rules:  # of the models' texts; a number's own takes its place
        rules["x-inWords"] = "no control characters"
    if nullable:
        rules["type"] = [rules["type"], "null"]
    return rules


def _field(name: str, rules: Tree, *, as_text: bool) -> Tree:
    """The rules of a member of that name, with what they do not say by themselves."""
    told = _MEANINGS[name]
    if name in _NUMBERS:
        told += f": {_NUMBER['description']}"
        rules |= {key: _NUMBER[key] for key in ("pattern", "x-inWords")} | (_AS_INTEGER if as_text else {})
    if name == "phoneNumbers":
        rules["items"] |= _NUMBER | _AS_INTEGER
    default = {} if "default" not in rules else {"default": rules.pop("default")}
    if as_text:
        rules = {"oneOf": [rules, _AS_TEXT[name]]} if name in _AS_TEXT else rules
        rules |= default
    return rules | {"description": told}
