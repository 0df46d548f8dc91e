"""Moments as partners, carriers and operators write them: one reader for every API and command, and one writer.

Here a moment is an integer, epoch ms. What is read lies from 1970 to the end of 9998, so that what is added to it, such
as a quarantine, is a moment that can be written too.
"""

import functools
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END_MS = 253_370_764_800_000  # the year 9999 begins, and no moment is read any more
_LAST_MS = 253_402_300_799_999  # it ends
_FIRST_MS = -62_135_596_800_000  # the year 1 begins
_DAY_MS = 86_400_000
# RFC 3339 §5.6, and what stands in for it: a space for the T, no seconds, no offset, a day alone, no dashes and colons.
# A form in which a + was not escaped has a space where the offset begins.
_STAMP = re.compile(
    r"([0-9]{4})(-?)([0-9]{2})\2([0-9]{2})"
    r"(?:[Tt ]([0-9]{2})(:?)([0-9]{2})(?:\6([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"(?:[Zz]|([+ -])([0-9]{2})(?::?([0-9]{2}))?)?)?"
)
# Nine digits of seconds begin in 1973, twelve of milliseconds too; eight are a day.
_COUNT = re.compile(r"(?:([0-9]{9,11})|([0-9]{12,15}))(?:\.([0-9]{1,9}))?")
PATTERN = f"^(?:{_STAMP.pattern}|{_COUNT.pattern})$"  # for descriptions; what it takes may still be no day, or outside


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment as it was written: `ms` since 1970, and for how many ms from there on the text leaves it open."""

    ms: int
    lasts_ms: int


def read(text: str, zone: tzinfo = UTC) -> Moment:
    """Read RFC 3339, or seconds or milliseconds since 1970; a stamp without an offset is one of `zone`.

    In the hour that a zone's clocks show twice, a stamp means the first.

    Raises:
        ValueError: it is none, such as one in second 60; it is not from 1970 to 9998. The text tells the client.
    """
    if counted := _COUNT.fullmatch(text):
        seconds, milliseconds, fraction = counted.groups()
        if milliseconds is not None:
            return _bounded(int(milliseconds), 1)
        return _bounded(int(seconds) * 1000 + _ms_of(fraction), 1 if fraction else 1000)
    if not (stamp := _STAMP.fullmatch(text)):
        raise ValueError("must be a time such as 2026-01-31T23:59:59Z")
    year, _, month, day, hour, _, minute, second, fraction, sign, hours, minutes = stamp.groups()
    try:
        if sign is not None:
            zone = _offset(sign, int(hours), int(minutes or 0))
        elif text[-1] in "Zz":
            zone = UTC
        moment = datetime(
            int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), tzinfo=zone
        )
        ms = (moment - _EPOCH) // timedelta(milliseconds=1) + _ms_of(fraction)
    except (ValueError, OverflowError):
        raise ValueError("must be a time such as 2026-01-31T23:59:59Z") from None
    if hour is None:
        return _bounded(ms, _DAY_MS)
    return _bounded(ms, 1 if fraction else 1000 if second else 60_000)


def read_ms(text: str, zone: tzinfo = UTC) -> int:
    """The moment that `read` gives, epoch ms. Raises: ValueError, as there."""
    return read(text, zone).ms


def _offset(sign: str, hours: int, minutes: int) -> timezone:
    if minutes > 59:
        raise ValueError(minutes)
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if sign == "-" else offset)  # which refuses a day and more


def _ms_of(fraction: str | None) -> int:
    return int(fraction[:3].ljust(3, "0")) if fraction else 0


def _bounded(ms: int, lasts_ms: int) -> Moment:
    if not 0 <= ms < END_MS:
        raise ValueError("must be a time from 1970 to 9998")
    return Moment(ms, lasts_ms)


@functools.cache
def zone(name: str) -> tzinfo:
    """The time zone of that name, as accounts have it."""
    return zoneinfo.ZoneInfo(name)


def text(ms: int) -> str:
    """A moment as RFC 3339 has it, UTC, to the ms; one past the year 9999 is told as its last."""
    return _whole(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def text_of_seconds(ms: int) -> str:
    """A moment as `YYYY-MM-DD HH:MM:SS`, UTC; one past the year 9999 is told as its last."""
    return _whole(ms).strftime("%Y-%m-%d %H:%M:%S").rjust(19, "0")  # strftime's years are bare


def _whole(ms: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=min(max(ms, _FIRST_MS), _LAST_MS))
