"""An OpenAPI document as a page to read: one file without scripts or anything to load, for light and dark screens."""

import html
import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

Tree = dict[str, Any]

_METHODS = ("get", "post", "put", "delete")
_TYPES = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "true or false",
    "null": "null",
    "object": "object",
}
_STYLE = """
:root { color-scheme: light dark; --line: #d0d7de; --soft: #f6f8fa; --ink: #1f2328; --faint: #59636e; --link: #0550ae }
@media (prefers-color-scheme: dark) {
  :root { --line: #3d444d; --soft: #1a2029; --ink: #e6edf3; --faint: #9198a1; --link: #79b8ff }
  body { background: #0d1117 }
}
body { margin: 0 auto; max-width: 70rem; padding: 1rem 1.25rem 4rem; color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif }
a { color: var(--link); text-decoration: none }
a:hover { text-decoration: underline }
h1, h2, h3, h4 { line-height: 1.25 }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); padding-bottom: .3rem }
h4 { margin: 1rem 0 .4rem }
article { border: 1px solid var(--line); border-radius: 6px; padding: .25rem 1rem 1rem; margin: 1rem 0 }
article h3 { overflow-wrap: anywhere }
code, .method { font: .875em/1.4 ui-monospace, monospace }
code { background: var(--soft); border-radius: 4px; padding: .1em .3em; overflow-wrap: anywhere }
td:first-child code { white-space: nowrap }
.method { display: inline-block; min-width: 4.5em; font-weight: 700 }
.scroll { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { border-top: 1px solid var(--line); padding: .35rem .75rem .35rem 0; text-align: left; vertical-align: top }
th { color: var(--faint); font-weight: 600 }
nav ul { list-style: none; padding: 0; margin: .25rem 0 1rem }
nav li { margin: .15rem 0 }
nav span, .faint { color: var(--faint) }
"""


class _Html(str):
    """Text that is HTML already; all other text is escaped on its way into an element."""

    __slots__ = ()


def _element(name: str, *children: str, **attributes: str) -> _Html:
    inside = "".join(child if isinstance(child, _Html) else html.escape(child) for child in children)
    named = "".join(f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items())
    return _Html(f"<{name}{named}>{inside}</{name}>")


def _prose(text: str) -> _Html:
    """Text in which backticks mark code."""
    pieces = text.split("`")
    return _Html("".join(_element("code", piece) if at % 2 else html.escape(piece) for at, piece in enumerate(pieces)))


def _joined(parts: Iterable[str], between: str) -> _Html:
    return _Html(html.escape(between).join(part if isinstance(part, _Html) else _prose(part) for part in parts))


def _code(value: object) -> _Html:
    return _element("code", value if isinstance(value, str) and value else orjson.dumps(value).decode())


def page(document: Tree) -> str:
    """The page, whole."""
    return _Page(document).render()


