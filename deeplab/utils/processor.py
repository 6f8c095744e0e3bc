"""Describes the processor as far as it affects speed and rounding: its architecture and vector instructions.

Owns one question: sums of products of 8-bit integers may saturate on processors without VNNI, so an int8 file that was
checked on one processor may predict something else on another. Reports of exports and benchmarks say where they ran.
"""

from __future__ import annotations

import pathlib
import platform

_CPUINFO = pathlib.Path("/proc/cpuinfo")
_KNOWN = (  # as Linux spells them
    *("sse4_2", "avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),
)


def instructions() -> tuple[str, ...]:
    """Return the known vector instructions of this processor; empty where the system does not tell."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    words = next(
        (set(line.split(":", 1)[-1].split()) for line in lines if line.startswith(("flags", "Features"))), set()
    )
    return tuple(name for name in _KNOWN if name in words)


def describe() -> str:
    """Return architecture and instructions: `x86_64: avx2, fma`."""
    found = ", ".join(instructions())
    return f"{platform.machine()}: {found}" if found else platform.machine()
