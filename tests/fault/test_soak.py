"""The soak of `python -m benchmarks soak` in one minute: every fault once, and the same verdict."""

from typing import Any

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks import soak

pytestmark = pytest.mark.slow

MINUTES = 1
# Of two shared cores, so that the verdict does not hang on what else runs there: a twentieth of what a free one does.
RATE = 100


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    console = Console(width=150)
    progress = Progress(console=console, disable=True)
    found = soak.run(MINUTES, RATE, progress, directory=tmp_path_factory.mktemp("soak"))
    soak.show(found, console)
    return found


def test_every_promise_is_held(result: dict[str, Any]) -> None:
    broken = [f"{line['promise']}: {line['seen']}" for line in result["verdict"] if not line["held"]]
    assert not broken, "\n".join(broken)
