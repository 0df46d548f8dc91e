"""YAML within bounds: whatever a file holds, it is read or refused in a line, in words of our own."""

import inspect
import re
import tracemalloc

import hypothesis
import pytest
import yaml
from hypothesis import strategies

from edgeproxy.accounts import yaml_file
from edgeproxy.accounts.yaml_file import UnreadableError, compose, repeated_keys, texts

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def refused(content: str | bytes) -> str:
    with pytest.raises(UnreadableError) as caught:
        compose(content.encode() if isinstance(content, str) else content)
    return f"{caught.value.line}: {caught.value}"


def test_an_alias_is_refused_with_its_line_before_it_stands_for_anything() -> None:
    assert len(BOMB) < 450
    tracemalloc.start()
    try:
        assert refused(BOMB).startswith("2: *a is an alias, and aliases are not read")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("deep", ["[" * 100_000, "{a: " * 100_000, "- " * 2_000 + "a", "[" * 21 + "]" * 21])
def test_what_is_deep_is_refused(deep: str) -> None:
    assert refused(deep) == "1: is nested more than 20 levels deep"


def test_a_large_file_is_refused_unread() -> None:
    assert refused(b"\xff" * (yaml_file.BYTES_MOST + 1)) == "1: the file is larger than 4 MiB: split it"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("a:\n\t- b", "2: a tab cannot stand here: YAML is indented with spaces (column 1)"),
        ("a: b: c", "1: a colon cannot stand here"),
        ("a: [b\nc: d\n", "1: a list that [ opens is not closed"),
        ("a:\n  {b: c", "2: a mapping that { opens is not closed"),
        ('a: "b\n\n', "1: a quote is not closed"),
        ("a: 'b' c", "1: this does not fit what stands before it"),
        ("a: *.example.com", "1: * and & begin something else in YAML: put the text in quotes"),
        ("a: @b", "1: a text cannot begin with this character"),
        ("a\n---\nb", "2: the file holds a second document"),
        ("a: &b c\nd: &b e", "2: a name that & gives stands twice"),
        ('a: "\\q"', "1: there is no such escape"),
        ('a: "\\uffxx"', "1: the escape is not complete"),
        ('a: "\\ud800"', "1: holds half a surrogate pair"),
        ('a: "\\Uffffffff"', "1: is not YAML"),
        ("%YAML 1." + "9" * 5000 + "\n--- a", "1: is not YAML"),
        ("? [a]\n: b", "1: a key must be a text"),
        ("!x!y a", "1: a tag (!name) that is not known"),
        ("a: b\nc: \x00", "2: holds U+0000"),
        (b"a: b\nc: \xc3\x28", "2: is not UTF-8"),
    ],
)
def test_what_is_no_yaml_is_told_with_what_to_do_about_it(content: str | bytes, told: str) -> None:
    assert refused(content).startswith(told)


def test_no_fault_is_told_in_the_librarys_words() -> None:
    sources = "".join(inspect.getsource(module) for module in (yaml.scanner, yaml.parser, yaml.composer))
    said = {text for text in re.findall(r'"([a-z][^"]{12,})"', sources) if " " in text}
    assert len(said) > 50
    for problem in said:
        told, _ = yaml_file._told(problem)
        assert told not in said
        assert problem not in told


@hypothesis.given(strategies.text("ab:-[]{}'\"\\&*!|>%@#?,~\t\n \x85\ud7ff\U0010ffff0.", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        root = compose(text.encode())
    except UnreadableError as error:
        assert 1 <= error.line <= text.count("\n") + text.count("\x85") + 1
    else:
        if root is not None:
            repr(texts(root)).encode()
            list(repeated_keys(root))
