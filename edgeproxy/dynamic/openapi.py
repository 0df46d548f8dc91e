"""The dynamic numbers API, `POST /api`, for machines: `dynamic.wire` judges it, and its rules are restated here.

Tests hold each limit against it.
"""

from collections.abc import Iterator
from importlib.resources import files

from edgeproxy.dynamic import wire
from edgeproxy.dynamic.handler import X_HTTP_STATUSES, X_SIGN
from edgeproxy.errors import Kind
from edgeproxy.http.openapi.tree import (
    JSON,
    NO_STORE,
    RATE_LIMITS,
    RETRY_AFTER,
    Tree,
    closed,
    header,
    like,
    plain,
    ref,
    sample,
)

GROUP = "Dynamic numbers"
ABOUT = ""  # its one operation tells it
TAGS = {"dynamic numbers": "The numbers of a page or an app, and what to show instead."}

_SIGNATURE = "The hex HMAC-SHA1 of the raw body, with a secret of the account."
SECURITY: Tree = {
    "signature": {"type": "apiKey", "in": "header", "name": str(X_SIGN), "description": _SIGNATURE},
    "signatureInQuery": {
        "type": "apiKey",
        "in": "query",
        "name": "sign",
        "description": f"{_SIGNATURE} If the header is sent as well, both must be good.",
    },
}

_ABOUT = """\
Send the numbers of a page with who sees it; get the numbers to show instead. Keep `sessionId` and send it with the next
page of the same visitor: while a lease lives, the same session and number give the same tracking number, and each
request renews the lease.

The body is signed. Take the bytes that you send, compute their HMAC-SHA1 with the account's secret (in the demo
`freespee`), and send it in hex as the header `X-SIGN`. Sign first and send the same bytes then: to write the JSON a
second time may give other bytes, and the answer is `Invalid signature`. `edgeproxy sign --key KEY FILE` prints the
signature of a file, to compare with.
"""

