"""Voicemail greetings of customers: what callers hear who reach a voicemail."""

import base64
import binascii
from typing import Annotated

from pydantic import AfterValidator, Field

from edgeproxy.accounts.account import Account
from edgeproxy.errors import RefusedError
from edgeproxy.http.endpoint import Refusal
from edgeproxy.partner.render import Tree
from edgeproxy.partner.resources.customers import CustomerId
from edgeproxy.partner.resources.fields import Id, Name
from edgeproxy.partner.resources.operation import Operation
from edgeproxy.partner.resources.records import READ_MOST, show
from edgeproxy.partner.resources.refusals import refuse
from edgeproxy.store.partner import Partner, Record

SOUND_MOST = 1024 * 1024  # bytes of a greeting, decoded
GREETING = ("vm_greeting_id", "customer_id", "name", "timestamp", "datalength", "locked", "used_by", "sounddata")


def _sound(text: str) -> str:
    compact = "".join(text.replace(" ", "+").split())  # a form whose + was not escaped comes with spaces
    try:
        sound = base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    if not 0 < len(sound) <= SOUND_MOST:
        raise ValueError(f"must decode to 1 to {SOUND_MOST} bytes")
    return compact


class GreetingQuery(CustomerId):
    """A customer's greetings, or one of them."""

    vm_greeting_id: Id | None = None


class GreetingId(CustomerId):
    """One greeting of a customer."""

    vm_greeting_id: Id


_Sound = Annotated[
    str, AfterValidator(_sound), Field(description=f"base64 of at most {SOUND_MOST} bytes", min_length=1)
]


class NewGreeting(CustomerId):
    """A greeting to make."""

    name: Name
    sounddata: _Sound


class GreetingChanges(GreetingId):
    """Changes to a greeting; what is not sent is kept."""

    name: Name = ""
    sounddata: _Sound = ""


def _length(sound: str) -> str:
    return str(len(base64.b64decode(sound)))


async def _show_greetings(partner: Partner, account: Account, records: list[Record]) -> list[Tree]:
    ids = [str(record["vm_greeting_id"]) for record in records]
    users = (await partner.find(account, "sources", {"vm_greeting_id": ids}, most=READ_MOST)).records if ids else []
    used_by: dict[str | None, list[str]] = {}
    for source in users:
        if source["status"] not in ("quarantined", "archived"):
            used_by.setdefault(source["vm_greeting_id"], []).append(str(source["source_id"]))
    shown = []
    for record in records:
        sources = used_by.get(record["vm_greeting_id"], [])
        in_use: Record = {"locked": "1" if sources else "0", "used_by": ",".join(sources)}
        shown.append(show(record | in_use, GREETING[:-1]))
    return shown


async def _list_greetings(partner: Partner, account: Account, fields: GreetingQuery) -> Tree:
    customer_id, greeting_id = fields.customer_id, fields.vm_greeting_id
    if greeting_id is None:
        if await partner.get(account, "customers", customer_id) is None:
            raise Refusal(404, f"customer {customer_id}: not found")
        found = await partner.find(account, "greetings", {"customer_id": [customer_id]}, most=READ_MOST)
        return {"voicemail_greetings": await _show_greetings(partner, account, found.records)}
    record = await partner.get(account, "greetings", greeting_id)
    if record is None or record["customer_id"] != customer_id:
        raise Refusal(404, f"voicemail greeting {greeting_id}: not found")
    (shown,) = await _show_greetings(partner, account, [record])
    return {"voicemail_greetings": [{**shown, "sounddata": (await partner.sound(account, greeting_id)).decode()}]}


async def _create_greeting(partner: Partner, account: Account, fields: NewGreeting) -> Tree:
    record: Record = {
        "customer_id": fields.customer_id, "name": fields.name, "datalength": _length(fields.sounddata),
    }  # fmt: skip
    try:
        made = await partner.create_greeting(account, record, fields.sounddata.encode())
    except RefusedError as refused:
        refuse(refused, "voicemail greeting")
    return {"voicemail_greetings": await _show_greetings(partner, account, [made])}


async def _update_greeting(partner: Partner, account: Account, fields: GreetingChanges) -> Tree:
    changes: Record = fields.sent("customer_id", "vm_greeting_id", "sounddata")
    sound = None
    if fields.sounddata:
        changes["datalength"], sound = _length(fields.sounddata), fields.sounddata.encode()
    try:
        record = await partner.update_greeting(account, fields.customer_id, fields.vm_greeting_id, changes, sound)
    except RefusedError as refused:
        refuse(refused, f"voicemail greeting {fields.vm_greeting_id}")
    return {"voicemail_greetings": await _show_greetings(partner, account, [record])}


async def _delete_greeting(partner: Partner, account: Account, fields: GreetingId) -> Tree:
    try:
        await partner.delete_greeting(account, fields.customer_id, fields.vm_greeting_id)
    except RefusedError as refused:
        refuse(refused, f"voicemail greeting {fields.vm_greeting_id}")
    return {"voicemail_greetings": []}


_GIVES = ("voicemail_greetings", GREETING)
_OF_CUSTOMER = ("customers/{customer_id}/voicemail_greetings", "customers/voicemail_greetings")
_ONE = ("customers/{customer_id}/voicemail_greetings/{vm_greeting_id}", "customers/voicemail_greetings")

OPERATIONS = (
    Operation(
        "GET", (_ONE[0], *_OF_CUSTOMER), GreetingQuery, _list_greetings,
        "List a customer's voicemail greetings, or read one with its sound", _GIVES,
    ),
    Operation("POST", _OF_CUSTOMER, NewGreeting, _create_greeting, "Upload a voicemail greeting", _GIVES),
    Operation("PUT", _ONE, GreetingChanges, _update_greeting, "Change a voicemail greeting", _GIVES),
    Operation("DELETE", _ONE, GreetingId, _delete_greeting, "Delete a voicemail greeting", _GIVES),
)  # fmt: skip
