"""Bodies of the static numbers API, right and wrong: the tables that tests of the wire and the document share."""

from typing import Any

import orjson

NUMBER = "79990000001"


REDIRECT: dict[str, Any] = {"redirectType": "PSTN", "ptsnOptions": {"redirectNumber": "74951234567"}}


RESERVE: dict[str, Any] = {"reserveNumber": "74957654321", "reserveTimeOut": 30}


def body(**changes: Any) -> dict[str, Any]:
    return {"phoneNumber": NUMBER, "displayOptions": {"source": "yandex"}, **changes}


def redirect(**changes: Any) -> dict[str, Any]:
    return body(redirectOptions={**REDIRECT, **changes})


def reserve(**changes: Any) -> dict[str, Any]:
    return redirect(reserveRedirect={**RESERVE, **changes})


def without(tree: dict[str, Any], *path: str) -> dict[str, Any]:
    copy: dict[str, Any] = orjson.loads(orjson.dumps(tree))
    node = copy
    for step in path[:-1]:
        node = node[step]
    del node[path[-1]]
    return copy


# A row of the seed's table: the parameter, a body in which it is right, bodies in which it is wrong with the message.
TABLE: list[tuple[str, dict[str, Any], list[tuple[dict[str, Any], str]]]] = [
    (
        "phoneNumber",
        body(),
        [
            (without(body(), "phoneNumber"), "is required"),
            (body(phoneNumber=True), "must be a string"),
            (body(phoneNumber="7999000000"), "must be a phone number like 7xxxxxxxxxx"),
            (body(phoneNumber="799900000011"), "must be a phone number like 7xxxxxxxxxx"),
            (body(phoneNumber="2026-11-26"), "must be a phone number like 7xxxxxxxxxx"),
            (body(phoneNumber="+7999000000"), "must be a phone number like 7xxxxxxxxxx"),
            (body(phoneNumber="79990000001,79990000002"), "must be a phone number like 7xxxxxxxxxx"),
            (body(phoneNumber="\u0667\u0669\u0669\u0669\u0660\u0660\u0660\u0660\u0660\u0660\u0661"),
             "must be a phone number like 7xxxxxxxxxx"),
            (body(phoneNumber=[NUMBER]), "must be a string"),
        ],
    ),
    (
        "displayOptions",
        body(),
        [(body(displayOptions="x"), "must be an object"), (body(displayOptions=[]), "must be an object")],
    ),
    (
        "displayOptions.source",
        body(displayOptions={"source": "yandex", "medium": "cpc", "campaign": "c", "content": "d", "keyword": "e"}),
        [
            (body(displayOptions={"medium": "cpc"}), "is required"),
            (body(displayOptions={"source": ""}), "must not be empty"),
            (body(displayOptions={"source": 5}), "must be a string"),
            (body(displayOptions={"source": "x" * 256}), "must have at most 255 characters"),
            (body(displayOptions={"source": "a\nb"}), "must not hold control characters"),
        ],
    ),
    *(
        (
            f"displayOptions.{name}",
            body(displayOptions={"source": "s", name: ""}),
            [
                (body(displayOptions={"source": "s", name: 1}), "must be a string"),
                (body(displayOptions={"source": "s", name: "x" * 256}), "must have at most 255 characters"),
            ],
        )
        for name in ("medium", "campaign", "content", "keyword")
    ),
    ("redirectOptions", redirect(), [(body(redirectOptions="x"), "must be an object")]),
    (
        "redirectOptions.redirectType",
        redirect(),
        [
            (without(redirect(), "redirectOptions", "redirectType"), "is required"),
            (redirect(redirectType="SIP"), "must be PSTN"),
            (redirect(redirectType={"type": "PSTN"}), "must be PSTN"),
        ],
    ),
    (
        "redirectOptions.ptsnOptions",
        redirect(),
        [
            (without(redirect(), "redirectOptions", "ptsnOptions"), "is required"),
            (redirect(ptsnOptions=1), "must be an object"),
        ],
    ),
    (
        "redirectOptions.ptsnOptions.redirectNumber",
        redirect(ptsnOptions={"redirectNumber": "493012345678"}),  # other digits, where they form a valid number
        [
            (redirect(ptsnOptions={}), "is required"),
            (redirect(ptsnOptions={"redirectNumber": "1"}), "must be a phone number like 7xxxxxxxxxx"),
            (redirect(ptsnOptions={"redirectNumber": "999999999"}), "must be a phone number like 7xxxxxxxxxx"),
        ],
    ),
    ("redirectOptions.reserveRedirect", reserve(), [(redirect(reserveRedirect="x"), "must be an object")]),
    (
        "redirectOptions.reserveRedirect.reserveNumber",
        reserve(),
        [
            (without(reserve(), "redirectOptions", "reserveRedirect", "reserveNumber"), "is required"),
            (reserve(reserveNumber="7"), "must be a phone number like 7xxxxxxxxxx"),
        ],
    ),
    (
        "redirectOptions.reserveRedirect.reserveTimeOut",
        reserve(reserveTimeOut="10"),
        [
            (without(reserve(), "redirectOptions", "reserveRedirect", "reserveTimeOut"), "is required"),
            (reserve(reserveTimeOut=9), "must be from 10 to 120 seconds"),
            (reserve(reserveTimeOut="121"), "must be from 10 to 120 seconds"),
            (reserve(reserveTimeOut="99999"), "must be from 10 to 120 seconds"),
            (reserve(reserveTimeOut="9" * 5000), "must be from 10 to 120 seconds"),
            (reserve(reserveTimeOut=10**9), "must be from 10 to 120 seconds"),
            (reserve(reserveTimeOut=30.5), "must be whole seconds, as a number or a string"),
            (reserve(reserveTimeOut="30s"), "must be whole seconds, as a number or a string"),
            (reserve(reserveTimeOut=True), "must be whole seconds, as a number or a string"),
        ],
    ),
    (
        "redirectOptions.reserveRedirect.ignoreEarlyMedia",
        reserve(ignoreEarlyMedia=False),
        [
            (reserve(ignoreEarlyMedia="yes"), "must be true or false"),
            (reserve(ignoreEarlyMedia=1), "must be true or false"),
        ],
    ),
    (
        "poolName",
        {"phoneNumber": NUMBER, "poolName": "Пул"},
        [
            (body(poolName=""), "must not be empty"),
            (body(poolName={}), "must be a string"),
            (body(poolName="x" * 256), "must have at most 255 characters"),
        ],
    ),
]  # fmt: skip
