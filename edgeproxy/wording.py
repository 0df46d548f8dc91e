"""What is wrong with a value, in words of our own: for what pydantic finds, and with the name that may be meant."""

import contextlib
import difflib
import functools
import ipaddress
import re
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

SHOWN_MOST = 10  # faults that are shown one by one
_MEANT_MOST = 64  # characters of a name for which a likely one is looked for
_ALIKE = 0.6  # of two names, as difflib measures it
_QUOTED = re.compile(r"'([^']*)'")

_KINDS = {
    "string": "text", "int": "a whole number", "float": "a number", "decimal": "a number", "bool": "true or false",
    "list": "a list", "tuple": "a list", "set": "a list", "frozen_set": "a list", "iterable": "a list",
    "dict": "a mapping", "mapping": "a mapping", "model": "a mapping", "model_attributes": "a mapping",
    "dataclass": "a mapping", "bytes": "text", "url": "a URL", "path": "a path", "date": "a date", "time": "a time",
    "datetime": "a time", "time_delta": "a time", "uuid": "a UUID",
}  # fmt: skip


def why(error: Any) -> str:
    """What is wrong, of one of the `ErrorDetails` that `ValidationError.errors` gives; no word of it is pydantic's.

    A validator's own `ValueError` is told as it stands: its text is ours.
    """
    kind: str = error["type"]
    ctx: dict[str, Any] = error.get("ctx", {})
    match kind:
        case "value_error":
            return str(error["msg"]).removeprefix("Value error, ")
        case "missing" | "missing_argument" | "missing_keyword_only_argument":
            return "is required"
        case "extra_forbidden" | "unexpected_keyword_argument" | "no_such_attribute":
            return "there is no such field"
        case "none_required":
            return "must be empty"
        case "greater_than":
            return f"must be more than {ctx['gt']}"
        case "greater_than_equal":
            return f"must be at least {ctx['ge']}"
        case "less_than":
            return f"must be less than {ctx['lt']}"
        case "less_than_equal":
            return f"must be at most {ctx['le']}"
        case "multiple_of":
            return f"must be a multiple of {ctx['multiple_of']}"
        case "finite_number":
            return "must be a number, and not infinite"
        case "too_short" | "string_too_short" | "bytes_too_short":
            least = ctx["min_length"]
            return "is empty" if least == 1 else f"has less than {least} {_pieces(kind)}"
        case "too_long" | "string_too_long" | "bytes_too_long":
            return f"has more than {ctx['max_length']} {_pieces(kind)}"
        case "string_pattern_mismatch":
            return f"must be like {ctx['pattern']}"
        case "string_unicode" | "bytes_invalid_encoding":
            return "must be text in UTF-8"
        case "string_not_ascii":
            return "must be ASCII"
        case "literal_error" | "enum":
            names = _QUOTED.findall(ctx["expected"])
            return f"must be {_either(names)}{meant(error.get('input'), names)}"
        case "json_invalid":
            return "is no JSON"
        case "int_from_float":
            return "must be a whole number"
        case "int_parsing_size":
            return "has too many digits"
        case "recursion_loop" | "recursion_depth_exceeded":
            return "is nested too deeply"
        case "invalid_key":
            return "a name must be text"
    what, _, fault = kind.rpartition("_")
    if fault in ("type", "parsing") and what in _KINDS:
        return f"must be {_KINDS[what]}"
    return "cannot be used"


def _pieces(kind: str) -> str:
    return "entries" if kind in ("too_short", "too_long") else "characters"


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1]))) if names else "another value"


def meant(written: object, names: Iterable[str]) -> str:
    """`; did you mean …?`, where one of the names is much like what was written; else nothing."""
    if not isinstance(written, str) or len(written) > _MEANT_MOST:
        return ""
    likely = _likely(written, tuple(names))
    return f"; did you mean {likely}?" if likely else ""


def meant_network(written: str) -> str:
    """Like `meant`, of an address that was written with the length of the network that it is in."""
    with contextlib.suppress(ValueError):
        return f"; did you mean {ipaddress.ip_network(written, strict=False)}?"
    return ""


@functools.lru_cache(1024)
def _likely(written: str, names: tuple[str, ...]) -> str | None:
    by_fold = {name.casefold().replace("-", "_"): name for name in names}
    found = difflib.get_close_matches(written.casefold().replace("-", "_"), by_fold, 1, _ALIKE)
    return by_fold[found[0]] if found else None


def field_names(model: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    """The names of the fields that may stand at a place of a model's tree; none where it holds no fields."""
    kinds: list[Any] = [model]
    for step in place:
        kinds = [below for kind in kinds for below in _below(kind, step)]
    return [field.alias or name for kind in kinds if _is_model(kind) for name, field in kind.model_fields.items()]


def _below(kind: Any, step: int | str) -> list[Any]:
    """The types of what stands under a step of a value of that type."""
    if _is_model(kind):
        return [
            bare
            for name, field in kind.model_fields.items()
            if step in (field.alias, name)
            for bare in alternatives(field.annotation)
        ]
    parts = get_args(kind)
    return alternatives(parts[-1]) if get_origin(kind) in (list, dict) else []


def alternatives(kind: Any) -> list[Any]:
    """A type without its annotations; of a union, each of its types."""
    if get_origin(kind) is Annotated:
        return alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [bare for part in get_args(kind) for bare in alternatives(part)]
    return [kind]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def first_of(lines: Sequence[str], of: Literal["faults", "warnings", "rows"] = "faults") -> list[str]:
    """The first ten lines, and how many more there are."""
    more = len(lines) - SHOWN_MOST
    return [*lines[:SHOWN_MOST], *([f"and {more:,} more {of if more > 1 else of[:-1]}"] if more > 0 else [])]
