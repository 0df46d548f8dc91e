"""An OpenAPI document as a page to read: one file without scripts or anything to load, for narrow and wide screens.

Beside OpenAPI's own words it shows three extensions, which `tree` makes: `x-codeSamples` (programs that ask an
operation), `x-inWords` (what a regular expression says), and `x-tagGroups` (which tags are one API).
"""

import base64
import hashlib
import html
import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.resources import files
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
_STYLE = files(__package__).joinpath("page.css").read_text(encoding="utf-8")
# What a browser may do with the page: apply its one style sheet, and nothing else.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


class _Html(str):
    """Text that is HTML already; all other text is escaped on its way into an element."""

    __slots__ = ()


def _element(name: str, *children: str, **attributes: str) -> _Html:
    inside = "".join(child if isinstance(child, _Html) else html.escape(child) for child in children)
    named = "".join(f' {key.strip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items())
    return _Html(f"<{name}{named}>{inside}</{name}>")


def _prose(text: str) -> _Html:
    """Text in which backticks mark code."""
    pieces = text.split("`")
    return _Html("".join(_element("code", piece) if at % 2 else html.escape(piece) for at, piece in enumerate(pieces)))


def _paragraphs(text: str) -> list[_Html]:
    return [_element("p", _prose(part)) for part in text.strip().split("\n\n") if part]


def _joined(parts: Iterable[str], between: str) -> _Html:
    return _Html(html.escape(between).join(part if isinstance(part, _Html) else _prose(part) for part in parts))


def _code(value: object) -> _Html:
    return _element("code", value if isinstance(value, str) and value else orjson.dumps(value).decode())


def _block(source: str) -> _Html:
    """Code of several lines, which may be wider than the page: it scrolls by itself, by the keyboard too."""
    return _element("pre", _element("code", source), tabindex="0")


def _heading(level: str, name: str, *title: str) -> _Html:
    """A heading that can be linked to; `name` is the id of what it heads."""
    return _element(level, *title, _link(name))


def _link(name: str) -> _Html:
    return _element("a", "#", href=f"#{name}", class_="here", aria_label="link to this part")


def _id(text: str) -> str:
    """What a link calls the part of the page that has that name."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text.removeprefix("#/components/")).strip("-")


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
        groups = [self._group(group) for group in self._groups()]
        schemas = self._schemas()
        body = _element(
            "body",
            _element("a", "Skip to the text", href="#top", class_="skip"),
            _element(
                "nav",
                _element("ul", *map(self._index, self._groups()), self._schema_index()),
                aria_label="Contents",
            ),
            _element(
                "main",
                _element("h1", title),
                *_paragraphs(info["description"]),
                _element("p", "The same for programs: ", _element("a", "openapi.json", href="openapi.json"), "."),
                *groups,
                schemas,
                id="top",
            ),
        )
        head = _element(
            "head",
            _Html('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            _element("title", title),
            _element("style", _Html(_STYLE)),
        )
        return f"<!DOCTYPE html>\n{_element('html', head, body, lang='en')}\n"

    # Operations ---------------------------------------------------------------------------------------------------

    def _groups(self) -> list[Tree]:
        """The APIs, each with its tags; a document that does not group its tags has each by itself."""
        tags = {tag["name"]: tag for tag in self._document["tags"]}
        groups: list[Tree] = self._document.get("x-tagGroups") or [{"name": name, "tags": [name]} for name in tags]
        return [{**group, "tags": [tags[name] for name in group["tags"]]} for group in groups]

    def _operations(self, tag: str) -> Iterator[tuple[str, str, Tree, Tree]]:
        """Method, path, the path's item and the operation, of those with that tag."""
        for path, item in self._document["paths"].items():
            for method in _METHODS:
                if method in item and tag in item[method]["tags"]:
                    yield method, path, item, item[method]

    def _index(self, group: Tree) -> _Html:
        """An API in the contents: its subjects, if there are several, and on wide screens their operations."""
        link = _element("a", group["name"], href=f"#{_id(group['name'])}")
        operations = [(tag, list(self._operations(tag["name"]))) for tag in group["tags"]]
        above = _above([path for _, found in operations for _, path, *_ in found])

        def listed(found: list[tuple[str, str, Tree, Tree]]) -> _Html:
            names = ((_name(method, path.removeprefix(above) or path), tree) for method, path, _, tree in found)
            return _element(
                "ul",
                *(_element("li", _element("a", *name, href=f"#{tree['operationId']}")) for name, tree in names),
                class_="operations",
            )

        if len(operations) == 1:
            return _element("li", link, listed(operations[0][1]))
        subjects = [
            _element("li", _element("a", tag["name"], href=f"#{_id(tag['name'])}"), listed(found))
            for tag, found in operations
        ]
        return _element("li", link, _element("ul", *subjects))

    def _group(self, group: Tree) -> _Html:
        """An API: what it is for, what it takes, and the errors that its operations share."""
        name, alone = _id(group["name"]), len(group["tags"]) == 1
        return _element(
            "section",
            _heading("h2", name, group["name"]),
            *_paragraphs(group.get("description", "")),
            *(self._section(tag, alone=alone) for tag in group["tags"]),
            *self._errors(group),
            id=name,
        )

    def _section(self, tag: Tree, *, alone: bool) -> _Html:
        """A subject of an API with its operations; one that is `alone` is the API."""
        operations = list(self._operations(tag["name"]))
        name = _id(tag["name"])
        lines = [
            _element(
                "li",
                _element("a", *_name(method, path), href=f"#{operation['operationId']}"),
                f" {operation['summary']}",
            )
            for method, path, _, operation in operations
        ]
        parts = [
            _element("p", _prose(tag["description"])),
            _element("ul", *lines, class_="list"),
            *(self._article(*operation) for operation in operations),
        ]
        return (
            _element("div", *parts)
            if alone
            else _element("section", _heading("h3", name, tag["name"]), *parts, id=name)
        )

    def _errors(self, group: Tree) -> Iterator[_Html]:
        shared = {
            found["$ref"]: status
            for tag in group["tags"]
            for *_, operation in self._operations(tag["name"])
            for status, found in operation["responses"].items()
            if "$ref" in found
        }
        if shared:
            name = f"{_id(group['name'])}-errors"
            entries = [self._answer(status, {"$ref": place}) for place, status in sorted(shared.items())]
            yield _element("section", _heading("h3", name, "Errors, and what to do"), _list(entries), id=name)

    def _article(self, method: str, path: str, item: Tree, operation: Tree) -> _Html:
        name = operation["operationId"]
        parts = [_heading("h3", name, *_name(method, path)), _element("p", _prose(operation["summary"] + "."))]
        parts += _paragraphs(operation.get("description", ""))
        parts += _samples(name, operation["x-codeSamples"])
        parts += [
            _element("p", f"On {server['description']}: ", _code(_address(server)))
            for server in item.get("servers", ())
        ]
        parts.append(_element("p", "Access: ", self._access(operation)))
        if operation.get("parameters"):
            parts.append(_element("h4", "Parameters"))
            parts.append(_list(self._parameters(operation)))
        if "requestBody" in operation:
            parts += self._body(operation["requestBody"])
        parts += [_element("h4", "Answers"), _list(self._answers(operation))]
        return _element("article", *parts, id=name)

    def _access(self, operation: Tree) -> _Html:
        ways = [self._scheme(name) for alternative in operation["security"] for name in alternative]
        return _joined(ways, " Or ") if ways else _prose("free")

    def _scheme(self, name: str) -> _Html:
        scheme = self._document["components"]["securitySchemes"][name]
        if scheme["type"] == "apiKey":
            return _joined((f"{scheme['in']} `{scheme['name']}`: ", _prose(scheme["description"])), "")
        return _joined((f"HTTP {scheme['scheme']}: ", _prose(scheme["description"])), "")

    def _parameters(self, operation: Tree) -> Iterator[_Html]:
        for parameter in operation["parameters"]:
            required = "required" if parameter.get("required") else ""
            rules = _joined(self._rules(parameter["schema"]), ", ")
            yield _entry(_code(parameter["name"]), required, parameter["in"], _prose(parameter["description"]), rules)

    def _body(self, body: Tree) -> Iterator[_Html]:
        yield _element("h4", "Body")
        if "description" in body:
            yield _element("p", _prose(body["description"]))
        # The forms of one body differ in how null and lists are written; JSON shows what there is.
        kinds = list(body["content"])
        yield _element(
            "p", "Content type: ", _joined(map(_code, kinds), ", or "), "" if body["required"] else "; may be left out"
        )
        schema = self._resolve(body["content"].get("application/json", body["content"][kinds[0]])["schema"])
        if "description" in schema:
            yield _element("p", _prose(schema["description"]))
        yield _list(self._rows(schema, _required))
        for example in schema.get("examples", ()):
            yield _element("p", "For example:")
            yield _block(orjson.dumps(example, option=orjson.OPT_INDENT_2).decode())

    def _answers(self, operation: Tree) -> Iterator[_Html]:
        """The operation's own answers; those that an API's operations share are told once, and linked."""
        shared = []
        for status, found in operation["responses"].items():
            if "$ref" in found:
                shared.append(_element("a", status, href=f"#{_id(found['$ref'])}"))
            else:
                yield self._answer(status, found)
        if shared:
            yield _element("div", _element("dt", "errors"), _element("dd", _joined(shared, ", ")))

    def _answer(self, status: str, found: Tree) -> _Html:
        answer = self._resolve(found)
        content = answer.get("content", {})
        schema: Tree = next((media["schema"] for media in content.values()), {})
        body = [_joined(map(_code, content), ", ")] if content else []
        if "$ref" in schema or "oneOf" in schema or "items" in schema:
            body.append(_joined(self._rules(schema), ", "))
        headers = [
            _joined((f"`{name}`: ", _prose(header["description"])), "")
            for name, header in answer.get("headers", {}).items()
        ]
        choices = [
            self._choice(choice)
            for member in self._resolve(schema).get("properties", {}).values()
            for choice in _choices(member)
        ]
        named = {"id": _id(found["$ref"])} if "$ref" in found else {}
        about = _Html("".join([_prose(answer["description"]), *choices]))
        return _entry(_code(status), "", "", about, _joined(body, ": "), *headers, **named)

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
        parts, done = [_heading("h2", "answers", "What answers hold")], set[str]()
        while waiting := [name for name in self._shown if name not in done]:
            for name in waiting:
                done.add(name)
                schema = self._document["components"]["schemas"][name]
                parts.append(
                    _element(
                        "article",
                        _heading("h3", f"schema-{name}", name),
                        *_paragraphs(schema.get("description", "")),
                        _list(self._rows(schema, _absent)),
                        id=f"schema-{name}",
                    )
                )
        return _element("section", *parts, id="answers")

    def _schema_index(self) -> _Html:
        """What answers hold, in the contents; complete once the schemas are described."""
        names = [_element("li", _element("a", _element("code", name), href=f"#schema-{name}")) for name in self._shown]
        return _element(
            "li", _element("a", "What answers hold", href="#answers"), _element("ul", *names, class_="operations")
        )

    def _rows(self, schema: Tree, mark: Callable[[Tree, str], str], within: str = "") -> Iterator[_Html]:
        """A row for each member of an object, and of the objects in it; a run of numbered alike ones is one row.

        `mark` tells whether an object has the member of that name always.
        """
        for names, member in _runs(schema.get("properties", {})):
            name = _joined((_code(within + shown) for shown in names), " … ")
            choices = [self._choice(choice) for choice in _choices(member)]
            about = _Html("".join([_prose(member.get("description", "")), *choices]))
            rules = "" if choices else _joined(self._rules(member), ", ")
            yield _entry(name, mark(schema, names[0]), "", about, rules)
            yield from self._rows(member, mark, f"{within}{names[0]}.")
            yield from self._rows(member.get("items", {}), mark, f"{within}{names[0]}[].")
        for member in schema.get("patternProperties", {}).values():
            about, rules = _prose(member.get("description", "")), _joined(self._rules(member), ", ")
            yield _entry(_prose(member["x-inWords"]), "", "", about, rules)
        others = schema.get("additionalProperties")
        if isinstance(others, dict):
            name = _prose(f"others of {within.rstrip('.')}" if within else "others")
            yield _entry(name, "", "", "", _joined(self._rules(others), ", "))

    def _choice(self, choice: Tree) -> _Html:
        return _element("div", _joined(self._rules(choice), ", "), ": ", _prose(choice["description"]))

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
        yield _prose(schema["x-inWords"])  # a regular expression is for programs
    if "default" in schema:
        yield _joined(("if left out", _code(schema["default"])), " ")
    if "examples" in schema:
        yield _joined(("such as", *map(_code, schema["examples"])), " ")


def _choices(schema: Tree) -> list[Tree]:
    """The alternatives of a value, where each has a meaning of its own."""
    choices: list[Tree] = schema.get("anyOf", [])
    return choices if all("description" in choice for choice in choices) else []


def _name(method: str, path: str) -> tuple[_Html, str, _Html]:
    return _element("span", method.upper(), class_=f"method {method}"), " ", _element("code", path)


def _samples(name: str, samples: Sequence[Tree]) -> Iterator[_Html]:
    """The first program in full; the same in other languages folded up. `name` is the operation's id."""
    first, *others = samples
    if others:
        languages = ", ".join(sample["label"] for sample in samples)
        yield _element("h4", f"Example in {languages}", _link(f"{name}-example"), id=f"{name}-example")
    yield _block(first["source"])
    for sample in others:
        yield _element("details", _element("summary", sample["label"]), _block(sample["source"]))


def _address(server: Tree) -> str:
    """A server's address, with an example of what differs from gateway to gateway."""
    names = {name: variable["default"] for name, variable in server.get("variables", {}).items()}
    return str(server["url"].format_map(names))


def _required(schema: Tree, name: str) -> str:
    """When a request must have a member."""
    if name in schema.get("required", ()):
        return "required"
    if name in schema.get("then", {}).get("required", ()):
        ((other, rule),) = schema["if"]["properties"].items()
        return f"required where {other} is {rule['const']}"
    return ""


def _absent(schema: Tree, name: str) -> str:
    """Whether an answer may lack a member."""
    return "" if name in schema.get("required", ()) else "may be absent"


def _runs(properties: Tree) -> Iterator[tuple[list[str], Tree]]:
    """The members; a run that differs in its number alone (`custom_1`, `custom_2`, …) is given by its ends."""
    for _, run in itertools.groupby(properties, lambda name: re.sub(r"[0-9]+$", "#", name)):
        first, *rest = run
        yield [first, *rest[-1:]], properties[first]


def _list(entries: Iterable[_Html]) -> _Html:
    return _element("dl", *entries)


def _entry(name: _Html, must: str, where: str, about: str, *more: str, **attributes: str) -> _Html:
    """A row of a list: what it is called, whether it must be there and where, its meaning, and what more there is."""
    marks = [_element("span", must, class_="must" if must.startswith("required") else "faint")] if must else []
    marks += [_element("span", where, class_="faint")] if where else []
    head = _element("dt", _joined([name, *marks], " "))
    lines = (_element("div", line, class_="faint") for line in more if line)
    return _element("div", head, _element("dd", about, *lines), **attributes)


def _above(paths: Iterable[str]) -> str:
    """The folder that all paths are in."""
    folder = posixpath.commonpath([posixpath.dirname(path) for path in paths])
    return f"{folder.rstrip('/')}/"
