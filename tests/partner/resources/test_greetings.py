"""Voicemail greetings over HTTP."""

import base64

import pytest

from tests.partner.client import Api

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # what aiohttp's client says


async def test_voicemail_greetings(api: Api) -> None:
    sound = bytes(range(256)) * 4096  # 1 MiB: the most
    form = {"name": "Beep", "sounddata": base64.b64encode(sound).decode()}
    (made,) = (await api.good("POST", "customers/1/voicemail_greetings", form))["voicemail_greetings"]
    assert (made["datalength"], made["locked"], made["used_by"], "sounddata" in made) == ("1048576", "0", [], False)
    one = f"customers/1/voicemail_greetings/{made['vm_greeting_id']}"
    (read,) = (await api.good("GET", one))["voicemail_greetings"]
    assert base64.b64decode(read["sounddata"]) == sound
    listed = await api.good("GET", "customers/voicemail_greetings?customer_id=1")
    assert [greeting["name"] for greeting in listed["voicemail_greetings"]] == ["Out of office", "Beep"]
    assert "sounddata" not in listed["voicemail_greetings"][0]
    (source,) = (await api.good("PUT", "sources/643967", {"vm_greeting_id": made["vm_greeting_id"]}))["sources"]
    assert source["vm_greeting_id"] == made["vm_greeting_id"]
    (used,) = (await api.good("GET", one))["voicemail_greetings"]
    assert (used["locked"], used["used_by"]) == ("1", ["643967"])
    assert (await api.call("DELETE", one))[0] == 403
    await api.good("PUT", "sources/643967", {"vm_greeting_id": ""})
    (renamed,) = (await api.good("PUT", one, {"name": "Boop", "sounddata": "AAAA"}))["voicemail_greetings"]
    assert (renamed["name"], renamed["datalength"]) == ("Boop", "3")
    assert await api.good("DELETE", one) == {"voicemail_greetings": []}
    assert (await api.call("GET", one))[0] == 404
    assert (await api.call("GET", "customers/407390/voicemail_greetings/2"))[0] == 404
    assert (await api.call("GET", "customers/9/voicemail_greetings"))[0] == 404
    for wrong in ("", "@", base64.b64encode(sound + b"x").decode()):
        status, tree = await api.call("POST", "customers/1/voicemail_greetings", {"name": "x", "sounddata": wrong})
        assert status == 400
        assert tree["errors"][0].startswith("sounddata: ")
