"""Who is to be forgotten: what names a person, and what is left of a call without one."""

from dataclasses import dataclass
from typing import Any

# What an erasure leaves of a call's record and of what is known of a call: nothing of who called, nor of the visit.
# `custnr` goes too where it is the visit's.
_OF_RECORD = {"cdr_id", "start", "bnum", "cnum", "duration", "duration_adjusted", "answered", "quarantined",
              "customer_id", "customer_name", "source_id", "source_name", "source_media", "source_class", "custnr",
              "certainty"}  # fmt: skip
_OF_CALL = {"started", "answered", "ended", "number", "cdr_id", "answer", "record"}
_NAMES_SESSION, _NAMES_VISITOR = ("session", "session_id", "sessionId"), ("tracking_id", "trackingId")
_SENT_BY_VISITORS = ("parameters", "first_parameters")  # whose names are theirs


@dataclass(frozen=True, slots=True)
class Person:
    """Who is to be forgotten: by sessions and the visitor's id, or by the hash of a caller."""

    sessions: set[str]
    tracking_id: str
    caller_hash: str

    def is_named_by(self, tree: Any) -> bool:
        """Whether anything in the tree names the person, but for what visitors send."""
        if isinstance(tree, list):
            return any(self.is_named_by(branch) for branch in tree)
        if not isinstance(tree, dict):
            return False
        return (
            any(tree.get(name) in self.sessions for name in _NAMES_SESSION)
            or bool(self.tracking_id and any(tree.get(name) == self.tracking_id for name in _NAMES_VISITOR))
            or bool(self.caller_hash and tree.get("anum_md5") == self.caller_hash)
            or any(self.is_named_by(branch) for name, branch in tree.items() if name not in _SENT_BY_VISITORS)
        )

    def sessions_in(self, tree: Any) -> list[str]:
        """The sessions that stand beside the visitor in the tree."""
        if isinstance(tree, list):
            return [session for branch in tree for session in self.sessions_in(branch)]
        if not isinstance(tree, dict) or not self.is_named_by(tree):
            return []
        beside = [session for name in _NAMES_SESSION if isinstance(session := tree.get(name), str)]
        branches = [branch for name, branch in tree.items() if name not in _SENT_BY_VISITORS]
        return beside + self.sessions_in(branches)

    def cleared(self, known: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """What is known of a call without the person; and whether it was the person's, or of others too."""
        answer = known.get("answer", {})
        matches = answer.get("matches", [])
        if self.is_named_by({name: value for name, value in known.items() if name != "answer"}):
            cleared = {name: value for name, value in known.items() if name in _OF_CALL}
            cleared |= {"anum": None, "anum_md5": None}
            if "record" in known:
                cleared["record"] = cleared_record(known["record"])
            others = []
        else:
            cleared = dict(known)
            others = [match for match in matches if not self.is_named_by(match)]
        if len(others) < len(matches):
            cleared["answer"] = answer | {"matches": others}
        return cleared, others == [] and cleared != known


def cleared_record(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a call without who called, and without the visit."""
    cleared = {name: value if name in _OF_RECORD else None for name, value in record.items()}
    if record.get("session_id"):
        cleared["custnr"] = None
    return cleared
