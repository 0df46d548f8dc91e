"""YAML files, read within bounds: no larger than they may be, not deep, and nothing that grows as it is read.

Scalars are text, so that `+493015981151` stays a number with its plus sign and `010` keeps its zero. An alias (`*name`)
is refused: a few of them, nested, stand for gigabytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

BYTES_MOST = 4 * 1024 * 1024  # of a file: so many take 12 s and 320 MB
_DEPTH_MOST = 20  # an account file has at most 7
_SHOWN_MOST = 64  # characters of a key that an error shows

# What PyYAML says → what to do about it; the first that fits.
_FAULTS = (
    ("'\\t' that cannot start any token", "a tab cannot stand here: YAML is indented with spaces"),
    ("that cannot start any token", "a text cannot begin with this character: put it in quotes"),
    ("mapping values are not allowed", "a colon cannot stand here: put a text that holds one in quotes, "
                                       "or look at the indentation"),
    ("sequence entries are not allowed", "a list cannot begin here: look at the indentation"),
    ("mapping keys are not allowed", "a key cannot stand here: look at the indentation"),
    ("could not find expected ':'", "a key without its colon: expected `key: value`"),
    ("expected ',' or ']'", "a list that [ opens is not closed: expected , or ]"),
    ("expected ',' or '}'", "a mapping that { opens is not closed: expected , or }"),
    ("expected <block end>", "this does not fit what stands before it: look at indentation and quotes"),
    ("unexpected end of stream", "a quote is not closed"),
    ("unexpected document separator", "a quote is not closed"),
    ("expected the node content", "a value is missing"),
    ("another document", "the file holds a second document: nothing may follow after ---"),
    ("expected alphabetic or numeric character", "* and & begin something else in YAML: put the text in quotes"),
    ("unknown escape", "there is no such escape: in double quotes, a backslash is written \\\\"),
    ("escape sequence of", "the escape is not complete"),
    ("second occurrence", "a name that & gives stands twice"),
    ("tag handle", "a tag (!name) that is not known"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FileError:
    """One thing wrong with a file: the line (from 1) and what to do about it."""

    line: int
    text: str


class UnreadableError(Exception):
    """The file is not read: the `line` (from 1) at which it cannot be, and why."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(why)
        self.line = line


class _Loader(yaml.BaseLoader):
    """Makes nodes of text alone, within bounds; what is beyond them is not read."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            name = (event.anchor or "")[:_SHOWN_MOST]
            raise UnreadableError(
                line,
                f"*{name} is an alias, and aliases are not read, as a few of them can stand for gigabytes: write the "
                "value out, or put a text that begins with * in quotes",
            )
        self._depth += 1
        if self._depth > _DEPTH_MOST:
            raise UnreadableError(line, f"is nested more than {_DEPTH_MOST} levels deep")
        node = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(node, yaml.MappingNode):
            for key, _ in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    raise UnreadableError(key.start_mark.line + 1, "a key must be a text, not a list or a mapping")
        elif isinstance(node, yaml.ScalarNode) and not (node.value.isascii() or _can_be_encoded(node.value)):
            raise UnreadableError(line, "holds half a surrogate pair, which is no character")
        return node


def _can_be_encoded(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def compose(content: bytes) -> yaml.Node | None:
    """The nodes of a file; None where it holds nothing.

    Raises:
        UnreadableError: it is no YAML in UTF-8, or beyond a bound.
    """
    if len(content) > BYTES_MOST:
        raise UnreadableError(1, f"the file is larger than {BYTES_MOST // 1024**2} MiB: split it")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableError(content.count(b"\n", 0, error.start) + 1, "is not UTF-8") from None
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        why, at_begin = _told(str(error.problem))
        mark = (error.context_mark if at_begin else error.problem_mark) or error.problem_mark
        where = f" (column {mark.column + 1})" if mark else ""
        raise UnreadableError(mark.line + 1 if mark else 1, why + where) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableError(line, f"holds U+{_code(error.character):04X}, which cannot stand in YAML") from None
    except (yaml.YAMLError, ValueError, OverflowError):  # an escape, or a version, beyond all bounds
        raise UnreadableError(1, "is not YAML") from None


def _code(character: int | str) -> int:
    return character if isinstance(character, int) else ord(character)


def _told(problem: str) -> tuple[str, bool]:
    """What to do about what PyYAML finds, and whether that is to be done where the text began that has no end."""
    for said, text in _FAULTS:
        if said in problem:
            return text, "is not closed" in text
    return "is not YAML: look at indentation, quotes and brackets", False


def texts(node: yaml.Node) -> Any:
    """YAML nodes as dicts, lists and texts; an empty value is None."""
    if isinstance(node, yaml.MappingNode):
        return {key.value: texts(value) for key, value in node.value}
    if isinstance(node, yaml.SequenceNode):
        return [texts(item) for item in node.value]
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return None if plain and node.value in ("", "~", "null") else node.value


def repeated_keys(node: yaml.Node) -> Iterator[FileError]:
    """The keys that stand twice in one mapping, of the node and of all within it."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                yield FileError(key.start_mark.line + 1, f"{key.value[:_SHOWN_MOST]}: stands twice in one mapping")
            seen.add(key.value)
            yield from repeated_keys(value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from repeated_keys(item)


class Lines:
    """Where in a file the places of its tree are."""

    def __init__(self, root: yaml.Node) -> None:
        self._root = root
        self._members: dict[int, dict[str, tuple[int, yaml.Node]]] = {}  # id of a mapping → key → line, value

    def of(self, place: Sequence[int | str]) -> int:
        """The line (from 1) of the deepest node along `place` that the file has: of its key, in a mapping."""
        node, line = self._root, self._root.start_mark.line
        for step in place:
            if isinstance(node, yaml.MappingNode):
                line, node = self._of_mapping(node).get(str(step), (line, node))
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line
        return line + 1

    def _of_mapping(self, node: yaml.MappingNode) -> dict[str, tuple[int, yaml.Node]]:
        members = self._members.get(id(node))
        if members is None:
            members = {key.value: (key.start_mark.line, value) for key, value in reversed(node.value)}
            self._members[id(node)] = members
        return members

    def text(self, place: Sequence[int | str]) -> str | None:
        """The scalar at a place as it is written; None where there is none."""
        node = self._root
        for step in place:
            if isinstance(node, yaml.MappingNode) and str(step) in (members := self._of_mapping(node)):
                node = members[str(step)][1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
            else:
                return None
        return node.value if isinstance(node, yaml.ScalarNode) else None
