"""Sources: tracking numbers that belong to customers, from a free number to its quarantine."""

from typing import Annotated, Any, Literal

from pydantic import Field

from edgeproxy.accounts.account import Account
from edgeproxy.errors import RefusedError
from edgeproxy.http.endpoint import Refusal
from edgeproxy.partner.render import Tree
from edgeproxy.partner.resources.fields import (
    Class,
    CustNr,
    CustomFields,
    Fields,
    Flag,
    Id,
    Moment,
    Name,
    Nullable,
    Number,
    Numbers,
    Paged,
    Text60,
    Text150,
)
from edgeproxy.partner.resources.operation import Operation
from edgeproxy.partner.resources.records import READ_MOST, show
from edgeproxy.partner.resources.refusals import refuse, refuse_undefined
from edgeproxy.store.partner import Filters, Partner, Record, Status

SOURCE = ("source_id", "name", "email", "smsnumber", "media", "customer_id", "phonenr", "destnr", "timestamp",
          "expire", "created", "modified", "class", "status", "vm_greeting_id", "notify_on_missed_call",
          "vm_divert_all", "vm_divert_busy", "vm_divert_noanswer", "alt_numbers", "campaign_id",
          "reserve_number")  # fmt: skip


class SourceQuery(Paged):
    """Which sources; every filter that is sent must hold."""

    source_id: Id | None = None
    customer_id: Id | None = None
    custnr: CustNr | None = None
    destnr: Number | None = None
    campaign_id: CustNr | None = None
    status: Status | None = None
    class_: Class | None = Field(None, alias="class")


class SourceId(Fields):
    """One source."""

    source_id: Id


class SourceTexts(CustomFields):
    """What may be left out of a source."""

    email: Annotated[Text150 | None, Nullable] = None
    smsnumber: Annotated[Number | None, Nullable] = None
    media: Annotated[Text60 | None, Nullable] = None
    destnr: Annotated[Number | None, Nullable] = None
    timestamp: Annotated[Moment | None, Nullable] = None
    expire: Annotated[Moment | None, Nullable] = None
    class_: Class = Field("0", alias="class")
    vm_greeting_id: Annotated[Id | None, Nullable] = None
    notify_on_missed_call: Flag = "0"
    vm_divert_all: Flag = "0"
    vm_divert_busy: Flag = "0"
    vm_divert_noanswer: Flag = "0"
    alt_numbers: Numbers = Field([])
    campaign_id: Annotated[CustNr | None, Nullable] = None
    reserve_number: Flag = "0"


class NewSource(SourceTexts):
    """A source to make; without `phonenr` it takes the number that has been free the longest."""

    customer_id: Id
    name: Name
    phonenr: Annotated[Number | None, Nullable] = None


class SourceChanges(SourceTexts, SourceId):
    """Changes to a source; what is not sent is kept."""

    name: Name = ""


class Extension(SourceId):
    """A later expiry for a source that has one."""

    expire: Moment


class Reactivation(SourceId):
    """A source that is to serve again, until `expire` if that is sent."""

    expire: Annotated[Moment | None, Nullable] = None


def _show_source(account: Account, record: Record) -> Tree:
    return show(record, (*SOURCE, *account.custom_fields["sources"]))


def _flat(fields: dict[str, Any]) -> Record:
    """Fields as a record keeps them: lists as texts."""
    return {name: ",".join(value) if isinstance(value, list) else value for name, value in fields.items()}


async def _list_sources(partner: Partner, account: Account, fields: SourceQuery) -> Tree:
    filters: Filters = {
        name: [value] for name, value in fields.sent("page", "pagesize", "source_id", "custnr").items() if value
    }
    if fields.custnr is not None:
        customers = await partner.find(account, "customers", {"custnr": [fields.custnr]}, most=READ_MOST)
        if customers.total > READ_MOST:
            raise Refusal(400, f"custnr: more than {READ_MOST} customers have it: ask by customer_id")
        owners = [str(record["customer_id"]) for record in customers.records]
        filters["customer_id"] = [owner for owner in owners if owner in filters.get("customer_id", owners)]
    if fields.source_id is not None:
        record = await partner.get(account, "sources", fields.source_id)
        if record is None or any(record.get(name) not in values for name, values in filters.items()):
            raise Refusal(404, f"source {fields.source_id}: not found")
        return {"sources": [_show_source(account, record)]}
    skip, most = fields.place()
    found = await partner.find(account, "sources", filters, skip=skip, most=most)
    return fields.listed("sources", found.total, [_show_source(account, record) for record in found.records])


async def _create_source(partner: Partner, account: Account, fields: NewSource) -> Tree:
    refuse_undefined(fields, account.custom_fields["sources"], "sources")
    record = _flat(fields.model_dump(exclude={*CustomFields.model_fields, "phonenr"}, by_alias=True) | fields.sent())
    record["extended"] = "0"
    try:
        made = await partner.create_source(account, record, fields.phonenr or "")
    except RefusedError as refused:
        refuse(refused, "source")
    return {"sources": [_show_source(account, made)]}


async def _change_source(
    partner: Partner,
    account: Account,
    fields: SourceId,
    what: Literal["update", "extend", "reactivate", "delete"],
) -> Tree:
    try:
        record = await partner.change_source(account, fields.source_id, what, _flat(fields.sent("source_id")))
    except RefusedError as refused:
        refuse(refused, f"source {fields.source_id}")
    return {"sources": [_show_source(account, record)]}


async def _update_source(partner: Partner, account: Account, fields: SourceChanges) -> Tree:
    refuse_undefined(fields, account.custom_fields["sources"], "sources")
    return await _change_source(partner, account, fields, "update")


async def _delete_source(partner: Partner, account: Account, fields: SourceId) -> Tree:
    return await _change_source(partner, account, fields, "delete")


async def _extend_source(partner: Partner, account: Account, fields: Extension) -> Tree:
    return await _change_source(partner, account, fields, "extend")


async def _reactivate_source(partner: Partner, account: Account, fields: Reactivation) -> Tree:
    return await _change_source(partner, account, fields, "reactivate")


_GIVES = ("sources", SOURCE)
_ONE = ("sources/{source_id}", "sources")

OPERATIONS = (
    Operation("GET", _ONE, SourceQuery, _list_sources, "List sources, or read one", _GIVES),
    Operation("POST", ("sources",), NewSource, _create_source, "Make a source of a free number", _GIVES),
    Operation("PUT", _ONE, SourceChanges, _update_source, "Change a source", _GIVES),
    Operation("DELETE", _ONE, SourceId, _delete_source, "End a source; its number is quarantined", _GIVES),
    *(
        Operation(method, ("sources/{source_id}/" + word, "sources/" + word), fields, run, summary, _GIVES)
        for method in ("POST", "PUT")
        for word, fields, run, summary in (
            ("extend", Extension, _extend_source, "Give a source a later expiry"),
            ("reactivate", Reactivation, _reactivate_source, "Take a source out of quarantine"),
        )
    ),
)
