"""What operations take: the fields of requests, each with the texts that it may be."""

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationInfo

from edgeproxy.accounts import moments
from edgeproxy.accounts.number import read_number
from edgeproxy.partner.render import FORBIDDEN_IN_XML, Tree

_ALTERNATIVES_MOST = 10
_PARTS_MOST = 100  # of a list that is written as a text, the empty ones among them


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


_Showable = AfterValidator(_showable)
Nullable = BeforeValidator(lambda value: None if value == "" else value)

Id = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,11})$")]
Flag = Annotated[str, StringConstraints(pattern=r"^[01]$")]
Class = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,2})$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=60), _Showable]
CustNr = Annotated[str, StringConstraints(min_length=1, max_length=45), _Showable]
Text40 = Annotated[str, StringConstraints(max_length=40), _Showable]
Text60 = Annotated[str, StringConstraints(max_length=60), _Showable]
Text150 = Annotated[str, StringConstraints(max_length=150), _Showable]
Custom = Annotated[Annotated[str, StringConstraints(max_length=255), _Showable] | None, Nullable]
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

    def listed(self, name: str, total: int, shown: list[Tree]) -> Tree:
        """The list of that name as it is answered: a page of `total` records."""
        size = int(self.pagesize)
        paging = {"total": total, "page": int(self.page), "pagesize": size, "numpages": -(-total // size)}
        return {**paging, name: shown}


class CustomFields(Fields):
    """Fields that an account defines at set-up, for customers and for sources."""

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
