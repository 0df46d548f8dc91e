"""The resources of the partner REST API: what each operation takes, and what it does (CONTRACT §3).

`OPERATIONS` is the whole API: the handler goes by it, and so does the OpenAPI document. An operation's fields are
checked by its pydantic model; those of the path are among them.
"""

import base64
import binascii
import uuid
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
)

from edgeproxy.accounts import moments
from edgeproxy.accounts.account import Account
from edgeproxy.accounts.number import read_number
from edgeproxy.errors import RefusedError
from edgeproxy.partner.render import FORBIDDEN_IN_XML, Tree
from edgeproxy.store import visits
from edgeproxy.store.partner import Filters, Found, Partner, Record

SOUND_MOST = 1024 * 1024  # bytes of a greeting, decoded
BODY_MOST = 4 * 1024 * 1024  # a greeting of 1 MiB is 1.4 MB in base64, and may be three times that where it is escaped
SMALL_BODY_MOST = 96 * 1024  # of a request without a sound: all custom fields full, and every character escaped
_ALTERNATIVES_MOST = 10
_PARTS_MOST = 100  # of a list that is written as a text, the empty ones among them
_ALL = 1000  # records of a customer's greetings and of their sources

# What records show, in this order.
ADDRESS = ("address_street", "address_zip", "address_city", "address_state", "address_country")
CUSTOMER = ("customer_id", "name", "custnr", "corporateid", "email", "uuid", "dncs_class_name",
            "receive_monthly_report", "freespee_caller_id", *ADDRESS)  # fmt: skip
SOURCE = ("source_id", "name", "email", "smsnumber", "media", "customer_id", "phonenr", "destnr", "timestamp",
          "expire", "created", "modified", "class", "status", "vm_greeting_id", "notify_on_missed_call",
          "vm_divert_all", "vm_divert_busy", "vm_divert_noanswer", "alt_numbers", "campaign_id",
          "reserve_number")  # fmt: skip
GREETING = ("vm_greeting_id", "customer_id", "name", "timestamp", "datalength", "locked", "used_by", "sounddata")
CDR = ("cdr_id", "start", "duration", "duration_adjusted", "anum", "anum_md5", "bnum", "cnum", "customer_id",
       "source_id", "custnr", "answered", "quarantined", "anum_ndc_name")  # fmt: skip
# What public clients read and nobody here knows is always null.
CDR_EXTENDED = ("customer_name", "source_name", "source_media", "source_class", "session_id", "tracking_id", "class",
                "expire", "campaign_id", "publisher_id", "partner_publisher_id", "partner_campaign_id",
                "pricing_model_id", "commission", "cli_id", "order_id", "recording_id",
                *visits.FIELDS)  # fmt: skip
RECORDING = ("recording_id", "customer_id", "source_id", "cdr_id", "timestamp", "expired", "sounddata")
LISTS = ("alt_numbers", "used_by")  # the fields that are lists of texts
NUMBERS = ("phonenr", "destnr", "smsnumber", "alt_numbers")  # the fields that hold phone numbers
_MOMENTS = ("timestamp", "expire", "created", "modified", "start", "first_at", "last_at")


class Refusal(Exception):
    """A request that is answered with an error: its HTTP status, and what is wrong, line by line."""

    def __init__(self, status: int, *errors: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, errors)
        self.status = status
        self.errors = errors
        self.headers = headers or {}


# Fields ---------------------------------------------------------------------------------------------------------------


def _showable(text: str) -> str:
    if FORBIDDEN_IN_XML.search(text):
        raise ValueError("holds a character that cannot be written in XML")
    return text


def _number(text: str, info: ValidationInfo) -> str:
    number = read_number(text, info.context["region"] if info.context else "ZZ")
    if number is None:
        raise ValueError("is not a phone number")
    return number


def _listed(value: object) -> object:
    if isinstance(value, str):
        parts = value.split(",", _PARTS_MOST)
        value = [part.strip() for part in parts if part and not part.isspace()]
    if isinstance(value, list) and len(value) > _ALTERNATIVES_MOST:  # before each of them is read
        raise ValueError(f"has more than {_ALTERNATIVES_MOST} entries")
    return value


def _moment(text: str) -> str:
    return str(moments.read_ms(text))


def _end(text: str) -> str:
    """The first moment after the second, or the day, that is meant."""
    moment = moments.read(text)
    return str(moment.ms + moment.lasts_ms)


