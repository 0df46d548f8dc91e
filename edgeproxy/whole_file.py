"""Files that commands write: whole or not at all, whatever ends the command."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO


@contextlib.contextmanager
def written_whole(file: Path) -> Iterator[IO[bytes]]:
    """A file to write, that is there whole or not at all; no regular file, such as a pipe, is written to as it is.

    Raises:
        OSError: it cannot be written.
    """
    if file.exists() and not file.is_file():
        with file.open("wb") as sink:
            yield sink
        return
    file = file.resolve()  # of a link, what it leads to is replaced
    beside = file.with_name(f".edgeproxy-{os.getpid()}")
    try:
        with beside.open("xb") as sink:
            if file.exists():
                shutil.copymode(file, beside)
            yield sink
            sink.flush()
            os.fsync(sink.fileno())
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
