"""The partner API as real clients meet it."""

from typing import Any

import pytest

from tests.e2e.partner.clients import CLIENTS, PASSWORD, WRONG, Client, Demo, assert_same

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_makes_reads_changes_and_deletes(demo: Demo, name: str) -> None:
    with CLIENTS[name](demo.base, PASSWORD) as client:
        ping = client("GET", "/miscellaneous/ping")
        assert (ping.status, ping.json) == (200, {"ping": "ok"})
        listed = client("GET", "/customers", page="0", pagesize="1")
        assert listed.status == 200
        assert listed.json["pagesize"] == 1
        assert [customer["customer_id"] for customer in listed.json["customers"]] == ["1"]

        # A customer. The name holds what a form has to escape.
        made = client("POST", "/customers", name="Müller & Söhne = 100 %", custnr=f"of+{name}")
        assert made.status == 200
        (customer,) = made.json["customers"]
        assert customer["name"] == "Müller & Söhne = 100 %"
        its_path = "/customers/" + customer["customer_id"]
        assert client("GET", its_path).json == {"customers": [customer]}
        found = client("GET", "/customers", custnr=f"of+{name}")
        assert found.json["customers"] == [customer]
        changed = client("PUT", its_path, name="Åse", custom_1="1/2 ½")
        assert changed.status == 200
        assert changed.json == {"customers": [customer | {"name": "Åse", "custom_1": "1/2 ½"}]}
        assert client("GET", its_path).json == changed.json
        assert_same(client("GET", its_path.replace("customers", "customers.xml")).xml, changed.json)

        # A source of that customer.
        source = check_source(client, customer["customer_id"], demo.free.pop())

        # The customer goes, once its source is quarantined.
        gone = client("DELETE", "/customers", customer_id=customer["customer_id"])
        assert (gone.status, gone.json) == (200, {"customers": []})
        missing = client("GET", its_path)
        assert missing.status == 404
        assert missing.json == {"errors": [f"customer {customer['customer_id']}: not found"]}
        assert client("GET", "/sources/" + source["source_id"]).json["sources"][0]["status"] == "quarantined"


def check_source(client: Client, customer_id: str, number: str) -> Any:
    """Make a source, read, change and delete it; give it as it was last."""
    made = client(
        "POST", "/sources",
        customer_id=customer_id, name="AdWords", media="Google.com", phonenr=number, alt_numbers="030 12345699",
    )  # fmt: skip
    assert made.status == 200
    (source,) = made.json["sources"]
    assert (source["customer_id"], source["phonenr"], source["status"]) == (customer_id, number, "active")
    assert source["alt_numbers"] == ["+493012345699"]
    path = "/sources/" + source["source_id"]
    assert client("GET", path).json == {"sources": [source]}
    changed = client("PUT", path, name="Flyer", destnr="+493012345607")
    assert changed.status == 200
    (after,) = changed.json["sources"]
    assert after == source | {"name": "Flyer", "destnr": "+493012345607", "modified": after["modified"]}
    assert client("GET", path).json == changed.json
    assert_same(client("GET", path.replace("sources", "sources.xml")).xml, changed.json)
    deleted = client("DELETE", path)
    assert deleted.status == 200
    kept = client("GET", path)
    assert kept.status == 200
    assert kept.json["sources"][0]["status"] == "quarantined"
    return kept.json["sources"][0]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_finds_a_value_of_every_kind_of_character(demo: Demo, name: str) -> None:
    """Clients escape a query's values differently: a slash and a question mark may stand there as they are."""
    custnr = f"1/2 + 3? = 50 % & ü;# {name}"
    with CLIENTS[name](demo.base, PASSWORD) as client:
        (customer,) = client("POST", "/customers", name="Any", custnr=custnr).json["customers"]
        assert customer["custnr"] == custnr
        found = client("GET", "/customers", custnr=custnr)
        assert found.status == 200, found.body
        assert found.json["customers"] == [customer]


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_with_a_wrong_password_ends_with_401(demo: Demo, name: str) -> None:
    with CLIENTS[name](demo.base, WRONG) as client:
        refused = client("GET", "/customers")
    assert refused.status == 401
    assert not refused.kind.startswith("application/json")
    if refused.wire:  # one without credentials, and one with these: no client asks without end
        assert refused.requests_made("GET") == 2
