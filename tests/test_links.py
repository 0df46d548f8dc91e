"""The pages and the code that names them: links, anchors, files and headings are there."""

import re
from functools import cache
from pathlib import Path

import pytest

import edgeproxy

ROOT = Path(__file__).parents[1]
FOLDERS = ("edgeproxy", "tests", "deploy", "benchmarks", ".github")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*") if file.is_file())
PAGES = [*ROOT.glob("*.md"), *(file for file in FILES if file.suffix == ".md")]
KINDS = ("py", "lua", "yaml", "yml", "sh", "cfg", "conf", "env", "in", "acl", "toml", "json", "txt", "svg", "md")
CODE = [file for file in FILES if file.suffix[1:] in KINDS[:9] and file != Path(__file__)]

FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
# What a page names: folders, files with their folders, and source and pages wherever they are.
FILE = re.compile(rf"`((?:[\w.-]+/)+(?:[\w.-]+\.(?:{'|'.join(KINDS)}))?|[\w.-]+\.(?:py|lua|md))(?:::\w+)?`")
TESTS = re.compile(r"(?<![\w/])(tests/[\w/]+\.py)(?: -k ['\"]?(\w+))?")  # in a command that a page tells
PAGE = re.compile(r"(?<![\w./\"-])((?:\.\./)*(?:[\w.-]+/)*[A-Z]+\.md)`?((?:(?:,| and)? \*[^*\n]+\*)*)")  # in code
BETWEEN_WORDS = re.compile(r"\s*(?:#|--)?\s+")  # also where a comment goes on in the next line


@cache
def text(page: Path) -> str:
    return FENCED.sub("", page.read_text())


@cache
def headings(page: Path) -> list[str]:
    return [LINK.sub("]", heading).replace("`", "") for heading in HEADING.findall(text(page))]


@cache
def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links: in lower case, without marks, each blank a dash."""
    found: set[str] = set()
    for heading in headings(page):
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = 0
        while (name := f"{anchor}-{count}" if count else anchor) in found:
            count += 1
        found.add(name)
    return found


def place_of(name: str, of: Path) -> Path | None:
    """What a page or code names: from its own folder and those above it, or from the rooms or the tests."""
    above = [folder for folder in of.parents if folder.is_relative_to(ROOT)]
    places = (folder / name for folder in (*above, ROOT / "edgeproxy", ROOT / "tests"))
    return next((place for place in places if place.exists()), None)


def wrong_links(page: Path) -> list[str]:
    """The links of a page that lead to nothing."""
    found = []
    for link in LINK.findall(text(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(ROOT) or not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


def files_that_are_not(page: Path) -> list[str]:
    """The files and folders that a page names, and that are nowhere."""
    return [
        name
        for name in FILE.findall(text(page))
        if place_of(name, page) is None and not ("/" not in name and any(file.name == name for file in FILES))
    ]


def unknown_tests(page: Path) -> list[str]:
    """The tests that commands of a page name, by their file or a word of their names, and that are nowhere."""
    found = []
    for file, word in TESTS.findall(page.read_text()):
        if not (ROOT / file).exists():
            found.append(file)
        elif word not in (ROOT / file).read_text():
            found.append(f"{file} -k {word}")
    return found


def pages_that_are_not(code: Path) -> list[str]:
    """The pages that code names, and their headings, that are not there."""
    found = []
    for name, told in PAGE.findall(BETWEEN_WORDS.sub(" ", code.read_text())):
        page = place_of(name, code)
        if page is None:
            found.append(name)
        else:
            found += [f"{name}, {each}" for each in re.findall(r"\*([^*]+)\*", told) if each not in headings(page)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_whatever_a_page_links_to_is_there(page: Path) -> None:
    assert wrong_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_whatever_file_a_page_names_is_there(page: Path) -> None:
    assert files_that_are_not(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_whatever_test_a_page_names_is_there(page: Path) -> None:
    assert unknown_tests(page) == []


@pytest.mark.parametrize("code", CODE, ids=lambda code: str(code.relative_to(ROOT)))
def test_whatever_page_code_names_is_there(code: Path) -> None:
    assert pages_that_are_not(code) == []


def test_what_is_not_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_links.ROOT", tmp_path)
    (tmp_path / "OTHER.md").write_text("# *One* heading: `x`\n\n# Twice\n\n# Twice\n\n```\n# no heading\n```\n")
    page, code = tmp_path / "PAGE.md", tmp_path / "code.lua"
    page.write_text(
        "[a](OTHER.md) [b](OTHER.md#one-heading-x) [c](OTHER.md#twice-1) [d](https://example.com/#e) [h](#here)\n"
        "# Here\n[e](NONE.md) [f](OTHER.md#no-heading) [g](../) `code.lua` `none/x.py::test_y`\n"
        "```\n[i](NONE.md)\n```\n"
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_x.py").write_text("def test_of_a_fault(): ...\n")
    with page.open("a") as more:
        more.write("`T tests/test_x.py -k fault` `T tests/test_x.py -k none` `pytest tests/test_z.py`\n")
    code.write_text("-- OTHER.md, *Twice*, tells it, and PAGE.md, *Here* and\n-- *There*; see NONE.md\n")
    assert wrong_links(page) == ["NONE.md", "OTHER.md#no-heading", "../"]
    assert files_that_are_not(page) == ["none/x.py"]
    assert unknown_tests(page) == ["tests/test_x.py -k none", "tests/test_z.py"]
    assert pages_that_are_not(code) == ["PAGE.md, There", "NONE.md"]


def test_the_page_of_upgrades_tells_of_this_version() -> None:
    told = re.findall(r"^### ([0-9.]+)$", (ROOT / "deploy" / "UPGRADE.md").read_text(), re.MULTILINE)
    assert edgeproxy.__version__ in told