class _Page:
    """The page in the making."""

    def __init__(self, document: Tree) -> None:
        self._document = document
        self._shown: dict[str, None] = {}  # schemas that answers refer to, in the order they were met

    def render(self) -> str:
        info = self._document["info"]
        title = f"{info['title']} {info['version']}"
        tags = [(tag, list(self._operations(tag["name"]))) for tag in self._document["tags"]]
        body = _element(
            "body",
            _element("h1", title),
            *(_element("p", _prose(text)) for text in info["description"].strip().split("\n\n")),
            _element("p", "The same for programs: ", _element("a", "openapi.json", href="openapi.json"), "."),
            _element("nav", *(self._index(tag, operations) for tag, operations in tags)),
            *(self._section(tag, operations) for tag, operations in tags),
            self._schemas(),
        )
        head = _element(
            "head",
            _Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            _element("title", title),
            _element("style", _Html(_STYLE)),
        )
        return f"<!DOCTYPE html>\n{_element('html', head, body, lang='en')}\n"

    # Operations ---------------------------------------------------------------------------------------------------

    def _operations(self, tag: str) -> Iterator[tuple[str, str, Tree, Tree]]:
        """Method, path, the path's item and the operation, of those with that tag."""
        for path, item in self._document["paths"].items():
            for method in _METHODS:
                if method in item and tag in item[method]["tags"]:
                    yield method, path, item, item[method]

    def _index(self, tag: Tree, operations: list[tuple[str, str, Tree, Tree]]) -> _Html:
        lines = [
            _element(
                "li",
                _element("a", *_name(method, path), href=f"#{operation['operationId']}"),
                _element("span", f" {operation['summary']}"),
            )
            for method, path, _, operation in operations
        ]
        return _element("div", _element("strong", tag["name"]), _element("ul", *lines))

    def _section(self, tag: Tree, operations: list[tuple[str, str, Tree, Tree]]) -> _Html:
        return _element(
            "section",
            _element("h2", tag["name"]),
            _element("p", _prose(tag["description"])),
            *(self._article(*operation) for operation in operations),
        )

    def _article(self, method: str, path: str, item: Tree, operation: Tree) -> _Html:
        parts = [_element("h3", *_name(method, path)), _element("p", _prose(operation["summary"] + "."))]
        if "description" in operation:
            parts.append(_element("p", _prose(operation["description"])))
        parts += [
            _element("p", f"On {server['description']}: ", _code(server["url"])) for server in item.get("servers", ())
        ]
        parts.append(_element("p", "Access: ", self._access(operation)))
        if operation.get("parameters"):
            parts.append(_element("h4", "Parameters"))
            parts.append(_table(("name", "in", "", "what it takes", "meaning"), self._parameters(operation)))
        if "requestBody" in operation:
            parts += self._body(operation["requestBody"])
        parts.append(_element("h4", "Answers"))
        parts.append(_table(("status", "body", "meaning"), self._answers(operation)))
        return _element("article", *parts, id=operation["operationId"])

    def _access(self, operation: Tree) -> _Html:
        ways = [self._scheme(name) for alternative in operation["security"] for name in alternative]
        return _joined(ways, " Or ") if ways else _prose("free")

    def _scheme(self, name: str) -> _Html:
        scheme = self._document["components"]["securitySchemes"][name]
        if scheme["type"] == "apiKey":
            return _joined((f"{scheme['in']} `{scheme['name']}`: ", _prose(scheme["description"])), "")
        return _joined((f"HTTP {scheme['scheme']}: ", _prose(scheme["description"])), "")

    def _parameters(self, operation: Tree) -> Iterator[tuple[str, ...]]:
        for parameter in operation["parameters"]:
            required = "required" if parameter.get("required") else ""
            rules = _joined(self._rules(parameter["schema"]), ", ")
            yield _code(parameter["name"]), parameter["in"], required, rules, _prose(parameter["description"])

    def _body(self, body: Tree) -> Iterator[_Html]:
        yield _element("h4", "Body")
        if "description" in body:
            yield _element("p", _prose(body["description"]))
        # The forms of one body differ in how null and lists are written; JSON shows what there is.
        kinds = list(body["content"])
        yield _element("p", "As ", _joined(map(_code, kinds), ", or "), "" if body["required"] else "; may be left out")
        schema = self._resolve(body["content"].get("application/json", body["content"][kinds[0]])["schema"])
        if "description" in schema:
            yield _element("p", _prose(schema["description"]))
        yield self._fields(schema)
        for example in schema.get("examples", ()):
            yield _element("p", "For example: ", _code(example))

    def _answers(self, operation: Tree) -> Iterator[tuple[str, ...]]:
        for status, found in operation["responses"].items():
            answer = self._resolve(found)
            content = answer.get("content", {})
            what: list[str] = [_joined(map(_code, content), ", ")]
            schema: Tree = next((media["schema"] for media in content.values()), {})
            if "$ref" in schema or "oneOf" in schema or "items" in schema:
                what.append(_joined(self._rules(schema), ", "))
            headers = [
                _joined((f"`{name}`: ", _prose(header["description"])), "")
                for name, header in answer.get("headers", {}).items()
            ]
            meaning = _joined([answer["description"], *headers], " ")
            yield _code(status), _joined(what, ": "), meaning

    # Schemas ------------------------------------------------------------------------------------------------------

    def _resolve(self, tree: Tree) -> Tree:
        if "$ref" not in tree:
            return tree
        found: Any = self._document
        for step in tree["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return self._resolve(found)

    def _schemas(self) -> _Html:
        """What answers hold; describing one can bring others to light."""
        parts, done = [_element("h2", "What answers hold")], set[str]()
        while waiting := [name for name in self._shown if name not in done]:
            for name in waiting:
                done.add(name)
                schema = self._document["components"]["schemas"][name]
                about = [_element("p", _prose(schema["description"]))] if "description" in schema else []
                parts.append(
                    _element("article", _element("h3", name), *about, self._fields(schema), id=f"schema-{name}")
                )
        return _element("section", *parts)

    def _fields(self, schema: Tree) -> _Html:
        return _table(("name", "", "what it takes", "meaning"), self._rows(schema, ""))

    def _rows(self, schema: Tree, within: str) -> Iterator[tuple[str, ...]]:
        """A row for each member of an object, and of the objects in it; a run of numbered alike ones is one row."""
        for names, member in _runs(schema.get("properties", {})):
            name = _joined((_code(within + shown) for shown in names), " … ")
            yield (
                name,
                _when(schema, names[0]),
                _joined(self._rules(member), ", "),
                _prose(member.get("description", "")),
            )
            yield from self._rows(member, f"{within}{names[0]}.")
            yield from self._rows(member.get("items", {}), f"{within}{names[0]}[].")
        for pattern, member in schema.get("patternProperties", {}).items():
            about = _prose(member.get("description", ""))
            yield _code(within + pattern), "", _joined(self._rules(member), ", "), about
        others = schema.get("additionalProperties")
        if isinstance(others, dict):
            yield (
                _prose(f"others of {within.rstrip('.')}" if within else "others"),
                "",
                _joined(self._rules(others), ", "),
                "",
            )

    def _rules(self, schema: Tree) -> Iterator[str]:
        """What a value must be."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            self._shown.setdefault(name)
            yield _element("a", name, href=f"#schema-{name}")
        for word in ("oneOf", "anyOf"):
            if word in schema:
                yield _joined((_joined(self._rules(choice), ", ") for choice in schema[word]), " or ")
                if word == "anyOf":
                    return
        if "const" in schema:
            yield _code(schema["const"])
        elif "enum" in schema:
            yield _joined(("one of", _joined(map(_code, schema["enum"]), ", ")), " ")
        elif schema.get("type") == "array":
            yield _joined(("list of", _joined(self._rules(schema["items"]), ", ") or "anything"), " ")
        elif "type" in schema:
            kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
            yield " or ".join(_TYPES[kind] for kind in kinds)
        yield from _limits(schema)


def _limits(schema: Tree) -> Iterator[str]:
    for least, most, things in (("minLength", "maxLength", "characters"), ("minItems", "maxItems", "entries")):
        if least in schema and most in schema:
            yield f"{schema[least]} to {schema[most]} {things}"
        elif most in schema:
            yield f"at most {schema[most]} {things}"
        elif least in schema:
            yield "not empty" if schema[least] == 1 else f"at least {schema[least]} {things}"
    if "minimum" in schema and "maximum" in schema:
        yield f"{schema['minimum']} to {schema['maximum']}"
    elif "maximum" in schema:
        yield f"at most {schema['maximum']}"
    elif "minimum" in schema:
        yield f"at least {schema['minimum']}"
    if "maxProperties" in schema:
        yield f"at most {schema['maxProperties']} members"
    if "propertyNames" in schema:
        yield f"names of at most {schema['propertyNames']['maxLength']} characters"
    if "pattern" in schema:
        yield _joined(("like", _code(schema["pattern"])), " ")
    if "default" in schema:
        yield _joined(("else", _code(schema["default"])), " ")
    if "examples" in schema:
        yield _joined(("such as", *map(_code, schema["examples"])), " ")


def _name(method: str, path: str) -> tuple[_Html, _Html]:
    return _element("span", method.upper(), class_="method"), _element("code", path)


def _when(schema: Tree, name: str) -> str:
    """When a member is required."""
    if name in schema.get("required", ()):
        return "required"
    if name in schema.get("then", {}).get("required", ()):
        ((other, rule),) = schema["if"]["properties"].items()
        return f"required where {other} is {rule['const']}"
    return ""


def _runs(properties: Tree) -> Iterator[tuple[list[str], Tree]]:
    """The members; a run that differs in its number alone (`custom_1`, `custom_2`, …) is given by its ends."""
    for _, run in itertools.groupby(properties, lambda name: re.sub(r"[0-9]+$", "#", name)):
        first, *rest = run
        yield [first, *rest[-1:]], properties[first]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> _Html:
    return _element(
        "div",
        _element(
            "table",
            _element("thead", _element("tr", *(_element("th", cell) for cell in head))),
            _element("tbody", *(_element("tr", *(_element("td", cell) for cell in row)) for row in rows)),
        ),
        class_="scroll",
    )
