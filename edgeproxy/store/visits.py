"""What is known of a visit: its first touch, its last page, and the custom dimensions of all its pages.

A match tells it as objects. Records of calls, the stream of calls and exports tell it as `FIELDS`, one name a value.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from edgeproxy.accounts.account import CLICK_IDS, read_campaign

UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content")
FIRST_TOUCH = ("first_at", "first_url", "first_referrer", *UTM, *CLICK_IDS, "first_parameters")
# `parameters` are those of all pages. Moments are epoch ms; whether the last page came after the call is a flag.
FIELDS = (*FIRST_TOUCH, "last_at", "last_url", "last_referrer", "last_after_call", "parameters")

_MOMENTS = ("first_at", "last_at")
_MAPS = ("first_parameters", "parameters")


@dataclass(frozen=True, slots=True)
class Page:
    """A page as the visitor's request told it (`fullUrl`, `parameters`, …), and when, epoch ms; None: not known."""

    at_ms: int | None
    sent: dict[str, Any] = field(repr=False)

    @property
    def parameters(self) -> dict[str, str]:
        """Its custom dimensions."""
        return self.sent.get("parameters") or {}

    def told(self) -> dict[str, Any]:
        """Its URL, referrer, `utm_*`, click ids and custom dimensions."""
        campaign = read_campaign(self.sent.get("fullUrl") or "", self.parameters)
        campaign |= self.sent.get("campaign", {})  # it is there where the URL was longer than is kept
        return {
            "fullUrl": self.sent.get("fullUrl"),
            "fullReferrer": self.sent.get("fullReferrer"),
            "utm": {name: value for name, value in campaign.items() if name not in CLICK_IDS},
            "click_ids": {name: campaign[name] for name in CLICK_IDS if name in campaign},
            "parameters": self.parameters,
        }


@dataclass(frozen=True, slots=True)
class Visit:
    """The visit of one session."""

    last: Page
    first: Page | None = None  # None: not known; the same as `last` where there was one page
    between: dict[str, str] = field(default_factory=dict, repr=False)  # dimensions of the pages between these two
    many_networks: bool = False  # its pages came from more networks at once than one visitor has

    @classmethod
    def read(cls, tree: dict[str, Any]) -> "Visit":
        """Read what the store tells (`told` in sessions.lua)."""
        first = tree["first"]
        return cls(
            Page(tree["last_at"], tree["last"]),
            None if first is None else Page(tree["first_at"], first),
            tree["between"],
            tree["many_networks"],
        )

    @property
    def tracking_id(self) -> str | None:
        """The partner's id of the visitor; the last page's, unless that has none."""
        return self.last.sent.get("trackingId") or (self.first and self.first.sent.get("trackingId")) or None

    @property
    def tracking_ids(self) -> set[str]:
        """The partner's ids of the visitor, on the first page and the last."""
        pages = [self.last] if self.first is None else [self.first, self.last]
        return {tracking_id for page in pages if (tracking_id := page.sent.get("trackingId"))}

    @property
    def parameters(self) -> dict[str, str]:
        """The custom dimensions of all pages: a later page adds to them, and takes none away."""
        return (self.first.parameters if self.first else {}) | self.between | self.last.parameters

    def came_after(self, at_ms: int) -> bool | None:
        """Whether the last page is later than this moment, epoch ms; None: not known."""
        return None if self.last.at_ms is None else self.last.at_ms > at_ms


def fields(visit: Visit | None, at_ms: int | None = None) -> dict[str, Any]:
    """The visit as `FIELDS`, those that are not known None; `at_ms` is when the call began, if there was one."""
    told: dict[str, Any] = dict.fromkeys(FIELDS)
    if visit is None:
        return told
    if visit.first is not None:
        first = visit.first.told()
        told |= {"first_at": visit.first.at_ms, "first_url": first["fullUrl"], "first_referrer": first["fullReferrer"]}
        told |= {name: first["utm"].get(name) for name in UTM}
        told |= {name: first["click_ids"].get(name) for name in CLICK_IDS}
        told["first_parameters"] = first["parameters"]
    return told | {
        "last_at": visit.last.at_ms,
        "last_url": visit.last.sent.get("fullUrl"),
        "last_referrer": visit.last.sent.get("fullReferrer"),
        "last_after_call": None if at_ms is None else visit.came_after(at_ms),
        "parameters": visit.parameters,
    }


def texts(told: Mapping[str, Any]) -> dict[str, str | None]:
    """`FIELDS` as texts, the way records hold them: a flag is `1` or `0`, dimensions are JSON."""
    return {name: None if told[name] is None else _text(told[name]) for name in FIELDS}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return orjson.dumps(value).decode() if isinstance(value, dict) else str(value)


def from_texts(record: Mapping[str, str | None]) -> dict[str, Any]:
    """`FIELDS` of a record, as `fields` has them."""
    told: dict[str, Any] = {name: record.get(name) for name in FIELDS}
    told |= {name: int(told[name]) for name in _MOMENTS if told[name] is not None}
    told |= {name: orjson.loads(told[name]) for name in _MAPS if told[name] is not None}
    if told["last_after_call"] is not None:
        told["last_after_call"] = told["last_after_call"] == "1"
    return told
