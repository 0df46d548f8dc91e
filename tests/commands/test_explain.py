"""`edgeproxy explain`: tells what POST /api would do, by the same code, and does none of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import click.testing
import orjson
import pytest

from edgeproxy.commands import main
from edgeproxy.dynamic import signature
from edgeproxy.store import keys
from edgeproxy.store.partner import Partner
from tests.conftest import Desk, Edge, serving, web_request
from tests.servers import client_of

PAGE = "+493015986100"
ACCOUNT = """
accounts:
  x:
    secrets: [s]
    region: DE
    crawlers: {add: [acme-monitor]}
    numbers: [+493015986200]
    pools:
      ads:
        replaces: [+493015986100]
        numbers: [+493015986151]
        match: {utm_source: [google, bing], landing_path: /cars/*}
      friends: {replaces: [+493015986100], numbers: [+493015986152], match: {referrer_host: example.org}}
      rest: {replaces: [+493015986100], numbers: [+493015986153], idle_ttl: 1h}
      shared: {replaces: [+493015986101], numbers: [+493015986154], overflow: shared, shared_number: +493015986155}
      recycle: {replaces: [+493015986102], numbers: [+493015986156], overflow: recycle}
  all: {secrets: [s], region: DE, pools: {p: {replaces: all, numbers: [+493015986158]}}}
  bare: {secrets: [s], region: DE}
  spent: {secrets: [s], region: DE, points: {daily: 0}, pools: {p: {replaces: all, numbers: [+493015986159]}}}
"""


@dataclass
class Table:
    """A gateway, and the command beside it."""

    edge: Edge
    desk: Desk
    url: str

    async def visit(self, **changes: Any) -> tuple[str, list[str]]:
        """The session and the numbers that a real request is shown."""
        status, answer, _ = await self.edge.post(web_request(advId="x", **changes), "s")
        assert status == 200, answer
        return answer["sessionId"], [number["replace_with"]["e164"] for number in answer["numbers"]]

    async def explain(self, *arguments: str, body: bytes = b"", status: int = 0) -> list[str]:
        """The lines that the command prints; what is in the store stays as it is."""
        with client_of(self.url, decoded=False) as client:
            before = contents(client)
            result = await asyncio.to_thread(
                click.testing.CliRunner().invoke, main, ["explain", *arguments],
                env={"EDGEPROXY_STORE_URL": self.url}, input=body,
            )  # fmt: skip
            assert result.exit_code == status, result.output
            assert contents(client) == before
        return [line.strip() for line in result.output.splitlines()]

    async def ends(self, *arguments: str, body: bytes = b"", status: int = 0) -> str:
        return (await self.explain(*arguments, body=body, status=status))[-1]


def contents(client: Any) -> dict[bytes, Any]:
    """All keys of the store, with what they hold; TTLs run on."""
    return {key: client.dump(key) for key in client.scan_iter(count=1000) if not key.startswith(b"ep1:{ip}")}


@pytest.fixture
async def table(store_url: str, desk: Desk) -> AsyncIterator[Table]:
    desk.clock.now = 0  # the store's own time, which the command goes by
    async with serving(store_url) as edge:
        await desk.load(ACCOUNT)
        yield Table(edge, desk, store_url)


X = ("--account", "x", "--number")


async def test_each_step_of_a_number_is_told(table: Table) -> None:
    body = web_request(
        advId="x",
        numbers=f"030 15986100,12,{PAGE[:-1]}9",
        fullUrl="https://www.example.com/vans/1?utm_source=google&gclid=abc",
        fullReferrer="https://www.example.com/",
    )
    raw = orjson.dumps(body)
    lines = await table.explain("-", "--sign", signature.sign(raw, b"s"), body=raw)
    assert lines == [
        "account x, version 1: national numbers are read in DE",
        "signature: good",
        "visit: web; utm_source=google gclid=abc; referrer host: www.example.com; landing path: /vans/1",
        "session: none was sent; a fresh one would be made",
        "'030 15986100': is +493015986100",
        "pool ads: replaces it, but landing_path is /vans/1, and is to be /cars/*",
        "pool friends: replaces it, but referrer_host is www.example.com, and is to be example.org",
        "pool rest: serves it",
        "+493015986153: would be leased",
        "'12': stays: nothing in it can be a phone number, neither as one of DE nor as one with its country code",
        "'+493015986109': is +493015986109",
        "pool ads: does not replace it",
        "pool friends: does not replace it",
        "pool rest: does not replace it",
        "pool shared: does not replace it",
        "pool recycle: does not replace it",
        "it stays: no pool serves it, and it is the destination of no source that serves",
    ]
    assert (await table.visit(numbers="030 15986100"))[1] == ["+493015986153"]


@pytest.mark.parametrize(
    ("parts", "line"),
    [
        ({}, "pool ads: replaces it, but utm_source is not there, and is to be google or bing"),
        ({"--url": "https://a.example/cars/1?utm_source=Bing"}, "pool ads: serves it"),
        ({"--referrer": "https://www.example.org/"}, "pool friends: serves it"),
        ({"--parameter": "utm_source=bing"}, "pool ads: replaces it, but landing_path is /, and is to be /cars/*"),
    ],
)
async def test_a_request_is_made_of_parts(table: Table, parts: dict[str, str], line: str) -> None:
    assert line in await table.explain(*X, PAGE, *(word for pair in parts.items() for word in pair))


@pytest.mark.parametrize(
    ("number", "line"),
    [
        ("call us", "'call us': stays: it has no digits"),
        ("1" * 257, f"'{'1' * 257}': stays: it has more than 256 characters"),
        (
            "+49",
            "'+49': stays: nothing in it can be a phone number, neither as one of DE nor as one with its country code",
        ),
        ("+1 555 000 0000", "pool p: replaces all numbers that are valid, and this one is not"),
    ],
)
async def test_why_a_text_is_no_number_to_be_replaced(table: Table, number: str, line: str) -> None:
    assert line in await table.explain("--account", "all", "--number", number)


async def test_leases_that_are_held_and_that_would_be_granted(table: Table) -> None:
    session, numbers = await table.visit(numbers=PAGE)
    assert numbers == ["+493015986153"]
    held = "+493015986153: the session holds it"
    assert await table.ends(*X, PAGE, "--session-id", session) == f"{held}, and the lease would be renewed"
    assert await table.ends(*X, PAGE, "--session-id", session, "--dry-run") == held
    assert await table.ends(*X, PAGE, "--session-id", session, "--url", "https://a/cars/1?utm_source=bing") == (
        f"{held}, from another pool, which an earlier page of the visit was for, and the lease would be renewed"
    )
    assert await table.ends(*X, PAGE) == "it stays: no number of the pool is free"
    lines = await table.explain(*X, PAGE, "--session-id", "11111111-1111-4111-8111-111111111111")
    assert "session: is none of the account's that lives; a fresh one would be made" in lines


async def test_a_session_that_would_be_joined(table: Table) -> None:
    for visitor in ("me", "me", "other"):
        await table.visit(numbers=PAGE, trackingId=visitor)
    lines = await table.explain("-", body=orjson.dumps(web_request(advId="x", numbers=PAGE, trackingId="me")))
    assert "session: none that lives was sent; the one in which the visitor holds numbers would be joined" in lines
    assert lines[-1] == "+493015986153: the session holds it, and the lease would be renewed"


async def test_overflow(table: Table) -> None:
    shared, recycle = "+493015986101", "+493015986102"
    assert await table.ends(*X, shared) == "+493015986154: would be leased"
    assert await table.ends(*X, recycle) == "+493015986156: would be leased"
    await table.visit(numbers=f"{shared},{recycle}")
    assert await table.ends(*X, shared) == "+493015986155: no number of the pool is free, so it is the shared one"
    assert await table.ends(*X, recycle) == (
        "+493015986156: would be leased, and somebody else's lease or cooldown ended for it"
    )
    assert (await table.visit(numbers=recycle))[1] == ["+493015986156"]


async def test_two_numbers_of_one_page_do_not_get_the_same(table: Table) -> None:
    lines = await table.explain(*X, PAGE, "--number", "030-15986100", "--number", f"{PAGE} ")
    assert [line for line in lines if "+493015986153: " in line] == [
        "+493015986153: would be leased",
        *["+493015986153: the session holds it, and the lease would be renewed"] * 2,
    ]


async def test_who_is_given_no_number(table: Table) -> None:
    googlebot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    stays = "it stays: the session holds no number for it, and a crawler is given none"
    lines = await table.explain(*X, PAGE, "--user-agent", googlebot)
    assert "crawler: yes, the usual list has it: no number is spent on it" in lines
    assert lines[-1] == stays
    lines = await table.explain(*X, PAGE, "--user-agent", "Acme-Monitor/2")
    assert "crawler: yes, crawlers.add has 'acme-monitor': no number is spent on it" in lines
    assert lines[-1] == stays
    assert await table.ends(*X, PAGE, "--user-agent", googlebot, "--app") == "+493015986153: would be leased"
    assert await table.ends(*X, PAGE, "--dry-run") == stays.replace("a crawler", "a dry run")


async def test_sources_by_their_destination(table: Table) -> None:
    account, partner = await table.desk.account("x"), Partner(table.desk.store, None)
    customer = str((await partner.create_customer(account, {"name": "a", "custnr": "1"}))["customer_id"])
    source = {"customer_id": customer, "name": "s", "timestamp": None, "destnr": "+493055555555"}
    await partner.create_source(account, source, "+493015986200")
    assert await table.ends(*X, "030 55555555") == "+493015986200: the number of a source whose destination it is"


async def test_what_the_request_would_be_refused_with(table: Table) -> None:
    assert await table.ends("--account", "bare", "--number", PAGE, status=1) == (
        "the request is refused: 501 No number pool is configured"
    )
    assert await table.ends("--account", "spent", "--number", PAGE, status=1) == (
        "the request is refused: 403 Daily point budget exhausted"
    )
    body = orjson.dumps(web_request(advId="x", type="fax"))
    assert await table.ends("-", body=body, status=1) == (
        "the request is refused: 400 Invalid parameter: type: must be web or app"
    )
    assert await table.ends("-", body=b"{", status=1) == "the request is refused: 400 Malformed JSON"
    assert await table.ends("-", body=b"{}", status=1) == "the request is refused: 400 Missing parameter: advId"
    assert await table.ends("--account", "nobody", "--number", PAGE, status=1) == "there is no account nobody"
    assert "FILE is needed" in await table.ends("--account", "x", status=2)


async def test_a_signature_is_checked_of_what_was_signed(table: Table) -> None:
    raw = orjson.dumps(web_request(advId="x"))
    good = signature.sign(raw, b"s")
    for arguments, line in [
        (("--sign", good), "signature: good"),
        (("--sign", good.upper()), "signature: good"),
        (
            ("--sign", "0" * 40),
            "signature: does not fit the body and a secret of the account; the request would be refused",
        ),
        ((), "signature: not given, so not checked"),
        (("--sign", good, "--dry-run"), "signature: not checked, because options have changed what was signed"),
    ]:
        assert (await table.explain("-", *arguments, body=raw))[1] == line


async def test_what_is_explained_is_what_happens(table: Table) -> None:
    """Of many requests in a row, each is explained first and sent then."""
    sessions = [""]
    for turn in range(24):
        page = [PAGE, "+493015986101", "+493015986102"][turn % 3]
        url = ["https://a/", "https://a/cars/1?utm_source=bing"][turn % 2]
        session = sessions[turn % len(sessions)]
        line = await table.ends(*X, page, "--session-id", session, "--url", url)
        session, numbers = await table.visit(numbers=page, sessionId=session, fullUrl=url)
        sessions.append(session)
        assert line.startswith(f"{numbers[0]}: " if numbers else "it stays: "), (turn, line, numbers)


async def test_without_a_session_nobody_else_s_window_is_touched(table: Table) -> None:
    with client_of(table.url) as client:
        client.delete(*keys.LIMITER[:1])
        await table.explain(*X, PAGE)
        assert not any(client.exists(key) for key in keys.LIMITER)


async def test_a_request_brings_nothing_to_a_terminal_that_it_would_act_on(table: Table) -> None:
    page = "https://example.com/?utm_source=%1B%5D0%3Bmine%07&utm_medium=%C2%9B31m%E2%80%AE"
    for line in await table.explain(*X, f"{PAGE}\x1b]0;mine\x07", "--url", page):
        assert line.isprintable()
    body = orjson.dumps(web_request(advId="x", fullUrl=page, sessionId="\x1b"))
    assert "visit: web; utm_source=\\x1b]0;mine\\x07 utm_medium=\\x9b31m\\u202e" in "\n".join(
        await table.explain("-", body=body)
    )
