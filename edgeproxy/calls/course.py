"""The course of a call: when its events happened, whatever order they were told in."""

from typing import Any

from edgeproxy.accounts import moments

_EVENTS = ("started", "answered", "ended")  # as they follow one another


def in_order(known: dict[str, Any]) -> tuple[dict[str, int], dict[str, Any]]:
    """The moments of a call's events, epoch ms, none before the event that it follows; and which were told otherwise.

    It depends on what was told, and not on the order in which it was: an event that comes in late corrects the others.
    """
    taken: dict[str, int] = {}
    corrected: dict[str, Any] = {}
    earlier = ""
    for event in _EVENTS:
        if (told := known.get(event)) is None:
            continue
        taken[event] = max(told, taken.get(earlier, told))
        if taken[event] != told:
            corrected[event] = {
                "told": moments.text(told),
                "taken": moments.text(taken[event]),
                "why": f"a call is not {event} before it is {earlier}",
            }
        earlier = event
    return taken, corrected


def corrected_moments(known: dict[str, Any]) -> dict[str, Any]:
    """What is said of moments that were told out of order; nothing where none was."""
    _, corrected = in_order(known)
    return {"corrected": corrected} if corrected else {}
