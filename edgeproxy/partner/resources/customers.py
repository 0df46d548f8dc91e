"""Customers: a partner's clients."""

import uuid
from typing import Annotated

from pydantic import StringConstraints

from edgeproxy.accounts.account import Account
from edgeproxy.errors import RefusedError
from edgeproxy.http.endpoint import Refusal
from edgeproxy.partner.render import Tree
from edgeproxy.partner.resources.fields import (
    CustNr,
    CustomFields,
    Fields,
    Flag,
    Id,
    Name,
    Nullable,
    Paged,
    Text40,
    Text60,
    Text150,
)
from edgeproxy.partner.resources.operation import Operation
from edgeproxy.partner.resources.records import show
from edgeproxy.partner.resources.refusals import refuse, refuse_undefined
from edgeproxy.store.partner import Filters, Partner, Record

ADDRESS = ("address_street", "address_zip", "address_city", "address_state", "address_country")
CUSTOMER = ("customer_id", "name", "custnr", "corporateid", "email", "uuid", "dncs_class_name",
            "receive_monthly_report", "freespee_caller_id", *ADDRESS)  # fmt: skip


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
    address_street: Annotated[Text150 | None, Nullable] = None
    address_zip: Annotated[Text40 | None, Nullable] = None
    address_city: Annotated[Text60 | None, Nullable] = None
    address_state: Annotated[Text60 | None, Nullable] = None
    address_country: Annotated[Text60 | None, Nullable] = None


class NewCustomer(CustomerTexts):
    """A customer to make."""

    name: Name
    custnr: CustNr


class CustomerChanges(CustomerTexts, CustomerId):
    """Changes to a customer; what is not sent is kept."""

    name: Name = ""
    custnr: CustNr = ""


def _show_customer(account: Account, record: Record) -> Tree:
    return show(record, (*CUSTOMER, *account.custom_fields["customers"]))


async def _list_customers(partner: Partner, account: Account, fields: CustomerQuery) -> Tree:
    if fields.customer_id is not None:
        record = await partner.get(account, "customers", fields.customer_id)
        if record is None or (fields.custnr is not None and record["custnr"] != fields.custnr):
            raise Refusal(404, f"customer {fields.customer_id}: not found")
        return {"customers": [_show_customer(account, record)]}
    filters: Filters = {} if fields.custnr is None else {"custnr": [fields.custnr]}
    skip, most = fields.place()
    found = await partner.find(account, "customers", filters, skip=skip, most=most)
    return fields.listed("customers", found.total, [_show_customer(account, record) for record in found.records])


async def _create_customer(partner: Partner, account: Account, fields: NewCustomer) -> Tree:
    refuse_undefined(fields, account.custom_fields["customers"], "customers")
    record = fields.model_dump(exclude=set(CustomFields.model_fields)) | fields.sent()
    record["uuid"] = str(uuid.uuid4())
    try:
        made = await partner.create_customer(account, record)
    except RefusedError as refused:
        refuse(refused, "customer")
    return {"customers": [_show_customer(account, made)]}


async def _update_customer(partner: Partner, account: Account, fields: CustomerChanges) -> Tree:
    refuse_undefined(fields, account.custom_fields["customers"], "customers")
    try:
        record = await partner.update_customer(account, fields.customer_id, fields.sent("customer_id"))
    except RefusedError as refused:
        refuse(refused, f"customer {fields.customer_id}")
    return {"customers": [_show_customer(account, record)]}


async def _delete_customer(partner: Partner, account: Account, fields: CustomerId) -> Tree:
    try:
        await partner.delete_customer(account, fields.customer_id)
    except RefusedError as refused:
        refuse(refused, f"customer {fields.customer_id}")
    return {"customers": []}


_GIVES = ("customers", CUSTOMER)
_ONE = ("customers/{customer_id}", "customers")

OPERATIONS = (
    Operation("GET", _ONE, CustomerQuery, _list_customers, "List customers, or read one", _GIVES),
    Operation("POST", ("customers",), NewCustomer, _create_customer, "Create a customer", _GIVES),
    Operation("PUT", _ONE, CustomerChanges, _update_customer, "Change a customer", _GIVES),
    Operation("DELETE", _ONE, CustomerId, _delete_customer, "Delete a customer", _GIVES),
)
