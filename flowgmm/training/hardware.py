"""Devices, and the precision of products that they have in hardware."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["best_device", "best_precision", "find_device", "find_precision", "flush_denormals"]


def best_device() -> str:
    """``cuda`` on a machine with a GPU, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def find_device(name: str) -> "torch.device":
    """Device of a name; `auto`: the GPU if there is one."""
    import torch

    return torch.device(best_device() if name == "auto" else name)


def find_precision(name: str, device: str) -> str:
    """Precision of a name on a type of device; `auto`: `best_precision`."""
    return best_precision(device) if name == "auto" else name


def best_precision(device: str) -> str:
    """``bf16`` where a type of device, ``cpu`` or ``cuda``, multiplies faster in it, else ``fp32``.

    A processor with AMX does, and AMD's with AVX-512. Intel's AVX-512 has the instruction, at half
    the rate of float32 (benchmarks/README.md, `train_step.py`).
    """
    import torch

    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    known = torch.cpu.get_capabilities()
    amd = str(known.get("cpu_name")).startswith("AMD")
    fast = known.get("amx_bf16") or (amd and known.get("avx512_bf16"))
    return "bf16" if fast else "fp32"


@contextlib.contextmanager
def flush_denormals() -> Iterator[None]:
    """Take denormal numbers, below about 1e-38, for zero on the CPU within the block.

    After some thousand steps moments and products of a training become denormal, and processors
    that compute with them in microcode are ten times slower then (benchmarks/README.md). Threads
    that were started before keep their setting.
    """
    import torch

    were_flushed = float(torch.tensor(1e-323, dtype=torch.float64) * 1) == 0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were_flushed)
