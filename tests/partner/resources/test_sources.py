"""Sources over HTTP: how they are made, found, extended and deleted, and which cannot be."""

from typing import Any

import orjson
import pytest

from tests.partner.client import Api

SAMPLE_SOURCE = [
    "source_id", "name", "email", "smsnumber", "media", "customer_id", "phonenr", "destnr", "timestamp", "expire",
    "created", "modified", "class", "status", "vm_greeting_id", "notify_on_missed_call", "vm_divert_all",
    "vm_divert_busy", "vm_divert_noanswer", "alt_numbers",
]  # fmt: skip


async def test_sources(api: Api) -> None:
    form = {"customer_id": "407390", "name": "AdWords", "media": "Google.com", "phonenr": "0890510"}
    (source,) = (await api.good("POST", "sources", form))["sources"]
    assert list(source)[: len(SAMPLE_SOURCE)] == SAMPLE_SOURCE
    assert (source["phonenr"], source["status"], source["alt_numbers"], source["expire"]) == (
        "+49890510", "active", [], None,
    )  # fmt: skip
    one = f"sources/{source['source_id']}"
    assert (await api.call("POST", "sources", form))[1] == {"errors": ["phonenr: is not free"]}
    changes = {"destnr": "030 1234", "alt_numbers": "030 1235,+44 20 7946 0000", "expire": "2099-01-31", "class": "3"}
    (changed,) = (await api.good("PUT", one, changes))["sources"]
    assert (changed["destnr"], changed["alt_numbers"], changed["expire"], changed["class"]) == (
        "+49301234", ["+49301235", "+442079460000"], "2099-01-31 00:00:00", "3",
    )  # fmt: skip
    assert (await api.good("GET", one))["sources"] == [changed]
    assert (await api.call("PUT", one, {"phonenr": "030 1"}))[1] == {"errors": ["phonenr: there is no such field"]}
    (extended,) = (await api.good("POST", one + "/extend", {"expire": "2099-03-01 12:00:00"}))["sources"]
    assert (extended["status"], extended["expire"]) == ("extended", "2099-03-01 12:00:00")
    (gone,) = (await api.good("DELETE", one))["sources"]
    assert gone["status"] == "quarantined"
    assert (await api.call("DELETE", one))[0] == 403
    (back,) = (await api.good("PUT", f"sources/reactivate?source_id={source['source_id']}"))["sources"]
    assert (back["status"], back["expire"]) == ("active", None)


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("", ["643967", "643968", "643969", "643970"]),
        ("customer_id=1", ["643967", "643968"]),
        ("custnr=1412", ["643969", "643970"]),
        ("custnr=1412&customer_id=1", []),
        ("custnr=none", []),
        ("destnr=030+12345601", ["643967", "643968"]),
        ("destnr=%2B493012345602&customer_id=407390", ["643969"]),
        ("status=active&class=0", ["643967", "643968", "643969", "643970"]),
        ("status=archived", []),
        ("campaign_id=x", []),
        ("source_id=643970&customer_id=407390", ["643970"]),
    ],
)
async def test_source_filters(api: Api, query: str, ids: list[str]) -> None:
    tree = await api.good("GET", f"sources?{query}")
    assert [source["source_id"] for source in tree["sources"]] == ids


@pytest.mark.parametrize(
    "expire",
    [
        "2099-01-31 11:00:00",
        "2099-01-31T12:00:00+01:00",
        "2099-01-31T11:00Z",
        "4073540400",
        "4073540400000",
        4073540400,
    ],
)
async def test_a_time_is_taken_in_every_form(api: Api, expire: Any) -> None:
    fields = {"customer_id": "1", "name": "s", "expire": expire}
    form = fields | {"expire": str(expire)}
    for body, headers in ((form, {}), (orjson.dumps(fields), {"Content-Type": "application/json"})):
        (source,) = (await api.good("POST", "sources", body, headers))["sources"]
        assert source["expire"] == "2099-01-31 11:00:00"


async def test_a_source_without_an_expiry_is_told_to_have_none_to_extend(api: Api) -> None:
    (source,) = (await api.good("POST", "sources", {"customer_id": "1", "name": "s"}))["sources"]
    one = f"sources/{source['source_id']}"
    assert await api.call("POST", one + "/extend", {"expire": "2099-03-01"}) == (
        400, {"errors": ["expire: the source has none that could be extended: a PUT of the source gives it one"]},
    )  # fmt: skip
    await api.good("PUT", one, {"expire": "2099-02-01"})
    (extended,) = (await api.good("POST", one + "/extend", {"expire": "2099-03-01"}))["sources"]
    assert extended["status"] == "extended"


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"customer_id": "9"}, 400, "customer_id: there is no such customer"),
        ({"phonenr": "+4930999999"}, 400, "phonenr: is none of the account's numbers"),
        ({"phonenr": "x"}, 400, "phonenr: is not a phone number"),
        ({"phonenr": "+493015981151"}, 403, "phonenr: is not free"),
        ({"vm_greeting_id": "2", "customer_id": "407390"}, 400, "vm_greeting_id: the customer has no such greeting"),
        ({"expire": "2001-01-01"}, 400, "expire: must be later than now"),
        ({"expire": "2099-02-30"}, 400, "expire: must be a time such as"),
        ({"expire": "2099-12-31 23:59:60"}, 400, "expire: must be a time such as"),
        ({"expire": "9999-12-31 23:59:61"}, 400, "expire: must be a time such as"),
        ({"expire": "9999-12-31 23:59:59"}, 400, "expire: must be a time from 1970 to 9998"),
        ({"timestamp": "tomorrow"}, 400, "timestamp: must be a time such as"),
        ({"alt_numbers": ",".join(f"0301234{n}" for n in range(11))}, 400, "alt_numbers: has more than 10 entries"),
        ({"custom_2": "x"}, 400, "custom_2: is not defined for sources"),
    ],
)
async def test_a_source_that_cannot_be(api: Api, form: dict[str, str], status: int, error: str) -> None:
    answered, tree = await api.call("POST", "sources", {"customer_id": "1", "name": "s", **form})
    assert answered == status
    assert any(line.startswith(error) for line in tree["errors"]), tree
    assert (await api.good("GET", "sources"))["total"] == 4


async def test_an_empty_inventory_is_a_clear_error(api: Api) -> None:
    statuses = [(await api.call("POST", "sources", {"customer_id": "1", "name": "s"}))[0] for _ in range(11)]
    assert statuses == [200] * 11
    assert await api.call("POST", "sources", {"customer_id": "1", "name": "s"}) == (
        403,
        {"errors": ["no number is free"]},
    )