def _sound(text: str) -> str:
    compact = "".join(text.replace(" ", "+").split())  # a form whose + was not escaped comes with spaces
    try:
        sound = base64.b64decode(compact, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("is not base64") from None
    if not 0 < len(sound) <= SOUND_MOST:
        raise ValueError(f"must decode to 1 to {SOUND_MOST} bytes")
    return compact


_Showable = AfterValidator(_showable)
_Nullable = BeforeValidator(lambda value: None if value == "" else value)

Id = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,11})$")]
Flag = Annotated[str, StringConstraints(pattern=r"^[01]$")]
Class = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,2})$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=60), _Showable]
CustNr = Annotated[str, StringConstraints(min_length=1, max_length=45), _Showable]
Text40 = Annotated[str, StringConstraints(max_length=40), _Showable]
Text60 = Annotated[str, StringConstraints(max_length=60), _Showable]
Text150 = Annotated[str, StringConstraints(max_length=150), _Showable]
Custom = Annotated[Annotated[str, StringConstraints(max_length=255), _Showable] | None, _Nullable]
Number = Annotated[str, StringConstraints(max_length=64), AfterValidator(_number)]
Numbers = Annotated[list[Number], BeforeValidator(_listed), Field(max_length=_ALTERNATIVES_MOST)]
MomentText = Annotated[
    str,
    Field(
        description="`YYYY-MM-DD HH:MM:SS`, `YYYY-MM-DD`, RFC 3339, or seconds or milliseconds since 1970; UTC where "
        "it does not say",
        json_schema_extra={"pattern": moments.PATTERN},
    ),
]
Moment = Annotated[MomentText, AfterValidator(_moment)]
End = Annotated[MomentText, AfterValidator(_end)]
Status = Literal["active", "upcoming", "reserved", "extended", "quarantined", "archived"]


