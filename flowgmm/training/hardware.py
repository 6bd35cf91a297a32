"""Devices, and the precision of products that they have in hardware."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["best_device", "best_precision", "find_device", "find_precision"]


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
