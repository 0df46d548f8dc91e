"""The pages: what they link to is there, and so is each file that they name."""

import re
from functools import cache
from pathlib import Path

import pytest

import edgeproxy

ROOT = Path(__file__).parents[1]
FOLDERS = ("edgeproxy", "tests", "deploy", "benchmarks", ".github")
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])

FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)
FILE = re.compile(rf"`((?:{'|'.join(map(re.escape, FOLDERS))})/[\w./-]+)`")


@cache
def text(page: Path) -> str:
    return FENCED.sub("", page.read_text())


@cache
def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links: in lower case, without marks, each blank a dash."""
    found: set[str] = set()
    for heading in HEADING.findall(text(page)):
        shown = LINK.sub("]", heading).lower().strip()
        anchor = re.sub(r"[^\w\- ]", "", shown).replace(" ", "-")
        count = 0
        while (name := f"{anchor}-{count}" if count else anchor) in found:
            count += 1
        found.add(name)
    return found


def wrong(page: Path) -> list[str]:
    """The links of a page, and the files that it names, that lead to nothing."""
    found = []
    for link in LINK.findall(text(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.is_relative_to(ROOT) or not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found + [name for name in FILE.findall(text(page)) if not (ROOT / name.partition("::")[0]).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_whatever_a_page_links_to_or_names_is_there(page: Path) -> None:
    assert wrong(page) == []


def test_what_is_not_there_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.test_links.ROOT", tmp_path)
    (tmp_path / "other.md").write_text("# *One* heading: `x`\n\n# Twice\n\n# Twice\n\n```\n# no heading\n```\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md) [b](other.md#one-heading-x) [c](other.md#twice-1) [d](https://example.com/#e) [h](#here)\n"
        "# Here\n[e](none.md) [f](other.md#no-heading) [g](../) `edgeproxy/none.py`\n```\n[in code](none.md)\n```\n"
    )
    assert wrong(page) == ["none.md", "other.md#no-heading", "../", "edgeproxy/none.py"]


def test_the_page_of_upgrades_tells_of_this_version() -> None:
    told = re.findall(r"^### ([0-9.]+)$", (ROOT / "deploy" / "UPGRADE.md").read_text(), re.MULTILINE)
    assert edgeproxy.__version__ in told