class Fields(BaseModel):
    """What an operation takes."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    def sent(self, *left_out: str) -> dict[str, Any]:
        """The fields that the client sent, by their names on the wire, but for those `left_out`."""
        return self.model_dump(exclude_unset=True, exclude=set(left_out), by_alias=True)


class Paged(Fields):
    """A list in pages."""

    page: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,9}$")] = "0"
    pagesize: Annotated[str, StringConstraints(pattern=r"^([1-9][0-9]{0,2}|1000)$")] = "1000"

    def place(self) -> tuple[int, int]:
        """How many records to skip, and how many to give."""
        return int(self.page) * int(self.pagesize), int(self.pagesize)

    def paging(self, total: int) -> Tree:
        """What stands beside the list."""
        size = int(self.pagesize)
        return {"total": total, "page": int(self.page), "pagesize": size, "numpages": -(-total // size)}


class CustomFields(Fields):
    """Fields that an account defines at set-up, for customers and for sources ([S2])."""

    custom_1: Custom = None
    custom_2: Custom = None
    custom_3: Custom = None
    custom_4: Custom = None
    custom_5: Custom = None
    custom_6: Custom = None
    custom_7: Custom = None
    custom_8: Custom = None
    custom_9: Custom = None
    custom_10: Custom = None
    custom_11: Custom = None
    custom_12: Custom = None
    custom_13: Custom = None
    custom_14: Custom = None
    custom_15: Custom = None
    custom_16: Custom = None
    custom_17: Custom = None
    custom_18: Custom = None
    custom_19: Custom = None
    custom_20: Custom = None


def _refuse_undefined(fields: CustomFields, defined: Iterable[str], resource: str) -> None:
    wrong = [name for name in fields.sent() if name in CustomFields.model_fields and name not in defined]
    if wrong:
        raise Refusal(400, *(f"{name}: is not defined for {resource}" for name in wrong))


def moment_text(moment: str | None) -> str | None:
    """Epoch ms as `YYYY-MM-DD HH:MM:SS`, UTC."""
    return moments.text_of_seconds(int(moment)) if moment else None


def _show(record: Record, fields: Iterable[str]) -> Tree:
    tree: Tree = {}
    for name in fields:
        value = record.get(name)
        if name in _MOMENTS:
            tree[name] = moment_text(value)
        elif name in LISTS:
            tree[name] = value.split(",") if value else []
        else:
            tree[name] = value
    return tree


def _refuse(refused: RefusedError, what: str) -> NoReturn:
    """Answer what the store refused (see partner.lua); `what` names the record."""
    status, text = {
        "missing": (404, f"{what}: not found"),
        "customer": (400, "customer_id: there is no such customer"),
        "greeting": (400, "vm_greeting_id: the customer has no such greeting"),
        "in use": (403, f"{what}: is in use by sources"),
        "many": (403, "a customer has at most 100 greetings"),
        "number": (400, "phonenr: is none of the account's numbers"),
        "taken": (403, "phonenr: is not free"),
        "no number": (403, "no number is free"),
        "status": (403, f"{what}: its status does not allow this"),
        "full": (403, f"{what}: the account has as many, or as much, as it may have"),
        "endless": (400, "expire: the source has none that could be extended: a PUT of the source gives it one"),
        "expire": (400, "expire: must be later than now, than the timestamp, and than the expiry that is extended"),
    }[refused.why]
    raise Refusal(status, text) from None


def _page(fields: Paged, name: str, found: Found, shown: list[Tree]) -> Tree:
    return {**fields.paging(found.total), name: shown}


# Miscellaneous --------------------------------------------------------------------------------------------------------


async def _ping(partner: Partner, account: Account, fields: Fields) -> Tree:
    return {"ping": "ok"}


# Customers ------------------------------------------------------------------------------------------------------------


class CustomerQuery(Paged):
    """Which customers."""

    customer_id: Id | None = None
    custnr: CustNr | None = None


class CustomerId(Fields):
    """One customer."""

    customer_id: Id


class CustomerTexts(CustomFields):
    """What may be left out of a customer."""

    corporateid: Text40 = ""
    email: Text150 = ""
    dncs_class_name: Text60 = ""
    receive_monthly_report: Annotated[str, StringConstraints(pattern=r"^[012]$")] = "0"
    freespee_caller_id: Flag = "0"
    address_street: Annotated[Text150 | None, _Nullable] = None
    address_zip: Annotated[Text40 | None, _Nullable] = None
    address_city: Annotated[Text60 | None, _Nullable] = None
    address_state: Annotated[Text60 | None, _Nullable] = None
    address_country: Annotated[Text60 | None, _Nullable] = None


class NewCustomer(CustomerTexts):
    """A customer to make."""

    name: Name
    custnr: CustNr


class CustomerChanges(CustomerTexts, CustomerId):
    """Changes to a customer; what is not sent is kept."""

    name: Name = ""
    custnr: CustNr = ""


def _show_customer(account: Account, record: Record) -> Tree:
    return _show(record, (*CUSTOMER, *account.custom_fields["customers"]))


async def _list_customers(partner: Partner, account: Account, fields: CustomerQuery) -> Tree:
    if fields.customer_id is not None:
        record = await partner.get(account, "customers", fields.customer_id)
        if record is None or (fields.custnr is not None and record["custnr"] != fields.custnr):
            raise Refusal(404, f"customer {fields.customer_id}: not found")
        return {"customers": [_show_customer(account, record)]}
    filters: Filters = {} if fields.custnr is None else {"custnr": [fields.custnr]}
    skip, most = fields.place()
    found = await partner.find(account, "customers", filters, skip=skip, most=most)
    return _page(fields, "customers", found, [_show_customer(account, record) for record in found.records])


async def _create_customer(partner: Partner, account: Account, fields: NewCustomer) -> Tree:
    _refuse_undefined(fields, account.custom_fields["customers"], "customers")
    record = fields.model_dump(exclude=set(CustomFields.model_fields)) | fields.sent()
    record["uuid"] = str(uuid.uuid4())
    try:
        made = await partner.create_customer(account, record)
    except RefusedError as refused:
        _refuse(refused, "customer")
    return {"customers": [_show_customer(account, made)]}


async def _update_customer(partner: Partner, account: Account, fields: CustomerChanges) -> Tree:
    _refuse_undefined(fields, account.custom_fields["customers"], "customers")
    try:
        record = await partner.update_customer(account, fields.customer_id, fields.sent("customer_id"))
    except RefusedError as refused:
        _refuse(refused, f"customer {fields.customer_id}")
    return {"customers": [_show_customer(account, record)]}


async def _delete_customer(partner: Partner, account: Account, fields: CustomerId) -> Tree:
    try:
        await partner.delete_customer(account, fields.customer_id)
    except RefusedError as refused:
        _refuse(refused, f"customer {fields.customer_id}")
    return {"customers": []}


# Sources --------------------------------------------------------------------------------------------------------------


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

    email: Annotated[Text150 | None, _Nullable] = None
    smsnumber: Annotated[Number | None, _Nullable] = None
    media: Annotated[Text60 | None, _Nullable] = None
    destnr: Annotated[Number | None, _Nullable] = None
    timestamp: Annotated[Moment | None, _Nullable] = None
    expire: Annotated[Moment | None, _Nullable] = None
    class_: Class = Field("0", alias="class")
    vm_greeting_id: Annotated[Id | None, _Nullable] = None
    notify_on_missed_call: Flag = "0"
    vm_divert_all: Flag = "0"
    vm_divert_busy: Flag = "0"
    vm_divert_noanswer: Flag = "0"
    alt_numbers: Numbers = []
    campaign_id: Annotated[CustNr | None, _Nullable] = None
    reserve_number: Flag = "0"


class NewSource(SourceTexts):
    """A source to make; without `phonenr` it takes the number that has been free the longest."""

    customer_id: Id
    name: Name
    phonenr: Annotated[Number | None, _Nullable] = None


class SourceChanges(SourceTexts, SourceId):
    """Changes to a source; what is not sent is kept."""

    name: Name = ""


class Extension(SourceId):
    """A later expiry for a source that has one."""

    expire: Moment


class Reactivation(SourceId):
    """A source that is to serve again, until `expire` if that is sent."""

    expire: Annotated[Moment | None, _Nullable] = None


def _show_source(account: Account, record: Record) -> Tree:
    return _show(record, (*SOURCE, *account.custom_fields["sources"]))


def _flat(fields: dict[str, Any]) -> Record:
    """Fields as a record keeps them: lists as texts."""
    return {name: ",".join(value) if isinstance(value, list) else value for name, value in fields.items()}


async def _list_sources(partner: Partner, account: Account, fields: SourceQuery) -> Tree:
    filters: Filters = {
        name: [value] for name, value in fields.sent("page", "pagesize", "source_id", "custnr").items() if value
    }
    if fields.custnr is not None:
        customers = await partner.find(account, "customers", {"custnr": [fields.custnr]}, most=_ALL)
        if customers.total > _ALL:
            raise Refusal(400, f"custnr: more than {_ALL} customers have it: ask by customer_id")
        owners = [str(record["customer_id"]) for record in customers.records]
        filters["customer_id"] = [owner for owner in owners if owner in filters.get("customer_id", owners)]
    if fields.source_id is not None:
        record = await partner.get(account, "sources", fields.source_id)
        if record is None or any(record.get(name) not in values for name, values in filters.items()):
            raise Refusal(404, f"source {fields.source_id}: not found")
        return {"sources": [_show_source(account, record)]}
    skip, most = fields.place()
    found = await partner.find(account, "sources", filters, skip=skip, most=most)
    return _page(fields, "sources", found, [_show_source(account, record) for record in found.records])


async def _create_source(partner: Partner, account: Account, fields: NewSource) -> Tree:
    _refuse_undefined(fields, account.custom_fields["sources"], "sources")
    record = _flat(fields.model_dump(exclude={*CustomFields.model_fields, "phonenr"}, by_alias=True) | fields.sent())
    record["extended"] = "0"
    try:
        made = await partner.create_source(account, record, fields.phonenr or "")
    except RefusedError as refused:
        _refuse(refused, "source")
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
        _refuse(refused, f"source {fields.source_id}")
    return {"sources": [_show_source(account, record)]}


async def _update_source(partner: Partner, account: Account, fields: SourceChanges) -> Tree:
    _refuse_undefined(fields, account.custom_fields["sources"], "sources")
    return await _change_source(partner, account, fields, "update")


async def _delete_source(partner: Partner, account: Account, fields: SourceId) -> Tree:
    return await _change_source(partner, account, fields, "delete")


async def _extend_source(partner: Partner, account: Account, fields: Extension) -> Tree:
    return await _change_source(partner, account, fields, "extend")


async def _reactivate_source(partner: Partner, account: Account, fields: Reactivation) -> Tree:
    return await _change_source(partner, account, fields, "reactivate")


# Voicemail greetings --------------------------------------------------------------------------------------------------


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
    users = (await partner.find(account, "sources", {"vm_greeting_id": ids}, most=_ALL)).records if ids else []
    used_by: dict[str | None, list[str]] = {}
    for source in users:
        if source["status"] not in ("quarantined", "archived"):
            used_by.setdefault(source["vm_greeting_id"], []).append(str(source["source_id"]))
    shown = []
    for record in records:
        sources = used_by.get(record["vm_greeting_id"], [])
        in_use: Record = {"locked": "1" if sources else "0", "used_by": ",".join(sources)}
        shown.append(_show(record | in_use, GREETING[:-1]))
    return shown


async def _list_greetings(partner: Partner, account: Account, fields: GreetingQuery) -> Tree:
    customer_id, greeting_id = fields.customer_id, fields.vm_greeting_id
    if greeting_id is None:
        if await partner.get(account, "customers", customer_id) is None:
            raise Refusal(404, f"customer {customer_id}: not found")
        found = await partner.find(account, "greetings", {"customer_id": [customer_id]}, most=_ALL)
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
        _refuse(refused, "voicemail greeting")
    return {"voicemail_greetings": await _show_greetings(partner, account, [made])}


async def _update_greeting(partner: Partner, account: Account, fields: GreetingChanges) -> Tree:
    changes: Record = fields.sent("customer_id", "vm_greeting_id", "sounddata")
    sound = None
    if fields.sounddata:
        changes["datalength"], sound = _length(fields.sounddata), fields.sounddata.encode()
    try:
        record = await partner.update_greeting(account, fields.customer_id, fields.vm_greeting_id, changes, sound)
    except RefusedError as refused:
        _refuse(refused, f"voicemail greeting {fields.vm_greeting_id}")
    return {"voicemail_greetings": await _show_greetings(partner, account, [record])}


async def _delete_greeting(partner: Partner, account: Account, fields: GreetingId) -> Tree:
    try:
        await partner.delete_greeting(account, fields.customer_id, fields.vm_greeting_id)
    except RefusedError as refused:
        _refuse(refused, f"voicemail greeting {fields.vm_greeting_id}")
    return {"voicemail_greetings": []}


# Call records ---------------------------------------------------------------------------------------------------------


class CdrQuery(Paged):
    """Which call records; every filter that is sent must hold. A `to_date` without a time takes the whole day in."""

    cdr_id: Id | None = None
    from_date: Moment | None = None
    to_date: End | None = None
    customer_id: Id | None = None
    source_id: Id | None = None
    custnr: CustNr | None = None
    newest_first: Flag = "0"
    extended: Flag = "0"


def _show_cdr(record: Record, fields: Iterable[str]) -> Tree:
    return _show(record | {"class": record.get("source_class")}, fields)


async def _list_cdrs(partner: Partner, account: Account, fields: CdrQuery) -> Tree:
    shown = (*CDR, *CDR_EXTENDED) if fields.extended == "1" else CDR
    filters = {
        name: value for name in ("customer_id", "source_id", "custnr") if (value := getattr(fields, name)) is not None
    }
    if fields.cdr_id is not None:
        record = await partner.cdr(account, fields.cdr_id)
        if record is None or any(record.get(name) != value for name, value in filters.items()):
            raise Refusal(404, f"cdr {fields.cdr_id}: not found")
        return {"cdrs": [_show_cdr(record, shown)]}
    skip, most = fields.place()
    found = await partner.cdrs(
        account,
        filters,
        from_ms=None if fields.from_date is None else int(fields.from_date),
        to_ms=None if fields.to_date is None else int(fields.to_date),
        skip=skip,
        most=most,
        newest_first=fields.newest_first == "1",
    )
    return _page(fields, "cdrs", found, [_show_cdr(record, shown) for record in found.records])


# Recordings -----------------------------------------------------------------------------------------------------------


class RecordingQuery(Paged):
    """Which recordings of calls. This gateway makes none; clients that look for them go on."""

    recording_id: Id | None = None
    customer_id: Id | None = None
    source_id: Id | None = None
    custnr: CustNr | None = None
    cdr_id: Id | None = None
    from_date: Moment | None = None
    to_date: End | None = None


async def _list_recordings(partner: Partner, account: Account, fields: RecordingQuery) -> Tree:
    if fields.recording_id is not None:
        raise Refusal(404, f"recording {fields.recording_id}: not found")
    return _page(fields, "recordings", Found(0, []), [])


# The API --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one resource.

    In a path, `{name}` stands for the field of that name; a path without them takes them as parameters ([S2],
    *Sub-resources*).
    """

    method: str
    paths: tuple[str, ...]
    fields: type[Fields]
    run: Callable[[Partner, Account, Any], Awaitable[Tree]]
    summary: str
    gives: tuple[str, tuple[str, ...]] | None  # the list in the answer, and the fields of its records

    @property
    def writes(self) -> str:
        """What it does, as the audit calls it, such as `sources.extend`; empty if it changes nothing."""
        if self.gives is None or self.method == "GET":
            return ""
        resource, word = self.gives[0], self.paths[-1].rpartition("/")[2]
        return f"{resource}.{_WRITES[self.method] if word == resource else word}"

    @property
    def body_most(self) -> int:
        """Bytes that its body may have."""
        return BODY_MOST if "sounddata" in self.fields.model_fields else SMALL_BODY_MOST

    @property
    def lists(self) -> frozenset[str]:
        """The fields that are lists of texts."""
        return frozenset(name for name in LISTS if name in self.fields.model_fields)

    @property
    def id_field(self) -> str:
        """The field that names a record of the answer's list."""
        return self.gives[1][0] if self.gives else ""


