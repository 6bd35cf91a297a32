"""The precision that `auto` stands for, by what a device has."""

import pytest
import torch

from flowgmm.training.hardware import best_precision, find_precision, flush_denormals


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"cpu_name": "Intel Xeon Platinum 8481C", "avx512_bf16": True, "amx_bf16": True}, "bf16"),
        ({"cpu_name": "AMD EPYC 9B14", "avx512_bf16": True, "amx_bf16": False}, "bf16"),
        # Has the instruction, and multiplies at half the rate with it.
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, "fp32"),
        ({"cpu_name": "AMD EPYC 7B13", "avx512_bf16": False, "amx_bf16": False}, "fp32"),
        ({"architecture": "aarch64"}, "fp32"),
    ],
)
def test_a_processor_computes_in_what_it_multiplies_faster(known, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert best_precision("cpu") == find_precision("auto", "cpu") == expected


@pytest.mark.parametrize(("supported", "expected"), [(True, "bf16"), (False, "fp32")])
def test_a_gpu_computes_in_bf16_where_it_is_not_emulated(supported, expected, monkeypatch):
    def is_supported(including_emulation=True):
        return supported or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    assert find_precision("auto", "cuda") == expected


@pytest.mark.parametrize("name", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_precision_that_is_given_stays(name, device):
    assert find_precision(name, device) == name


def test_denormals_are_zero_within_the_block_alone():
    tiny = torch.tensor(1e-320, dtype=torch.float64)
    assert (tiny * 0.5).item() > 0
    with flush_denormals():
        assert (tiny * 0.5).item() == 0
        with flush_denormals():
            pass
        assert (tiny * 0.5).item() == 0
    assert (tiny * 0.5).item() > 0
