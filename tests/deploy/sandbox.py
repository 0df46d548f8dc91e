"""Runs a program under the filters of system calls that a unit asks systemd for: sandbox.py UNIT PROGRAM ARGUMENT…

What systemd makes of `SystemCallFilter=` and `MemoryDenyWriteExecute=`, with its own lists, by libseccomp.
"""

import ctypes
import errno
import functools
import os
import subprocess
import sys
from pathlib import Path

_ALLOW, _DENY = 0x7FFF0000, 0x00050000 | errno.EPERM
_MASKED_EQUAL = 7
_WRITE_EXECUTE, _EXECUTE, _SHM_EXEC = 0x6, 0x4, 0o100000


class _Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("mask", ctypes.c_uint64), ("value", ctypes.c_uint64))


def directives(unit: Path) -> dict[str, list[str]]:
    """A unit's directives: all values of each, in order."""
    found: dict[str, list[str]] = {}
    for line in unit.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@functools.cache
def group(name: str) -> frozenset[str]:
    """The system calls of one of systemd's groups."""
    if not name.startswith("@"):
        return frozenset([name])
    told = subprocess.run(["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True)
    members = [line.strip() for line in told.stdout.splitlines() if line.startswith("    ")]
    return frozenset().union(*(group(member) for member in members if not member.startswith("#")))


def allowed(filters: list[str]) -> set[str]:
    """What `SystemCallFilter=` lets through: a list to begin with, and lists (~) that are taken off it."""
    calls = set(group("@default"))
    for line in filters:
        for name in line.removeprefix("~").split():
            calls = calls - group(name) if line.startswith("~") else calls | group(name)
    return calls


def enter(unit: Path) -> None:
    """Put this process, and all that it starts, under the unit's filters."""
    asked = directives(unit)
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    seccomp.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison)
    ]  # fmt: skip
    calls = allowed(asked["SystemCallFilter"])
    if asked["MemoryDenyWriteExecute"] != ["yes"]:
        raise ValueError("the unit lets memory be written and executed")
    denying = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ALLOW)))
    for name, argument, bits in (
        ("mmap", 2, _WRITE_EXECUTE), ("mprotect", 2, _EXECUTE), ("pkey_mprotect", 2, _EXECUTE), ("shmat", 2, _SHM_EXEC)
    ):  # fmt: skip
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        comparison = _Comparison(argument, _MASKED_EQUAL, bits, bits)
        _check(seccomp.seccomp_rule_add_array(denying, _DENY, number, 1, ctypes.byref(comparison)))
    allowing = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_DENY)))
    for name in calls | {"seccomp"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # this architecture has it
            _check(seccomp.seccomp_rule_add_array(allowing, _ALLOW, number, 0, None))
    _check(seccomp.seccomp_load(denying))
    _check(seccomp.seccomp_load(allowing))


def _check(status: int) -> None:
    if status < 0:
        raise OSError(-status, os.strerror(-status))


if __name__ == "__main__":
    enter(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
