"""Call records over HTTP: their filters and pages, and what public clients read of them."""

from tests.conftest import Desk
from tests.partner.client import Api


async def test_call_records(api: Api) -> None:
    tree = await api.good("GET", "statistics/cdrs&page=1&pagesize=8")
    assert [tree[name] for name in ("total", "page", "pagesize", "numpages")] == [20, 1, 8, 3]
    assert [cdr["cdr_id"] for cdr in tree["cdrs"]] == [str(n) for n in range(9, 17)]
    cdr = tree["cdrs"][0]
    assert cdr["anum"].endswith("xxx")
    assert len(cdr["anum_md5"]) == 32
    assert "source_name" not in cdr
    newest = await api.good("GET", "statistics/cdrs?newest_first=1&pagesize=1&extended=1&source_id=643970")
    assert (newest["total"], newest["cdrs"][0]["cdr_id"], newest["cdrs"][0]["source_name"]) == (5, "20", "Radio")
    one = await api.good("GET", "statistics/cdrs?cdr_id=5")
    assert [found["cdr_id"] for found in one["cdrs"]] == ["5"]
    assert (await api.good("GET", "statistics/cdrs/5")) == one
    assert (await api.call("GET", "statistics/cdrs?cdr_id=5&customer_id=407390"))[0] == 404
    day = one["cdrs"][0]["start"][:10]
    of_day = await api.good("GET", f"statistics/cdrs?from_date={day}&to_date={day}")
    assert {found["start"][:10] for found in of_day["cdrs"]} == {day}
    assert of_day["total"] in (4, 5)
    start = one["cdrs"][0]["start"].replace(" ", "+")
    exactly = await api.good("GET", f"statistics/cdrs?from_date={start}&to_date={start}")
    assert [found["cdr_id"] for found in exactly["cdrs"]] == ["5"]
    assert (await api.good("GET", "statistics/cdrs?custnr=123"))["total"] == 10


# What the public clients of this API read of a call with `extended`.
READ_OF_A_CALL = [
    "cdr_id", "start", "duration", "duration_adjusted", "anum", "anum_md5", "bnum", "cnum", "customer_id", "source_id",
    "custnr", "answered", "quarantined", "anum_ndc_name",
]  # fmt: skip


READ_OF_AN_EXTENDED_CALL = [
    "expire", "source_name", "source_media", "class", "publisher_id", "partner_publisher_id", "campaign_id",
    "partner_campaign_id", "pricing_model_id", "commission", "cli_id", "order_id", "recording_id",
]  # fmt: skip


async def test_a_call_record_has_what_public_clients_read(api: Api, desk: Desk) -> None:
    (bare,) = (await api.good("GET", "statistics/cdrs/5"))["cdrs"]
    assert list(bare) == READ_OF_A_CALL
    assert bare["anum_ndc_name"] is None
    (whole,) = (await api.good("GET", "statistics/cdrs/5?extended=1"))["cdrs"]
    assert whole.keys() >= {*READ_OF_A_CALL, *READ_OF_AN_EXTENDED_CALL}
    assert (whole["class"], whole["source_name"]) == ("0", "AdWords")
    assert [whole[name] for name in ("recording_id", "commission", "expire")] == [None] * 3

    form = {"customer_id": "1", "name": "s", "expire": "2099-01-31", "campaign_id": "spring", "class": "3"}
    (source,) = (await api.good("POST", "sources", form))["sources"]
    for event in ("started", "ended"):
        sent = {"call_id": "c", "event": event, "number": source["phonenr"]}
        async with api.edge.client.post(
            api.edge.manage + "/calls", json=sent, headers={"Access-Token": "demo-token"}
        ) as response:
            assert response.status == 200
    query = f"statistics/cdrs?extended=1&source_id={source['source_id']}"
    (call,) = (await api.good("GET", query))["cdrs"]
    assert (call["expire"], call["campaign_id"], call["class"]) == ("2099-01-31 00:00:00", "spring", "3")
