"""Devices, and the precision of products that they have in hardware."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["best_device", "best_precision", "find_device"]


def best_device() -> str:
    """``cuda`` on a machine with a GPU, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def find_device(name: str) -> "torch.device":
    """Device of a name; `auto`: the GPU if there is one."""
    import torch

    return torch.device(best_device() if name == "auto" else name)


def best_precision(device: str) -> str:
    """``bf16`` where the type of device, ``cpu`` or ``cuda``, computes with it, else ``fp32``."""
    import torch

    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    known = torch.cpu.get_capabilities()
    return "bf16" if known.get("avx512_bf16") or known.get("amx_bf16") else "fp32"
