"""Number of threads of numerical libraries."""

import contextlib
from collections.abc import Iterator

__all__ = ["one_thread"]


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Let BLAS, OpenMP and PyTorch compute on one thread inside the block.

    For small models: their threads wait for each other at every step, which gains little on a quiet
    machine and on a busy one takes up to fifty times as long. Results do not depend on the
    number of cores then.
    """
    import torch
    from threadpoolctl import threadpool_limits

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(n_threads)
