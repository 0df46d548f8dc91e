"""Requests that are answered with an error."""

from collections.abc import Iterable
from typing import NoReturn

from edgeproxy.errors import RefusedError
from edgeproxy.http.endpoint import Refusal
from edgeproxy.partner.resources.fields import CustomFields


def refuse(refused: RefusedError, what: str) -> NoReturn:
    """Answer what the store refused (see partner.lua); `what` names the record.

    Raises:
        Refusal: always.
    """
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


def refuse_undefined(fields: CustomFields, defined: Iterable[str], resource: str) -> None:
    """Check that the account defines each custom field that was sent for that resource.

    Raises:
        Refusal: it does not.
    """
    wrong = [name for name in fields.sent() if name in CustomFields.model_fields and name not in defined]
    if wrong:
        raise Refusal(400, *(f"{name}: is not defined for {resource}" for name in wrong))
