"""Callers over HTTP: what is kept of them, in which order their calls' events come, and how they are forgotten."""

import io
import itertools
from typing import Any
from urllib.parse import quote

import orjson
import phonenumbers
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from edgeproxy.calls import export
from edgeproxy.calls.caller import read_caller
from edgeproxy.store import keys, streams
from edgeproxy.store.calls import Calls
from tests.calls.api import NUMBER, Api, cdrs, kept
from tests.conftest import Desk

CALLER = "+4915112345678"
TYPES = (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE, PhoneNumberType.TOLL_FREE, PhoneNumberType.VOIP)
TOLD: dict[str, Any] = {"started": {"number": NUMBER}, "answered": {}, "ended": {}}


def e164(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def examples() -> list[tuple[str, phonenumbers.PhoneNumber]]:
    """A number of each kind of each region that libphonenumber knows, and the region that it is dialled in."""
    found = {}
    for region in sorted(phonenumbers.SUPPORTED_REGIONS):
        for kind in TYPES:
            if (number := phonenumbers.example_number_for_type(region, kind)) is not None:
                found[region, e164(number)] = number
    return [(region, number) for (region, _), number in found.items()]


EXAMPLES = examples()


def in_uri(text: str) -> list[str]:
    """A number as SIP has it."""
    user = quote(text, safe="+()-.")
    return [
        f"sip:{user}@198.51.100.27:5060;user=phone",
        f"<sips:{user}@gw24.example.com>;tag=8675309",
        f'"Name 24" <sip:{user}@[2001:db8::1]:5061;transport=udp>',
    ]


def spellings(number: phonenumbers.PhoneNumber) -> list[str]:
    """Ways to write a number that are read alike everywhere."""
    plain = e164(number)
    shown = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
    told = phonenumbers.format_number(number, PhoneNumberFormat.RFC3966)
    foreign = plain.translate(str.maketrans("+0123456789", "＋٠١٢٣٤٥٦٧٨٩"))
    return [
        plain,
        shown,
        told,
        foreign,
        f"{told};ext=24",
        f"{plain} ext. 24",
        f"Tel.: {plain}",
        f"<{told}>;tag=1",
        f"  {plain} ",
        f"Meier <{shown}>",
        *in_uri(plain),
    ]


async def forget_calls(desk: Desk) -> None:
    if names := [key async for key in desk.redis.scan_iter("ep1:{x}:c*")]:
        await desk.redis.delete(*names)


async def all_that_is_kept(api: Api, desk: Desk) -> str:
    """Every key and value of the account, the answers of `statistics/cdrs`, and what an export writes."""
    rows = io.BytesIO()
    writer = export._JSONLines(rows, export.COLUMNS["calls"])
    await export._copy(streams.calls(desk.store, "x", 0, api.clock.now * 2), export._calls, writer, lambda share: None)
    return f"{await kept(desk)} {await cdrs(desk)} {rows.getvalue().decode()}"


def digits_of(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


# Reading --------------------------------------------------------------------------------------------------------------


def test_every_region_s_numbers_are_read_in_every_spelling() -> None:
    for region, number in EXAMPLES:
        national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
        for text in (*spellings(number), national, *in_uri(national)):
            assert read_caller(text, region).number == e164(number), (region, text)


# What is kept ---------------------------------------------------------------------------------------------------------


async def test_of_no_region_s_callers_anything_keeps_the_whole_digits(
    api: Api, desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0, "edgeproxy")
    numbers = dict(EXAMPLES[::-1])
    callers = {}  # by call
    for serial, number in enumerate(numbers.values()):
        forms = spellings(number)
        await api.event(f"c{serial}", "started", number=NUMBER, caller=forms[serial % len(forms)])
        callers[f"c{serial}"] = e164(number)
    everything = await all_that_is_kept(api, desk) + caplog.text
    account, calls = await desk.account("x"), Calls(desk.store, None)
    anums = {number: (await calls.known(account, call_id)).fields["anum"] for call_id, number in callers.items()}
    assert anums == {number: number[:-3] + "xxx" for number in anums}
    masked = " ".join(anums.values())  # one may begin with another, which is shorter
    assert [number for number in anums if number[1:] in everything and number[1:] not in masked] == []


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_whatever_the_spelling_nothing_keeps_whole_digits_and_erasing_the_plain_number_finds_every_call(
    api: Api, desk: Desk, caplog: pytest.LogCaptureFixture, data: st.DataObject
) -> None:
    caplog.set_level(0, "edgeproxy")
    await forget_calls(desk)
    _, number = data.draw(st.sampled_from(EXAMPLES))
    texts = data.draw(st.lists(st.sampled_from(spellings(number)), min_size=1, max_size=4))
    for text in texts:
        call_id = f"call-{next(SERIAL)}"
        order = data.draw(st.permutations(list(TOLD)))
        teller = data.draw(st.sampled_from(list(TOLD)))
        for event in order:
            await api.event(call_id, event, **TOLD[event], **({"caller": text} if event == teller else {}))
    plain = e164(number)
    everything = await all_that_is_kept(api, desk)
    hashed = (await Calls(desk.store, None).caller(await desk.account("x"), plain))["anum_md5"]
    assert plain[1:] not in everything + caplog.text
    assert hashed in everything
    status, receipt = await api.send("POST", "/calls/erase", {"caller": plain})
    assert (status, receipt["erased"]["calls"]) == (200, len(texts))
    everything = await all_that_is_kept(api, desk)
    assert hashed not in everything
    assert plain[:-3] not in everything
    assert len(await cdrs(desk)) == len(texts)


SERIAL = itertools.count()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60) | st.text(alphabet='+0123456789 ()-;=<>@"xsip:tel', max_size=40))
@example('"+4930901820" <sip:4930901821@192.0.2.1:50600>')
@example("1234567890 1234567890 1234567890")
@example("+4930901820;ext=901820")
async def test_of_any_text_the_digits_are_kept_nowhere_as_a_whole(
    api: Api, desk: Desk, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    caplog.set_level(0, "edgeproxy")
    call_id = f"text-{next(SERIAL)}"
    for event in TOLD:
        await api.event(call_id, event, **TOLD[event], caller=text)
    record = (await cdrs(desk))[-1]
    caller = read_caller(text, "DE")
    masked = "anonymous" if caller.withheld else caller.number and caller.number[:-3] + "xxx"
    assert record["anum"] == masked
    assert (record["anum_md5"] is None) == (caller.number is None)
    digits = digits_of(text)
    if len(digits) > 6 and digits not in NUMBER:
        assert digits not in await all_that_is_kept(api, desk) + caplog.text
    await forget_calls(desk)


@pytest.mark.parametrize("caller", ["", "anonymous", "+266696687", '"Anonymous" <sip:anonymous@anonymous.invalid>'])
async def test_a_withheld_caller_is_kept_as_anonymous_and_has_no_hash(api: Api, desk: Desk, caller: str) -> None:
    for event in TOLD:
        await api.event("c", event, **TOLD[event], caller=caller)
    (record,) = await cdrs(desk)
    assert (record["anum"], record["anum_md5"]) == ("anonymous", None)
    entries = await desk.redis.xrange(keys.calls("x"))
    assert [orjson.loads(fields["call"])["anum_md5"] for _, fields in entries] == [None] * 3
    status, tree = await api.send("POST", "/calls/erase", {"caller": caller or "anonymous"})
    assert (status, tree["errors"]) == (400, ["caller: is withheld, so nobody is known by it"])


@pytest.mark.parametrize("caller", ["sip:alice@example.com", "Bob", "sip:192.0.2.1:5060"])
async def test_of_a_caller_that_is_no_number_nothing_is_kept_until_an_event_tells_one(
    api: Api, desk: Desk, caller: str
) -> None:
    await api.event("c", "started", number=NUMBER, caller=caller)
    await api.event("c", "ended", caller=caller)
    (record,) = await cdrs(desk)
    assert (record["anum"], record["anum_md5"]) == (None, None)
    await api.event("c", "answered", caller=CALLER)
    (record,) = await cdrs(desk)
    assert record["anum"] == "+4915112345xxx"


async def test_a_caller_whose_number_stands_in_the_call_s_id_is_in_no_key_and_no_stream(api: Api, desk: Desk) -> None:
    forms = ("4915112345678-%d.2", "SIP/0151-12345678@pbx~%d", "%%2B49151.12345678:%d")
    for serial, (order, teller) in enumerate(itertools.product(itertools.permutations(TOLD), TOLD)):
        call_id = forms[serial % len(forms)] % (100 + serial)
        for again in (False, True):
            for event in order:
                tells = event == teller and (again or serial % 2)  # some only when the event comes again
                fields = TOLD[event] | ({"caller": CALLER} if tells else {})
                assert (await api.event(call_id, event, **fields))["call_id"] == call_id
        everything = await all_that_is_kept(api, desk)
        assert not [form for form in ("15112345678", "151-12345678", "151.12345678") if form in everything]
    assert len(await cdrs(desk)) == serial + 1
    told = [orjson.loads(fields["call"]) for _, fields in await desk.redis.xrange(keys.calls("x"))]
    assert sorted(call["event"] for call in told) == sorted(list(TOLD) * (serial + 1))
    assert len({call["call_id"] for call in told}) == serial + 1


# The order of events --------------------------------------------------------------------------------------------------

NOON, BEFORE, AFTER, LATER = (f"2026-05-28T12:0{minute}:00.000Z" for minute in (5, 3, 6, 8))


@pytest.mark.parametrize(
    ("moments", "duration", "corrected"),
    [
        ({"started": NOON, "answered": AFTER, "ended": LATER}, 120, {}),
        ({"started": NOON, "answered": BEFORE, "ended": LATER}, 180, {"answered": (BEFORE, NOON)}),
        ({"started": NOON, "answered": AFTER, "ended": BEFORE}, 0, {"ended": (BEFORE, AFTER)}),
        ({"started": NOON, "answered": LATER, "ended": AFTER}, 0, {"ended": (AFTER, LATER)}),
        ({"started": LATER, "answered": NOON, "ended": AFTER}, 0, {"answered": (NOON, LATER), "ended": (AFTER, LATER)}),
        ({"started": NOON, "ended": BEFORE}, 0, {"ended": (BEFORE, NOON)}),
    ],
)
async def test_an_event_told_to_be_before_the_one_it_follows_is_corrected_and_that_is_said(
    api: Api, desk: Desk, moments: dict[str, str], duration: int, corrected: dict[str, tuple[str, str]]
) -> None:
    for turn, order in enumerate(itertools.permutations(moments)):
        for event in order:
            answer = await api.event(f"c{turn}", event, at=moments[event], **TOLD[event])
        said = answer.get("corrected", {})
        assert {event: (said[event]["told"], said[event]["taken"]) for event in said} == corrected
        assert ("corrected" in answer) == bool(corrected)
    records = await cdrs(desk)
    assert {record["duration"] for record in records} == {str(duration)}
    assert {record["answered"] for record in records} == {str(int("answered" in moments))}
    assert len(records) == turn + 1
    told = [orjson.loads(fields["call"]) for _, fields in await desk.redis.xrange(keys.calls("x"))]
    assert {call["at"] for call in told if call["event"] == "ended"} == {moments_ms(moments["ended"])}


def moments_ms(text: str) -> int:
    return 1_779_969_600_000 + (int(text[14:16])) * 60_000


# Erasure --------------------------------------------------------------------------------------------------------------

PERSONAL: dict[str, Any] = {
    "trackingId": "visitor-of-mine",
    "fullUrl": "https://example.com/landing?gclid=click-of-mine",
    "fullReferrer": "https://search.example/?q=words-of-mine",
    "parameters": {
        "custnr": "nr-of-mine", "custname": "name-of-mine", "custemail": "mail-of-mine", "trackingId": "a-of-mine",
    },
}  # fmt: skip


@pytest.mark.parametrize("whom", ["trackingId", "sessionId", "caller"])
@pytest.mark.parametrize("order", [("started", "answered", "ended"), ("ended", "answered", "started")])
async def test_of_an_erased_person_no_key_and_no_value_is_left_and_the_call_s_record_stays(
    api: Api, desk: Desk, whom: str, order: tuple[str, ...]
) -> None:
    session = await api.visit(**PERSONAL)
    await api.visit(**PERSONAL | {"sessionId": session, "fullUrl": "https://example.com/second-of-mine"})
    other = await api.visit("+4930222", trackingId="other", parameters={"custnr": "others"})
    for call_id, number in (("call-of-mine", NUMBER), ("call-of-another", "+493015981410")):
        for event in order:
            fields = {"number": number} if event == "started" else {}
            fields |= {"caller": CALLER if number == NUMBER else "+4915112340000"} if event == "answered" else {}
            await api.event(call_id, event, **fields)
    before = await kept(desk)
    hashed = (await Calls(desk.store, None).caller(await desk.account("x"), CALLER))["anum_md5"]
    visit = [session, "of-mine"]
    assert all(text in before for text in (*visit, hashed, "call-of-mine", "+4915112345"))
    told = await kept(desk, "cdr:*")  # both of the first page and of the last
    assert all(text in told for text in ("click-of-mine", "words-of-mine", "mail-of-mine", "second-of-mine"))
    whose = {"trackingId": "visitor-of-mine", "sessionId": session, "caller": CALLER}[whom]
    status, receipt = await api.send("POST", "/calls/erase", {whom: whose})
    assert status == 200
    assert receipt["erased"]["calls"] == 1
    everything = await all_that_is_kept(api, desk)
    if whom == "caller":  # the visit is somebody's, who may be another; nothing of the call leads to it
        assert not [text for text in (hashed, "call-of-mine", "+4915112345") if text in everything]
        everything = await kept(desk, "c[ad]*")
    assert [text for text in (*visit, hashed, "call-of-mine", "+4915112345") if text in everything] == []
    assert "call-of-another" in everything
    assert other in everything
    records = {record["bnum"]: record for record in await cdrs(desk)}
    mine, others = records[NUMBER], records["+493015981410"]
    assert (mine["cnum"], mine["answered"], mine["anum"], mine["custnr"]) == ("+4930111", "1", None, None)
    assert (others["session_id"], others["anum"], others["custnr"]) == (other, "+4915112340xxx", "others")
    for event in order:  # and they do not come back
        fields = {"number": NUMBER} if event == "started" else {}
        await api.event("call-of-mine", event, **fields, caller=CALLER)
    assert len(await cdrs(desk)) == 2
    assert not [text for text in (hashed, "call-of-mine", "+4915112345") if text in await kept(desk)]


async def test_a_visitor_s_session_is_found_by_the_records_of_calls_when_the_streams_are_gone(
    api: Api, desk: Desk
) -> None:
    session = await api.visit(trackingId="me")
    for event in TOLD:
        await api.event("c", event, **TOLD[event])
    await api.visit(trackingId="another", sessionId=session)
    await desk.redis.delete(keys.visits("x"), keys.visitor_prefix("x") + "me")
    assert (await api.send("POST", "/calls/erase", {"trackingId": "me"}))[0] == 200
    everything = await kept(desk)
    assert session not in everything
    assert "'me'" not in everything
    assert '"me"' not in everything


async def test_a_session_is_found_by_its_first_page_when_nothing_else_names_the_visitor(api: Api, desk: Desk) -> None:
    session = await api.visit(trackingId="me", fullUrl="https://example.com/first-of-mine")
    for name in ("another", ""):
        await api.visit(trackingId=name, sessionId=session)
    await desk.redis.delete(keys.visits("x"), keys.visitor_prefix("x") + "me")
    assert "first-of-mine" in await kept(desk)
    _, receipt = await api.send("POST", "/calls/erase", {"trackingId": "me"})
    assert receipt["erased"]["sessions"] == 1
    everything = await kept(desk)
    assert not [text for text in (session, "first-of-mine", "another") if text in everything]


async def test_a_visitor_who_had_an_erased_session_keeps_what_others_gave(api: Api, desk: Desk) -> None:
    session = await api.visit(trackingId="me")
    other = await api.visit("+4930222", trackingId="me", userAgent="Mozilla/5.0 (Windows NT 10.0) Firefox/140.0")
    _, receipt = await api.send("POST", "/calls/erase", {"sessionId": session})
    assert receipt["erased"]["visitors"] == 1
    everything = await kept(desk)
    assert session not in everything
    assert other in everything
    assert await desk.redis.exists(keys.visitor_prefix("x") + "me")
    assert await desk.redis.pttl(keys.visitor_prefix("x") + "me") > 0
