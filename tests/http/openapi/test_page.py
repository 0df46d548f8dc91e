"""The page that shows the APIs: whole, true to the document, safe, and served."""

import base64
import hashlib
import itertools
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import orjson
import pytest

from edgeproxy.calls import openapi as calls
from edgeproxy.dynamic import openapi as dynamic
from edgeproxy.errors import Kind
from edgeproxy.http.openapi import page
from edgeproxy.node.document import document
from edgeproxy.node.rooms import ROOMS
from edgeproxy.numbers import openapi as numbers
from edgeproxy.partner import openapi as partner
from tests.conftest import serving

DOCUMENT = document(ROOMS, "2.4.9")

VOID = ("meta",)


class Reader(HTMLParser):
    """Reads a page: its elements with their attributes, and its text; elements must be closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.prose = ""  # the text without programs and bodies
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "pre" not in self._open:
            self.prose += data

    def attributes(self, name: str) -> list[str]:
        return [value or "" for _, attributes in self.elements for key, value in attributes.items() if key == name]


PAGE_READ = Reader(page.page(DOCUMENT))


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    assert {tag for tag, _ in PAGE_READ.elements} <= {
        "html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "h4", "p", "a", "nav", "main", "div", "ul",
        "li", "span", "code", "pre", "section", "article", "details", "summary", "dl", "dt", "dd",
    }  # fmt: skip
    names = {key for _, attributes in PAGE_READ.elements for key in attributes}
    assert names <= {"lang", "charset", "name", "content", "href", "id", "class", "aria-label", "tabindex"}
    assert "url(" not in page._STYLE
    assert "@import" not in page._STYLE


def test_every_operation_has_an_example_to_paste() -> None:
    for path, item in DOCUMENT["paths"].items():
        for operation in (tree for tree in item.values() if "operationId" in tree):
            example = operation["x-codeSamples"][0]
            assert example["lang"] == "Shell"
            assert "curl " in example["source"]
            assert path.partition("{")[0] in example["source"]
            assert example["source"] in PAGE_READ.text


@pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.label)
def test_an_error_of_a_page_of_numbers_says_what_to_do(kind: Kind) -> None:
    told = f"{kind.text.replace('{}', '…')}: {dynamic._WHAT_TO_DO[kind]}".replace("`", "")
    assert told in PAGE_READ.text


def test_errors_that_operations_share_are_told_once_and_linked() -> None:
    assert PAGE_READ.text.count("Errors, and what to do") == 3
    for name in DOCUMENT["components"]["responses"]:
        assert PAGE_READ.attributes("id").count(f"responses-{name}") == 1
        assert f"#responses-{name}" in PAGE_READ.attributes("href")


def test_rules_are_told_in_words_and_not_as_regular_expressions() -> None:
    def patterns(tree: Any) -> Iterator[str]:
        if isinstance(tree, dict):
            yield from (value for key, value in tree.items() if key == "pattern" and isinstance(value, str))
            yield from tree.get("patternProperties", ())
            yield from (found for value in tree.values() for found in patterns(value))
        elif isinstance(tree, list):
            yield from (found for value in tree for found in patterns(value))

    found = set(patterns(DOCUMENT))
    assert len(found) > 15
    for pattern in found:
        assert pattern not in PAGE_READ.prose
    assert re.findall(r"\[\^|\(\?|\\[dswS]|\[0-9\]|\{[0-9],?|\$\)", PAGE_READ.prose) == []


def test_links_of_the_page_lead_somewhere() -> None:
    ids = PAGE_READ.attributes("id")
    assert len(set(ids)) == len(ids)
    assert set(PAGE_READ.attributes("href")) <= {"openapi.json", *(f"#{name}" for name in ids)}


def test_the_page_names_all_there_is() -> None:
    ids = PAGE_READ.attributes("id")
    for path, item in DOCUMENT["paths"].items():
        assert path in PAGE_READ.text
        for tree in item.values():
            if "operationId" in tree:
                assert tree["operationId"] in ids
                assert tree["summary"] in PAGE_READ.text
    for name in itertools.chain(
        partner._MEANINGS,
        numbers._MEANINGS,
        *calls._MEANINGS.values(),
        DOCUMENT["components"]["schemas"]["PageOfNumbers"]["properties"],
        dynamic._DIMENSIONS_MOST,
    ):
        assert name in PAGE_READ.text
    for most in re.findall(r'"max(?:Length|Items|Properties|imum)":([0-9]+)', orjson.dumps(DOCUMENT).decode()):
        assert re.search(f"(at most|to) {most}(?![0-9])", PAGE_READ.text)


@pytest.mark.parametrize(
    ("limits", "shown"),
    [
        ({"minimum": 10, "maximum": 120}, ["10 to 120"]),
        ({"maximum": 120}, ["at most 120"]),
        ({"minimum": 0}, ["at least 0"]),
    ],
)
def test_limits_of_a_number_are_shown(limits: Any, shown: list[str]) -> None:
    assert list(page._limits(limits)) == shown


def test_a_member_is_marked_where_a_request_must_have_it_and_where_an_answer_may_lack_it() -> None:
    def marks(name: str) -> list[tuple[str, str]]:
        part = page.page(DOCUMENT).partition(f'id="{name}"')[2].partition("<article")[0]
        return re.findall(r"<dt><code>(\w+)</code> <span[^>]*>([a-z ]+)</span>", part)

    assert marks("schema-CallStarted") == [("corrected", "may be absent")]
    assert marks("post_calls") == [
        ("call_id", "required"), ("event", "required"), ("number", "required where event is started"),
    ]  # fmt: skip


def test_an_answer_that_is_a_list_links_what_is_in_it() -> None:
    text = page.page(DOCUMENT)
    assert 'list of <a href="#schema-StaticNumber">StaticNumber</a>' in text
    assert 'list of <a href="#schema-LeaseMatch">LeaseMatch</a> or <a' in text


def test_what_a_document_says_is_escaped() -> None:
    bad = '<script src="//x">&amp;\'`<b>`'

    def spoiled(tree: Any, key: str = "") -> Any:
        if isinstance(tree, dict):
            return {name: spoiled(value, name) for name, value in tree.items()}
        if isinstance(tree, list):
            return [spoiled(value, key) for value in tree]
        return tree + bad if key in ("title", "description", "summary", "url", "examples", "version") else tree

    document = spoiled(DOCUMENT)
    document["paths"] = {path + bad: item for path, item in document["paths"].items()}
    document["components"]["schemas"]["NewCustomer"]["properties"] |= {bad: {"const": bad}}
    text = page.page(document)
    assert {tag for tag, _ in Reader(text).elements} == {tag for tag, _ in PAGE_READ.elements}
    assert "<script" not in text


async def test_both_are_served_without_login(store_url: str) -> None:
    async with serving(store_url, api_version="3.1") as edge:
        async with edge.client.get(edge.manage + "/openapi.json") as response:
            assert (response.status, response.headers["Content-Type"]) == (200, "application/json")
            assert orjson.loads(await response.read()) == document(ROOMS, "3.1")
        async with edge.client.get(edge.manage + "/docs") as response:
            assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            text = await response.text()
        assert text == page.page(document(ROOMS, "3.1"))
        assert "/3.1/customers" in text
        assert "/2.4.9/" not in text
        for path in ("/openapi.json", "/docs"):
            async with edge.client.get(edge.url + path) as response:
                assert response.status == 404


async def test_a_browser_may_apply_the_one_style_of_the_page_and_nothing_else(store_url: str) -> None:
    async with serving(store_url) as edge, edge.client.get(edge.manage + "/docs") as response:
        (style,) = re.findall("<style>(.*?)</style>", await response.text(), re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert response.headers["Content-Security-Policy"].split("; ") == [
            "default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'",
            "frame-ancestors 'none'",
        ]  # fmt: skip


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_root_of_the_manage_port_leads_to_the_page(store_url: str, method: str) -> None:
    async with serving(store_url) as edge:
        async with edge.client.request(method, edge.manage + "/", allow_redirects=False) as response:
            assert (response.status, response.headers["Location"]) == (302, "docs")
        async with edge.client.request(method, edge.manage + "/") as response:
            assert (response.status, response.url.path) == (200, "/docs")
        async with edge.client.request(method, edge.url + "/") as response:
            assert response.status == 404
