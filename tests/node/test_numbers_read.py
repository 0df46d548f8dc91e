"""One reader in every room: what is a number on a page, in a form, a query and a body is the same."""

from collections.abc import AsyncIterator
from urllib.parse import quote

import orjson
import pytest

from edgeproxy.calls import attribution
from edgeproxy.store.partner import Partner
from tests.conftest import Desk, Edge, serving, web_request
from tests.partner.client import FORM, Api, logged_in

TOKEN = {"Access-Token": "demo-token"}
ALL = """
accounts:
  x:
    secrets: [s]
    region: DE
    pools:
      listed: {replaces: [+491111111, 030 / 15 98 12 00, +52 1 55 1234 5678], numbers: [+493015981191..+493015981193]}
      rest: {replaces: all, numbers: [+493015981101..+493015981120]}
"""
# How the demo's +493015981100 may be written.
WRITTEN = [
    "Tel.: +49 30 15981100", "(+49) 30 15 98 11 00", "＋49 ٣٠ 15981100", "&#43;49&nbsp;30&nbsp;15981100",
    "%2B493015981100",
    "tel:+49-30-15981100;ext=7", '"Name 24" <sip:+493015981100@host24.example:5060;user=phone>', "+49 (0)30 15981100",
    "030 15981100 ext. 12", "030 15981100 (Mo-Fr 9-17 Uhr)", "\u202d030 15981100\u202c", "493015981100",
    "tel:15981100;phone-context=+4930", "030 15981100 / 030 15981101",
]  # fmt: skip
REFUSED = (400, {"errors": ["number: is not a phone number"]})
NO_NUMBERS = ["2026-11-26", "12345", "116 117", "+49442079460000", "sip:alice@192.0.2.10:5060", "+1 555 1234", "x"]


@pytest.fixture
async def api(store_url: str) -> AsyncIterator[Api]:
    async with logged_in(store_url) as api:
        yield api


async def replaced(edge: Edge, numbers: list[str], account: str = "x", key: str = "s") -> dict[str, str]:
    status, answer, _ = await edge.post(web_request(advId=account, numbers=numbers), key)
    assert status == 200, answer
    return {entry["number_on_page"]: entry["replace_with"]["e164"] for entry in answer["numbers"]}


async def test_a_page_is_read_however_it_writes_its_number(store_url: str) -> None:
    async with serving(store_url) as edge:
        for text in WRITTEN:
            (number,) = (await replaced(edge, [text, *NO_NUMBERS], "demo", "freespee")).items()
            assert number[0] == text
            assert number[1].startswith("+4930159811")


async def test_all_means_every_valid_number_and_a_listed_one_is_matched_whatever_its_validity(
    store_url: str, desk: Desk
) -> None:
    async with serving(store_url) as edge:
        await desk.load(ALL)
        invalid = "+491111112"  # possible, and in no range that is given out
        assert await replaced(edge, [*NO_NUMBERS, invalid]) == {}
        shown = await replaced(edge, ["0111 1111", "030 15981200", "+52 55 1234 5678", "030 15981100", invalid])
        assert list(shown) == ["0111 1111", "030 15981200", "+52 55 1234 5678", "030 15981100"]
        assert [number[-3:] for number in shown.values()] == ["191", "192", "193", "101"]


async def test_a_partner_s_number_is_read_however_it_is_written(api: Api) -> None:
    (source,) = (await api.good("POST", "sources", {"customer_id": "407390", "name": "s"}))["sources"]
    for text in WRITTEN:
        if len(text) <= 64:
            (changed,) = (await api.good("PUT", f"sources/{source['source_id']}", {"destnr": text}))["sources"]
            assert changed["destnr"] == "+493015981100"
            found = await api.good("GET", f"sources?destnr={quote(text, safe='')}")
            assert [one["source_id"] for one in found["sources"]] == [source["source_id"]]
            await api.good("PUT", f"sources/{source['source_id']}", {"destnr": ""})


@pytest.mark.parametrize("field", ["destnr", "smsnumber", "phonenr", "alt_numbers"])
async def test_a_partner_s_field_that_is_no_number_is_refused_by_its_name(api: Api, field: str) -> None:
    before = (await api.good("GET", "sources"))["total"]
    made = {"customer_id": "407390", "name": "s"}
    for text in NO_NUMBERS:
        status, tree = await api.call("POST", "sources", made | {field: text})
        (error,) = tree["errors"]
        assert (status, error.split(": ", 1)) == (400, [error.split(":")[0], "is not a phone number"])
        assert error.startswith(field)
    assert (await api.good("GET", "sources"))["total"] == before