# Field → most characters, as dynamic.wire has it; None: it is cut.
_TEXT_MOST = {
    "advId": 64,
    "fullUrl": None,
    "trackingId": 128,
    "fullReferrer": None,
    "userAgent": None,
    "requestIpAddress": 45,
    "sessionId": 64,
}
_DIMENSION_KEY_MOST = 64
_DIMENSION_MOST = 2048
_DIMENSIONS_MOST = {"custnr": 45, "custname": 60, "custemail": 150}
# A page that the demo's account serves; `signing/` sends the same.
EXAMPLE: Tree = {
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
_WEB_REQUIRES = ("fullUrl", "userAgent", "requestIpAddress")  # not empty, of a page in a browser

# Language → a whole program that signs a page's numbers and asks for them; the first is the one that is shown in full.
_SAMPLES = {
    "Shell": "sign.sh",
    "Python": "sign.py",
    "PHP": "sign.php",
    "JavaScript (Node.js)": "sign.mjs",
    "Java": "Sign.java",
}

_FAULT_STATUSES = {
    400: "The body is malformed or too large, or a field is missing or wrong.",
    403: "The signature, the limit of requests per second or the day's budget of points refuses it.",
    500: "The store did not answer in time, or a fault of ours.",
    501: "The account has neither pool nor source.",
}
# Fault → what its reader can do.
_WHAT_TO_DO = {
    Kind.MALFORMED_JSON: "Send one JSON object in UTF-8, in which no name stands twice.",
    Kind.BODY_TOO_LARGE: f"Send less: at most {wire.BODY_MOST} bytes, also once inflated.",
    Kind.MISSING_PARAMETER: "Send the field that is named; of type `web` more fields are required than of `app`.",
    Kind.INVALID_PARAMETER: "Mend the field that is named; why it is wrong stands behind it.",
    Kind.MISSING_SIGNATURE: "Send the signature as `X-SIGN`, or as `sign` in the query.",
    Kind.INVALID_SIGNATURE: "Check that the secret is the account's, and that the bytes which you sign are the bytes "
    "which you send.",
    Kind.BLOCKED_IP: "Wait as long as `Retry-After` says. Where all requests come from few servers of yours, have the "
    "account's limit count visitors' addresses (`by: signed`).",
    Kind.BUDGET_EXHAUSTED: "Show the numbers of the page until the day is over (`Retry-After`), or have the account's "
    "points raised.",
    Kind.STORE_UNAVAILABLE: "Show the numbers of the page, and ask again with the next page.",
    Kind.INTERNAL_ERROR: "Show the numbers of the page, and tell those who run the gateway: its log says why.",
    Kind.NO_POOL: "Have a pool or a source set up for the account.",
}


def _texts(status: int) -> Iterator[Tree]:
    for kind in Kind:
        if kind.status == status:
            before, holds_detail, after = kind.text.partition("{}")
            text = like(f"^{before}.+{after}$", f"`{before}…{after}`") if holds_detail else {"const": kind.text}
            yield text | {"description": _WHAT_TO_DO[kind]}


def schemas() -> Tree:
    """What is asked and answered."""
    shown = closed(
        {
            "number_on_page": {"type": "string", "description": "as it was sent, trimmed"},
            "replace_with": closed(
                {
                    "e164": {
                        "type": "string",
                        "description": "the tracking number",
                        **like(r"^\+[0-9]{5,20}$", "a plus and 5 to 20 digits"),
                    },
                    "local": {"type": "string", "description": "the tracking number as a visitor is to see it"},
                },
                ("e164", "local"),
            ),
        },
        ("number_on_page", "replace_with"),
    )
    numbers = closed(
        {
            "success": {"const": True},
            "numbers": {
                "type": "array",
                "items": shown,
                "description": "what to show; a number that nothing replaces is left out",
            },
            "sessionId": {"type": "string", "description": "to be sent with the visitor's next request"},
        },
        ("success", "numbers", "sessionId"),
    )
    faults = {
        f"Fault{status}": closed(
            {"success": {"const": False}, "error": {"type": "string", "anyOf": list(_texts(status))}},
            ("success", "error"),
            description=about,
        )
        for status, about in _FAULT_STATUSES.items()
    }
    return {"PageOfNumbers": _page_schema(), "Numbers": numbers, **faults}


def _page_schema() -> Tree:
    """What `wire.check` takes. It takes null for an empty text too, which is not promised."""
    about = {
        "advId": "the account",
        "fullUrl": f"the page's URL, of which {wire.URL_MOST} characters are kept",
        "trackingId": "the partner's id of the visitor; a number is its JSON text",
        "fullReferrer": f"where the visitor came from, of which {wire.URL_MOST} characters are kept",
        "userAgent": f"the visitor's `User-Agent`, of which {wire.AGENT_MOST} characters are kept",
        "requestIpAddress": "the visitor's IP address, which may be anonymised",
        "sessionId": "from the last answer; empty or left out at first",
    }
    texts: Tree = {
        name: {"type": "string", "description": about[name]} | ({"maxLength": most} if most else {})
        for name, most in _TEXT_MOST.items()
    }
    texts["advId"]["minLength"] = 1
    texts["trackingId"]["type"] = ["string", "number"]
    several = f"{{1,{wire.NUMBERS_MOST}}}"
    numbers = {
        "description": "the numbers of the page: an array, or separated by commas, semicolons or line breaks; at "
        f"most {wire.NUMBERS_MOST}",
        "oneOf": [
            {
                "type": "string",
                **like(
                    rf"^[\s,;]*(?:[^\s,;][^,;\r\n]*(?:[,;\r\n][\s,;]*|$)){several}$",
                    f"of 1 to {wire.NUMBERS_MOST} numbers",
                ),
            },
            {
                "type": "array",
                "items": {"type": "string"},
                "maxItems": wire.NUMBERS_MOST,
                "contains": {"type": "string", **like(r"\S", "not blank")},
            },
        ],
    }
    scalar = ["string", "number", "boolean", "null"]
    parameters = {
        "oneOf": [{"type": "object"}, {"const": []}],
        "description": "custom dimensions; numbers and booleans are kept as their JSON text, to the last digit; null "
        "is as good as not sent, and an empty array an empty object",
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
        "additionalProperties": {"type": scalar},
        "if": {"properties": {"type": {"const": "web"}}},
        "then": {
            "properties": {name: {"minLength": 1} for name in _WEB_REQUIRES},
            "required": list(_WEB_REQUIRES),
        },
        "examples": [EXAMPLE],
    }


def paths(_: str) -> Tree:
    """`POST /api`."""
    statuses: Tree = {
        "200": {
            "description": f"The numbers to show; without `{X_HTTP_STATUSES}` every error too.",
            "headers": RATE_LIMITS | RETRY_AFTER | NO_STORE,
            "content": {
                JSON: {
                    "schema": {
                        "oneOf": [
                            ref("schemas", name)
                            for name in ("Numbers", *(f"Fault{status}" for status in _FAULT_STATUSES))
                        ]
                    }
                }
            },
        }
    }
    headers = {403: RATE_LIMITS | RETRY_AFTER, 500: RATE_LIMITS, 501: RATE_LIMITS}
    for status, about in _FAULT_STATUSES.items():
        statuses[str(status)] = {
            "description": f"{about} Only with `{X_HTTP_STATUSES}`.",
            "headers": headers.get(status, {}) | NO_STORE,
            "content": {JSON: {"schema": ref("schemas", f"Fault{status}")}},
        }
    statuses["415"] = {
        "description": "`Content-Encoding` is neither gzip nor deflate.",
        "headers": NO_STORE | {"Accept-Encoding": header("the codings that are taken")},
        "content": {
            JSON: {"schema": closed({"success": {"const": False}, "error": {"type": "string"}}, ("success", "error"))}
        },
    }
    statuses["408"] = plain("The body did not arrive in time.") | {"headers": NO_STORE}
    edge = {"default": "edge.example.com", "description": "host and port that visitors' requests reach"}
    api = {
        "servers": [{"url": "https://{edge}", "description": "the edge port", "variables": {"edge": edge}}],
        "post": {
            "operationId": "post_api",
            "tags": ["dynamic numbers"],
            "summary": "Ask for the tracking numbers to show instead of a page's numbers",
            "description": _ABOUT,
            "x-codeSamples": [
                sample(files(__package__).joinpath("signing", file).read_text(encoding="utf-8"), language)
                for language, file in _SAMPLES.items()
            ],
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
                "description": f"A JSON object of at most {wire.BODY_MOST} bytes. With `Content-Encoding: gzip` or "
                "`deflate` it is signed as it is sent.",
                "content": {JSON: {"schema": ref("schemas", "PageOfNumbers")}},
            },
            "responses": statuses,
        },
    }
    return {"/api": api}


def responses() -> Tree:
    """None: it describes each where it is."""
    return {}
