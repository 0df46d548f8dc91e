"""Work that would hold the loop, done beside it: one piece at a time, so that the loop waits for one other at most."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_beside = ThreadPoolExecutor(1, "aside")  # its thread begins with the first piece, so it is the worker's own


async def aside(work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """The result of `work`, which is Python that the interpreter can switch away from, every 5 ms: no long C call."""
    return await asyncio.get_running_loop().run_in_executor(_beside, lambda: work(*args, **named))