async def test_a_plus_that_nobody_escaped_is_one_in_forms_and_queries(api: Api) -> None:
    raw = "customer_id=407390&name=+24+Hours&destnr=+4612345678&smsnumber=+46 12 345 678"
    raw += "&alt_numbers=+4612345679,+46 12345680,%2B4612345681, 030 901820"
    (source,) = (await api.good("POST", "sources", raw, FORM))["sources"]
    assert (source["destnr"], source["smsnumber"], source["name"]) == ("+4612345678", "+4612345678", " 24 Hours")
    assert source["alt_numbers"] == ["+4612345679", "+4612345680", "+4612345681", "+4930901820"]
    for query in ("destnr=+4612345678", "destnr=%2B4612345678", "destnr=%204612345678"):
        assert (await api.good("GET", f"sources?{query}"))["total"] == 1
    target = f"sources/{source['source_id']}?destnr=+4612345682"
    (source,) = (await api.good("PUT", target))["sources"]
    assert source["destnr"] == "+4612345682"
    body = orjson.dumps({"destnr": " 030 901820"})  # JSON needs no escapes: a blank is a blank
    headers = {"Content-Type": "application/json"}
    (source,) = (await api.good("PUT", f"sources/{source['source_id']}", body, headers))["sources"]
    assert source["destnr"] == "+4930901820"


async def test_a_lookup_and_a_call_read_their_number_as_a_page_does(api: Api) -> None:
    tracking = "+493015981151"
    for text in WRITTEN:
        written = text.replace("15 98 11 00", "15981100").replace("15981100", "15981151", 1)
        if "%" in text:
            written = "%2B493015981151"
        url = f"{api.edge.manage}/calls/lookup?number={quote(written, safe='')}"
        async with api.edge.client.get(url, headers=TOKEN) as response:
            assert (response.status, orjson.loads(await response.read())["number"]) == (200, tracking), written
        event = orjson.dumps({"call_id": f"call-{WRITTEN.index(text)}", "event": "started", "number": written})
        async with api.edge.client.post(f"{api.edge.manage}/calls", data=event, headers=TOKEN) as response:
            assert (response.status, orjson.loads(await response.read())["number"]) == (200, tracking), written
    async with api.edge.client.get(f"{api.edge.manage}/calls/lookup?number=+493015981151", headers=TOKEN) as response:
        assert (await response.json())["number"] == tracking
    async with api.edge.client.get(f"{api.edge.manage}/calls/lookup?number=+4612345678", headers=TOKEN) as response:
        assert (await response.json())["errors"] == ["number: +4612345678 is none of this account's"]


async def test_a_call_on_no_number_is_refused_by_the_field_s_name(api: Api) -> None:
    for text in NO_NUMBERS:
        url = f"{api.edge.manage}/calls/lookup?number={quote(text, safe='')}"
        async with api.edge.client.get(url, headers=TOKEN) as response:
            assert (response.status, await response.json()) == (400, {"errors": ["number: is not a phone number"]}), (
                text
            )
        event = orjson.dumps({"call_id": "c", "event": "started", "number": text})
        async with api.edge.client.post(f"{api.edge.manage}/calls", data=event, headers=TOKEN) as response:
            assert (response.status, await response.json()) == (400, {"errors": ["number: is not a phone number"]}), (
                text
            )


async def test_a_call_is_routed_to_numbers_only_whatever_an_earlier_release_took_for_one(api: Api, desk: Desk) -> None:
    """Such as `12345`, which it read as a German number."""
    account, partner = await desk.account("demo"), Partner(desk.store, None)
    customer = await partner.create_customer(account, {"name": "c", "custnr": "9"})
    fields = {"customer_id": customer["customer_id"], "name": "s", "timestamp": None}
    fields |= {"destnr": "+4912345", "alt_numbers": "+4612345678,+4912345,+5215512345678"}
    source = await partner.create_source(account, fields, "")
    event = orjson.dumps({"call_id": "c", "event": "started", "number": source["phonenr"]})
    async with api.edge.client.post(f"{api.edge.manage}/calls", data=event, headers=TOKEN) as response:
        route = (await response.json())["route"]
    assert route["destination"] is None
    assert route["alternatives"] == ["+4612345678", "+525512345678"]


def test_no_route_leads_to_what_is_no_number() -> None:
    goes = attribution.Route("+4912345", ("+49116117",), reserve="+1234")
    assert attribution.route(attribution.Found(True, (attribution.Match("source", goes),))) == attribution.Route(None)
    assert attribution.route(attribution.Found(True, ())) == attribution.Route(None)
