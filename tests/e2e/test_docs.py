"""The page at `/docs` as its readers use it: what it shows is pasted, and it is looked at in a browser."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from edgeproxy.http.openapi.tree import EDGE, MANAGE
from edgeproxy.node.document import document
from edgeproxy.node.rooms import ROOMS
from tests.processes import Running, started

pytestmark = pytest.mark.slow

DOCUMENT = document(ROOMS, "2.4.9")
OPERATIONS = {
    operation["operationId"]: operation
    for item in DOCUMENT["paths"].values()
    for operation in item.values()
    if "operationId" in operation
}
NOTHING_THERE = "get_recordings_recording_id"  # this gateway makes no recordings
# Language → file that its program is kept in, and what runs it.
RUN = {
    "Shell": ("sign.sh", "sh"),
    "Python": ("sign.py", "python3"),
    "PHP": ("sign.php", "php"),
    "JavaScript (Node.js)": ("sign.mjs", "node"),
    "Java": ("Sign.java", "java"),
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("demo")
    with started("demo", "--port", "0", "--manage-port", "0", "--data-dir", str(directory / "data")) as running:
        yield running


def here(demo: Running, source: str) -> str:
    """The program with the addresses of this demo, whose ports are any."""
    return source.replace(EDGE, demo.edge).replace(MANAGE, demo.manage)


def ran(command: list[str], directory: Path, refused: str) -> str:
    """What a command prints; it is run again, a second later, while the limit of requests per second refuses it."""
    for _ in range(5):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=os.environ | {"CURL_HOME": str(directory)}
        )
        assert (done.returncode, done.stderr) == (0, "")
        if refused not in done.stdout:
            break
        time.sleep(1)
    return done.stdout


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_first_example_of_an_operation_works_when_pasted(name: str, demo: Running, tmp_path: Path) -> None:
    tmp_path.joinpath(".curlrc").write_text(r'write-out = "\n%{http_code}\n"')
    source = here(demo, OPERATIONS[name]["x-codeSamples"][0]["source"])
    *_, answer, status = ran(["sh", "-c", source], tmp_path, "\n429\n").splitlines()
    assert int(status) == 404 if name == NOTHING_THERE else int(status) < 400, answer


def test_there_is_a_program_in_each_language() -> None:
    assert [sample["lang"] for sample in OPERATIONS["post_api"]["x-codeSamples"]] == list(RUN)


@pytest.mark.parametrize("sample", OPERATIONS["post_api"]["x-codeSamples"], ids=RUN)
def test_a_program_signs_as_the_gateway_does(sample: Any, demo: Running, tmp_path: Path) -> None:
    file, interpreter = RUN[sample["lang"]]
    if shutil.which(interpreter) is None:
        pytest.skip(f"{interpreter} is not installed")
    program = tmp_path / file
    for secret, error in (("freespee", None), ("another", "Invalid signature")):
        program.write_text(here(demo, sample["source"]).replace("freespee", secret))
        answer = orjson.loads(ran([interpreter, str(program)], tmp_path, "Blocked IP"))
        assert (answer["success"], answer.get("error")) == (error is None, error)
