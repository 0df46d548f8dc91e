"""Fields that are lists: the ways in which clients write them, and their bounds."""

from typing import Any

import orjson
import pytest

from tests.partner.client import FORM, JSON, Api

NUMBERS = ["+49301235", "+442079460000"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("alt_numbers=0301235,%2B442079460000", FORM),
        ("alt_numbers=0301235&alt_numbers=%2B442079460000", FORM),  # Python's requests
        ("alt_numbers[]=0301235&alt_numbers[]=%2B442079460000", FORM),
        ("alt_numbers%5B0%5D=0301235&alt_numbers%5B1%5D=%2B442079460000", FORM),  # PHP's http_build_query
        ("alt_numbers%5B3%5D=0301235,%2B442079460000&alt_numbers%5B7%5D=", FORM),
        (b'{"alt_numbers":["0301235","+442079460000"]}', JSON),
        (b'{"alt_numbers":"0301235,+442079460000"}', JSON),
        (b'{"alt_numbers":{"0":"0301235","2":"+442079460000"}}', JSON),  # PHP's json_encode, one left out
    ],
)
async def test_a_list_is_taken_as_clients_write_it(api: Api, body: Any, headers: dict[str, str]) -> None:
    (source,) = (await api.good("PUT", "sources/643967", body, headers))["sources"]
    assert source["alt_numbers"] == NUMBERS
    for empty, of in (("alt_numbers[]=", FORM), ("alt_numbers=", FORM), (b'{"alt_numbers":[]}', JSON)):
        assert (await api.good("PUT", "sources/643967", empty, of))["sources"][0]["alt_numbers"] == []


@pytest.mark.parametrize(
    ("body", "headers", "error"),
    [
        ("alt_numbers[0]=0301235&alt_numbers[0]=0301236", FORM, "alt_numbers[0]: stands there twice"),
        ("alt_numbers[a]=0301235", FORM, "alt_numbers[a]: there is no such field"),
        ("alt_numbers[0][1]=0301235", FORM, "alt_numbers[0][1]: there is no such field"),
        ("name[]=x", FORM, "name[]: there is no such field"),
        ("name=x&name=y", FORM, "name: stands there twice"),
        ("&".join(f"alt_numbers[]=030123{n}" for n in range(11)), FORM, "alt_numbers: has more than 10 entries"),
        (b'{"alt_numbers":{"a":"0301235"}}', JSON, "alt_numbers: "),
    ],
)
async def test_a_list_that_cannot_be(api: Api, body: Any, headers: dict[str, str], error: str) -> None:
    status, tree = await api.call("PUT", "sources/643967", body, headers)
    assert status == 400
    assert tree["errors"][0].startswith(error)


@pytest.mark.parametrize("as_text", [True, False])
async def test_the_length_of_a_list_is_checked_before_its_entries(
    api: Api, as_text: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    monkeypatch.setattr("edgeproxy.partner.resources.fields.read_number", lambda text, region: read.append(text))
    numbers = [f"+4930{i:06}" for i in range(11)]
    fields = {"customer_id": "1", "name": "x", "alt_numbers": ",".join(numbers) if as_text else numbers}
    body = fields if as_text else orjson.dumps(fields)
    status, tree = await api.call("POST", "sources", body, None if as_text else {"Content-Type": "application/json"})
    assert (status, tree) == (400, {"errors": ["alt_numbers: has more than 10 entries"]})
    assert not read
