"""One thread inside the block, as many as before behind it."""

import pytest
import torch
from threadpoolctl import threadpool_info

from flowgmm.utils.threads import one_thread


def _fail():
    with one_thread():
        raise ZeroDivisionError


def test_threads_are_one_inside_and_as_before_behind():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
            assert {pool["num_threads"] for pool in threadpool_info()} == {1}
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            _fail()
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
