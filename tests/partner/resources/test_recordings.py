"""Recordings over HTTP: there are none."""

import xml.etree.ElementTree as ET

from tests.partner.client import Api


async def test_there_are_no_recordings(api: Api) -> None:
    empty = {"total": 0, "page": 0, "pagesize": 1000, "numpages": 0, "recordings": []}
    assert await api.good("GET", "recordings") == empty
    assert await api.good("GET", "recordings?customer_id=1&from_date=2026-01-01&pagesize=1000") == empty
    for target in ("recordings/1", "recordings?recording_id=1"):
        assert await api.call("GET", target) == (404, {"errors": ["recording 1: not found"]})
    assert (await api.call("GET", "recordings?colour=red"))[0] == 400
    assert (await api.call("DELETE", "recordings/1"))[0] == 405
    async with api.client.get(api.url("recordings.xml")) as response:
        root = ET.fromstring(await response.text())
    assert (root.tag, root.attrib["total"], len(root)) == ("recordings", "0", 0)
