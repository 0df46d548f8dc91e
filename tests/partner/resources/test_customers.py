"""Customers over HTTP: how they are made, listed, changed and deleted, and who sees them."""

import xml.etree.ElementTree as ET

import aiohttp
import orjson
from aiohttp import DigestAuthMiddleware

from edgeproxy.partner import digest
from edgeproxy.store.users import User, Users
from tests.conftest import Desk
from tests.partner.client import FORM, Api

SAMPLE_CUSTOMER = [
    "customer_id", "name", "custnr", "corporateid", "email", "uuid", "dncs_class_name", "receive_monthly_report",
    "freespee_caller_id",
]  # fmt: skip


ADDRESS = ["address_street", "address_zip", "address_city", "address_state", "address_country"]


async def test_customers(api: Api) -> None:
    tree = await api.good("POST", "customers", {"name": "DailyLoans", "custnr": "1412"})
    (customer,) = tree["customers"]
    assert list(tree) == ["customers"]
    assert list(customer) == [*SAMPLE_CUSTOMER, *ADDRESS, "custom_1", "custom_2"]
    assert (customer["corporateid"], customer["receive_monthly_report"], customer["custom_1"]) == ("", "0", None)
    one = f"customers/{customer['customer_id']}"
    assert (await api.good("GET", one))["customers"] == [customer]
    changed = (await api.good("PUT", one, {"email": "a@example.com", "custom_1": "x"}))["customers"]
    assert changed == [customer | {"email": "a@example.com", "custom_1": "x"}]
    assert (await api.good("PUT", one, {"custom_1": ""}))["customers"][0]["custom_1"] is None
    twice = await api.good("GET", "customers?custnr=1412")
    assert (twice["total"], [c["name"] for c in twice["customers"]]) == (2, ["DailyLoans", "DailyLoans"])
    assert await api.good("DELETE", one) == {"customers": []}
    assert (await api.call("GET", one))[0] == 404
    assert (await api.call("PUT", one, {"name": "x"})) == (404, {"errors": [f"{one.replace('s/', ' ')}: not found"]})


async def test_ids_in_query_and_body_as_in_the_path(api: Api) -> None:
    assert (await api.good("PUT", "customers", {"customer_id": "1", "name": "A"}))["customers"][0]["name"] == "A"
    assert (await api.good("PUT", "customers?customer_id=1", {"name": "B"}))["customers"][0]["name"] == "B"
    assert (await api.good("PUT", "customers/1", {"customer_id": "1", "name": "C"}))["customers"][0]["name"] == "C"
    status, tree = await api.call("PUT", "customers/1", {"customer_id": "2", "name": "D"})
    assert (status, tree) == (400, {"errors": ["customer_id: stands there twice"]})
    assert (await api.good("GET", "customers?customer_id=1"))["customers"][0]["name"] == "C"
    made = (await api.good("POST", "customers", {"name": "E", "custnr": "9"}))["customers"][0]["customer_id"]
    assert await api.good("DELETE", "customers", f"customer_id={made}".encode(), FORM) == {"customers": []}
    assert (await api.call("DELETE", f"customers?customer_id={made}"))[0] == 404


async def test_pages(api: Api) -> None:
    for n in range(5):
        await api.good("POST", "customers", {"name": str(n), "custnr": str(n)})
    tree = await api.good("GET", "customers?page=1&pagesize=3")
    assert [tree[name] for name in ("total", "page", "pagesize", "numpages")] == [7, 1, 3, 3]
    assert [customer["name"] for customer in tree["customers"]] == ["1", "2", "3"]
    beyond = await api.good("GET", "customers?page=9&pagesize=3")
    assert (beyond["customers"], beyond["total"]) == ([], 7)
    async with api.client.get(api.url("customers.xml?page=2&pagesize=3")) as response:
        root = ET.fromstring(await response.text())
    assert (root.tag, root.attrib) == ("customers", {"total": "7", "page": "2", "pagesize": "3", "numpages": "3"})
    for query in ("page=-1", "page=x", "pagesize=0", "pagesize=1001", "page="):
        assert (await api.call("GET", f"customers?{query}"))[0] == 400


async def test_a_customer_s_address_is_null_until_it_is_told(api: Api) -> None:
    (customer,) = (await api.good("GET", "customers/1"))["customers"]
    assert [customer[name] for name in ADDRESS] == [None] * 5
    address = dict(zip(ADDRESS, ("Hauptstraße 1", "10827", "Berlin", "BE", "DE"), strict=True))
    (changed,) = (await api.good("PUT", "customers/1", address))["customers"]
    assert changed == customer | address
    (emptied,) = (await api.good("PUT", "customers/1", {"address_city": ""}))["customers"]
    assert emptied["address_city"] is None
    assert await api.call("PUT", "customers/1", {"address_zip": "1" * 41}) == (
        400, {"errors": ["address_zip: has more than 40 characters"]},
    )  # fmt: skip


async def test_an_account_sees_nothing_of_another(api: Api, desk: Desk) -> None:
    file = "accounts: {other: {secrets: [s], region: DE, networks: [127.0.0.0/8], numbers: [+493015989000]}}"
    await desk.load(file)
    hashes = {name: digest.ha1(name, "other", digest.REALM, "other-password") for name in digest.OFFERED}
    await Users(desk.store).save("other", User("other", hashes))
    login = DigestAuthMiddleware("other", "other-password")
    async with aiohttp.ClientSession(middlewares=[login]) as client:
        other = Api(api.edge, client)
        assert (await other.good("GET", "customers"))["total"] == 0
        for target in ("customers/1", "sources/643967", "statistics/cdrs/1", "customers/1/voicemail_greetings/2"):
            assert (await other.call("GET", target))[0] == 404
        for method, target in (("PUT", "customers/1"), ("DELETE", "customers/1"), ("DELETE", "sources/643967")):
            assert (await other.call(method, target))[0] == 404
    assert (await api.good("GET", "customers"))["total"] == 2


async def test_hostile_strings_come_back_the_same_in_both_formats(api: Api) -> None:
    for hostile in ("]]>", "<!--", "&amp;", "\U0001f4de", "a\rb\nc\td", "\u202e", "'\"", "{}", "%00"):
        tree = await api.good(
            "POST", "customers", orjson.dumps({"name": hostile, "custnr": "1"}), {"Content-Type": "application/json"}
        )
        customer = tree["customers"][0]
        assert customer["name"] == hostile
        async with api.client.get(api.url(f"customers.xml/{customer['customer_id']}")) as response:
            assert ET.fromstring(await response.text())[0][1].text == hostile
