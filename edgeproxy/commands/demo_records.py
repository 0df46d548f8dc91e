"""What `edgeproxy demo` has in store: a user, customers, sources, a greeting, call records, static numbers in use.

The ids are those of the documented examples, so that these work as they are written.
"""

import base64
import contextlib
import io
import math
import struct
import time
import wave
from collections.abc import Iterator

from edgeproxy.accounts.account import Account
from edgeproxy.errors import RefusedError
from edgeproxy.partner import digest
from edgeproxy.store import Store
from edgeproxy.store.calls import Calls
from edgeproxy.store.calls import Record as CallRecord
from edgeproxy.store.numbers import Parts, StaticNumbers
from edgeproxy.store.partner import Partner, Record
from edgeproxy.store.users import User, Users

USER, PASSWORD = "demo", "demo-password"
ACCOUNT = "demo"
_CUSTOMERS = (
    ("1", "Freespee AB", "123"),
    ("407390", "DailyLoans", "1412"),
)
_SOURCES = (
    ("643967", "1", "AdWords", "Google.com", "+493015981202", "+493012345601"),
    ("643968", "1", "Flyer", "Print", "+493015981203", "+493012345601"),
    ("643969", "407390", "AdWords", "Google.com", "+493015981204", "+493012345602"),
    ("643970", "407390", "Radio", "Radio", "+493015981205", "+493012345603"),
)
_STATIC = tuple(f"+7999000000{last}" for last in range(1, 6))  # of the ten static numbers, those in use
_GREETING = "2"
_CALLS = 20
_HOUR_MS = 3_600_000
_PATIENCE_S = 5
# Refusals of what is there already or whose number serves elsewhere, of a static number in use, of one record more than
# there may be, and of a record of a customer that was left out.
_NO_PLACE = ("taken", "status", "full", "many", "customer")


async def fill(store: Store) -> None:
    """Put the demo's records into the store, each by its own id; what is there already stays as it is.

    Raises:
        Fault, RefusedError, NotDurableError, UncertainError: the store failed.
    """
    partner, calls = Partner(store, None), Calls(store, None)
    hashes = {algorithm: digest.ha1(algorithm, USER, digest.REALM, PASSWORD) for algorithm in digest.OFFERED}
    await Users(store).save(USER, User(ACCOUNT, hashes))
    account = await store.account(ACCOUNT, time.monotonic() + _PATIENCE_S)
    if account is not None:
        await _fill_records(partner, account)
        await _fill_calls(partner, calls, account)
        await _fill_static(StaticNumbers(store, None), account)


@contextlib.contextmanager
def _unless_it_cannot_be() -> Iterator[None]:
    """A context that leaves a record out which is there already, or for which users have left no place."""
    try:
        yield
    except RefusedError as refused:
        if refused.why not in _NO_PLACE:
            raise


async def _fill_records(partner: Partner, account: Account) -> None:
    for customer_id, name, custnr in _CUSTOMERS:
        customer: Record = {
            "name": name, "custnr": custnr, "corporateid": "", "email": "", "dncs_class_name": "",
            "uuid": f"0097bfcb-9c9c-45ae-b811-{int(customer_id):012d}", "receive_monthly_report": "0",
            "freespee_caller_id": "0", "custom_1": "abc",
        }  # fmt: skip
        with _unless_it_cannot_be():
            await partner.create_customer(account, customer, wanted=customer_id)
    for source_id, customer_id, name, media, number, destination in _SOURCES:
        source: Record = {
            "name": name, "media": media, "customer_id": customer_id, "destnr": destination, "timestamp": None,
            "class": "0", "notify_on_missed_call": "0", "vm_divert_all": "0", "vm_divert_busy": "0",
            "vm_divert_noanswer": "0", "alt_numbers": "", "reserve_number": "0", "extended": "0",
        }  # fmt: skip
        with _unless_it_cannot_be():
            await partner.create_source(account, source, number, wanted=source_id)
    sound = _tone()
    greeting: Record = {"customer_id": "1", "name": "Out of office", "datalength": str(len(sound))}
    with _unless_it_cannot_be():
        await partner.create_greeting(account, greeting, base64.b64encode(sound), wanted=_GREETING)


async def _fill_calls(partner: Partner, calls: Calls, account: Account) -> None:
    listed = await partner.cdrs(account, {}, from_ms=None, to_ms=None, skip=0, most=1, newest_first=False)
    if listed.total >= _CALLS:
        return  # of one that was erased nothing is known any more but its record: it must not be made again
    newest = int(time.time() * 1000) // _HOUR_MS * _HOUR_MS
    for call in range(_CALLS):
        call_id = f"demo-{call}"
        before = await calls.known(account, call_id)
        if before.raw:
            continue
        source_id, customer_id, name, media, number, destination = _SOURCES[call % len(_SOURCES)]
        customer_name, custnr = next(rest for customer, *rest in _CUSTOMERS if customer == customer_id)
        answered = call % 5 != 4
        seconds = str(30 + 17 * call) if answered else "0"
        caller = await calls.caller(account, f"+4930901820{call % 7:02d}")
        record: Record = {
            "duration": seconds, "duration_adjusted": seconds, **caller, "bnum": number,
            "cnum": destination, "customer_id": customer_id, "source_id": source_id, "custnr": custnr,
            "answered": str(int(answered)), "quarantined": "0", "source_name": name, "source_media": media,
            "source_class": "0", "customer_name": customer_name,
        }  # fmt: skip
        known = {"cdr_id": await calls.next_cdr_id(account)}
        start_ms = newest - (_CALLS - call) * 5 * _HOUR_MS
        await calls.put(account, before, known, record=CallRecord(start_ms, record))


async def _fill_static(static: StaticNumbers, account: Account) -> None:
    for number in _STATIC:
        parts: Parts = {
            "displayOptions": {
                "source": "yandex", "medium": "cpc", "campaign": None, "content": None, "keyword": None,
            },
            "redirectOptions": {
                "redirectType": "PSTN",
                "ptsnOptions": {"redirectNumber": "+74951234567"},
                "reserveRedirect": {
                    "reserveNumber": "+74957654321", "reserveTimeOut": 30, "ignoreEarlyMedia": True,
                },
            },
            "poolName": "Demo",
        }  # fmt: skip
        with _unless_it_cannot_be():
            await static.change(account, "create", number, parts, free_of_charge=True)


def _tone() -> bytes:
    """A tenth of a second of a beep, as a WAV file."""
    rate = 8000
    samples = (round(8000 * math.sin(2 * math.pi * 440 * at / rate)) for at in range(rate // 10))
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return file.getvalue()
