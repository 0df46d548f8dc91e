"""The locked requirements: complete, within what pyproject.toml asks for, fixed by hashes."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.servers import DEPLOY

LOCKS = DEPLOY / "requirements"
PROJECT = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())
PYTHONS = ("3.11.0", "3.11.9", "3.12.0", "3.13.0")


def locked(name: str) -> dict[str, Requirement]:
    """Package → its pin."""
    text = (LOCKS / name).read_text().replace("\\\n", " ")
    pins = [line.split("--hash")[0].strip() for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, pins)}


def direct(name: str) -> list[Requirement]:
    asked = PROJECT["project"]["dependencies"] if name == "edgeproxy.txt" else PROJECT["build-system"]["requires"]
    return [Requirement(text) for text in asked]


def environment(python: str) -> dict[str, str]:
    own = {name: str(value) for name, value in default_environment().items()}
    return own | {"python_version": python.rpartition(".")[0], "python_full_version": python, "extra": ""}


both = pytest.mark.parametrize("name", ["edgeproxy.txt", "build.txt"])


@both
def test_every_pin_is_one_version_with_hashes(name: str) -> None:
    for entry in re.split(r"\n(?=\w)", (LOCKS / name).read_text().replace("\\\n", " "))[1:]:
        assert re.match(r"[\w.-]+==\S+ ", entry), entry
        assert re.findall(r"--hash=(sha256):[0-9a-f]{64}\b", entry), entry


@both
def test_what_the_project_asks_for_is_locked_within_its_bounds(name: str) -> None:
    pins = locked(name)
    for wanted in direct(name):
        (pinned,) = pins[canonicalize_name(wanted.name)].specifier
        assert wanted.specifier.contains(pinned.version), f"{wanted} is locked at {pinned.version}: lock again"


@both
@pytest.mark.parametrize("python", PYTHONS)
def test_nothing_is_missing_and_nothing_is_there_for_nothing(name: str, python: str) -> None:
    """By the metadata of what is installed, which may be of other versions than the locked ones."""
    pins, reached, pending = locked(name), set(), direct(name)
    while pending:
        wanted = pending.pop()
        package = canonicalize_name(wanted.name)
        if wanted.marker is not None and not wanted.marker.evaluate(environment(python)):
            continue
        assert package in pins, f"{package} is not locked: lock again"
        marker = pins[package].marker
        assert marker is None or marker.evaluate(environment(python)), f"{package} is not locked for Python {python}"
        if package not in reached:
            reached.add(package)
            try:
                version(package)
            except PackageNotFoundError:  # such as what only an older Python needs, or the build
                continue
            pending += [Requirement(text) for text in requires(package) or []]
    surplus = {name for name, pin in pins.items() if pin.marker is None} - reached
    assert {package for package in surplus if name == "edgeproxy.txt"} == set()


@both
def test_the_header_has_the_command_that_makes_it_again(name: str) -> None:
    lines = (LOCKS / name).read_text().splitlines()
    source = "pyproject.toml" if name == "edgeproxy.txt" else "deploy/requirements/build.in"
    assert lines[1].strip("# ") == (
        f"uv pip compile --universal --python-version 3.11 --generate-hashes {source} -o deploy/requirements/{name}"
    )
    text = "\n".join(lines)
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links|file:|(?<![\w.])/(home|tmp|work|root)", text)


def test_the_build_is_locked_for_what_the_project_is_built_with() -> None:
    asked = {str(Requirement(line)) for line in (LOCKS / "build.in").read_text().splitlines() if line}
    assert asked == {str(wanted) for wanted in direct("build.txt")}
