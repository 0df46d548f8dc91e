"""The pages of the APIs are whole: what the OpenAPI document and the code say of the wire, the room's page says too."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import edgeproxy
from edgeproxy.dynamic import signature
from edgeproxy.errors import Kind
from edgeproxy.partner import digest
from tests.conftest import Edge

PACKAGE = Path(edgeproxy.__file__).parent
# Group of the document → the room whose page tells of it; None: it is for who runs the gateway, and is no API.
ROOMS = {
    "Dynamic numbers": "dynamic",
    "Partner REST API": "partner",
    "Static numbers": "numbers",
    "Calls": "calls",
    "Service": None,
}
APIS = [room for room in ROOMS.values() if room]
METHODS = ("get", "post", "put", "delete")
SAYS_WHY = re.compile(r"(Refusal|(?<!Type)(?<!Reset)Error|Faults?|Violation)$")  # whose texts clients read
TELLS = ("_why", "refuse")  # functions whose texts clients read

Tree = dict[str, Any]


def page_of(room: str) -> str:
    return (PACKAGE / room / "README.md").read_text()


async def document(edge: Edge) -> Tree:
    async with edge.client.get(f"{edge.manage}/openapi.json") as response:
        tree: Tree = await response.json()
        return tree


def operations(tree: Tree, room: str) -> Iterator[tuple[str, str, Tree]]:
    """Path, method and operation of each that the room serves."""
    (tags,) = (group["tags"] for group in tree["x-tagGroups"] if ROOMS[group["name"]] == room)
    for path, methods in tree["paths"].items():
        for method in METHODS:
            if method in methods and set(methods[method]["tags"]) & set(tags):
                yield path, method.upper(), methods[method]


def fields(tree: Tree, part: Any, seen: set[str]) -> Iterator[str]:
    """The names of parameters, and of members of bodies, below a part of the document."""
    if isinstance(part, list):
        for item in part:
            yield from fields(tree, item, seen)
        return
    if not isinstance(part, dict):
        return
    if "$ref" in part:
        if part["$ref"] not in seen:
            seen.add(part["$ref"])
            _, _, kind, name = part["$ref"].split("/")
            yield from fields(tree, tree["components"][kind][name], seen)
        return
    if "in" in part and "schema" in part:
        yield part["name"]
    for key, value in part.items():
        if key in ("properties", "headers") and isinstance(value, dict):
            yield from value
        if key not in ("examples", "example", "const", "enum"):
            yield from fields(tree, list(value.values()) if key in ("properties", "headers") else value, seen)


def names(page: str, name: str) -> bool:
    """Whether the page has the name in a piece of code within its text."""
    if re.fullmatch("custom_[0-9]+", name):
        return "`custom_1` … `custom_20`" in page
    return re.search(rf"`[^`\n]*(?<![\w-]){re.escape(name)}(?![\w-])[^`\n]*`", page) is not None


@pytest.mark.parametrize("room", APIS)
async def test_each_operation_is_named_with_its_method(edge: Edge, room: str) -> None:
    page, tree = page_of(room), await document(edge)
    found = list(operations(tree, room))
    assert found
    for path, method, _ in found:
        short = path.removeprefix("/2.4.9/")
        assert any(f"{short}`" in line and method in line for line in page.splitlines()), f"{method} {path}"


@pytest.mark.parametrize("room", APIS)
async def test_each_field_of_requests_and_answers_is_named(edge: Edge, room: str) -> None:
    page, tree = page_of(room), await document(edge)
    seen: set[str] = set()
    found = {name for _, _, operation in operations(tree, room) for name in fields(tree, operation, seen)}
    assert found
    assert [name for name in sorted(found) if not names(page, name)] == []


def bounds(tree: Tree, part: Any, seen: set[str]) -> Iterator[int]:
    """How long texts and lists may be, and how large numbers, that clients send below a part of the document."""
    if isinstance(part, list):
        for item in part:
            yield from bounds(tree, item, seen)
    elif isinstance(part, dict) and "$ref" in part:
        if part["$ref"] not in seen:
            seen.add(part["$ref"])
            _, _, kind, name = part["$ref"].split("/")
            yield from bounds(tree, tree["components"][kind][name], seen)
    elif isinstance(part, dict):
        yield from (value for name, value in part.items() if name in ("maxLength", "maxItems", "maxProperties"))
        yield from bounds(tree, [*part.values()], seen)


@pytest.mark.parametrize("room", APIS)
async def test_each_bound_of_what_is_sent_is_told(edge: Edge, room: str) -> None:
    page, tree = page_of(room), await document(edge)
    seen: set[str] = set()
    sent = [
        part
        for _, _, operation in operations(tree, room)
        for part in (operation.get("parameters", []), operation.get("requestBody", {}))
    ]
    found = set(bounds(tree, sent, seen))
    assert found
    assert [most for most in sorted(found) if not re.search(rf"(?<![\d,]){most:,}(?![\d,])", page)] == []


@pytest.mark.parametrize("room", APIS)
async def test_each_status_is_told(edge: Edge, room: str) -> None:
    page, tree = page_of(room), await document(edge)
    statuses = {status for _, _, operation in operations(tree, room) for status in operation["responses"]}
    assert [status for status in sorted(statuses) if not re.search(rf"\b{status}\b", page)] == []


def test_each_fault_of_the_catalogue_is_told_with_its_status() -> None:
    rows = [line for line in page_of("dynamic").splitlines() if line.startswith("|")]
    for kind in Kind:
        before, _, after = kind.text.partition("{}")
        assert any(row.startswith(f"| {kind.status} |") and f"`{before}" in row and after in row for row in rows), kind


def texts(module: Path) -> Iterator[str]:
    """What the module's refusals say to clients, or the fixed parts of it."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.FunctionDef) and node.name in TELLS:
            roots: list[ast.AST] = [*node.body[1:]]
        elif isinstance(node, ast.Call) and SAYS_WHY.search(ast.unparse(node.func)):
            roots = [*node.args, *(keyword.value for keyword in node.keywords)]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "errors.append":
            roots = [*node.args]
        else:
            continue
        for constant in (below for root in roots for below in ast.walk(root) if isinstance(below, ast.Constant)):
            if isinstance(constant.value, str):
                yield from (part for part in constant.value.strip(": ").split(": ") if " " in part)  # field: why


@pytest.mark.parametrize("room", APIS)
def test_each_text_of_a_refusal_is_told(room: str) -> None:
    page = " ".join(page_of(room).split())
    found = {
        text
        for module in (PACKAGE / room).rglob("*.py")
        if module.name not in ("file.py", "export.py")  # of files, which operators read
        for text in texts(module)
    }
    assert found
    assert [text for text in sorted(found) if text not in page] == []


def test_each_text_of_what_the_apis_share_is_told() -> None:
    pages = " ".join(" ".join(map(page_of, APIS)).split())
    found = {text for module in (PACKAGE / "http").glob("*.py") for text in texts(module)}
    assert found
    assert [text for text in sorted(found) if text not in pages] == []


def test_the_vectors_of_the_pages_are_right() -> None:
    body = '{"advid":"123","numbers":"321"}'
    assert f"`{body}` | `{signature.sign(body.encode(), b'freespee')}`" in page_of("dynamic")
    for algorithm in digest.OFFERED:
        assert digest.ha1(algorithm, "demo", digest.REALM, "demo-password") in page_of("partner")