_WRITES = {"POST": "create", "PUT": "update", "DELETE": "delete"}
_CUSTOMERS = ("customers", CUSTOMER)
_SOURCES = ("sources", SOURCE)
_GREETINGS = ("voicemail_greetings", GREETING)
_ONE_CUSTOMER = ("customers/{customer_id}", "customers")
_ONE_SOURCE = ("sources/{source_id}", "sources")
_OF_CUSTOMER = ("customers/{customer_id}/voicemail_greetings", "customers/voicemail_greetings")
_ONE_GREETING = ("customers/{customer_id}/voicemail_greetings/{vm_greeting_id}", "customers/voicemail_greetings")

OPERATIONS = (
    Operation("GET", ("miscellaneous/ping",), Fields, _ping, "Tell that the API answers", None),
    Operation("GET", _ONE_CUSTOMER, CustomerQuery, _list_customers, "List customers, or read one", _CUSTOMERS),
    Operation("POST", ("customers",), NewCustomer, _create_customer, "Create a customer", _CUSTOMERS),
    Operation("PUT", _ONE_CUSTOMER, CustomerChanges, _update_customer, "Change a customer", _CUSTOMERS),
    Operation("DELETE", _ONE_CUSTOMER, CustomerId, _delete_customer, "Delete a customer", _CUSTOMERS),
    Operation(
        "GET", (_ONE_GREETING[0], *_OF_CUSTOMER), GreetingQuery, _list_greetings,
        "List a customer's voicemail greetings, or read one with its sound", _GREETINGS,
    ),
    Operation("POST", _OF_CUSTOMER, NewGreeting, _create_greeting, "Upload a voicemail greeting", _GREETINGS),
    Operation("PUT", _ONE_GREETING, GreetingChanges, _update_greeting, "Change a voicemail greeting", _GREETINGS),
    Operation("DELETE", _ONE_GREETING, GreetingId, _delete_greeting, "Delete a voicemail greeting", _GREETINGS),
    Operation("GET", _ONE_SOURCE, SourceQuery, _list_sources, "List sources, or read one", _SOURCES),
    Operation("POST", ("sources",), NewSource, _create_source, "Make a source of a free number", _SOURCES),
    Operation("PUT", _ONE_SOURCE, SourceChanges, _update_source, "Change a source", _SOURCES),
    Operation("DELETE", _ONE_SOURCE, SourceId, _delete_source, "End a source; its number is quarantined", _SOURCES),
    *(
        Operation(method, ("sources/{source_id}/" + word, "sources/" + word), fields, run, summary, _SOURCES)
        for method in ("POST", "PUT")
        for word, fields, run, summary in (
            ("extend", Extension, _extend_source, "Give a source a later expiry"),
            ("reactivate", Reactivation, _reactivate_source, "Take a source out of quarantine"),
        )
    ),
    Operation(
        "GET", ("statistics/cdrs", "statistics/cdrs/{cdr_id}"), CdrQuery, _list_cdrs,
        "List call records, or read one", ("cdrs", (*CDR, *CDR_EXTENDED)),
    ),
    Operation(
        "GET", ("recordings", "recordings/{recording_id}"), RecordingQuery, _list_recordings,
        "List recordings of calls: none", ("recordings", RECORDING),
    ),
)  # fmt: skip
