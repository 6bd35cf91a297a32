"""Random numbers for a stack of seeds: slice s depends on seed s alone, never on its neighbours.

A stream is re-seeded from (seed, step) at every step. So what a step draws depends on nothing that
came before it: a run resumes bit for bit without storing the state of any generator.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Stream"]


def _mix(seed: int, step: int) -> int:
    """Spread neighbouring (seed, step) pairs over 64 bits (the finaliser of splitmix64)."""
    z = (seed * 0x9E3779B97F4A7C15 + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


class Stream:
    """One generator per seed of the stack.

    Arguments:
        seeds: S integers, one per slice of the stack.
        device: Where the numbers are drawn.

    Example:
        >>> stream = Stream([3, 4])
        >>> stream.at(7).uniform((2,)).shape
        torch.Size([2, 2])
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu"):
        self.seeds = tuple(int(seed) for seed in seeds)
        self.device = torch.device(device)
        self._generators = [torch.Generator(self.device) for _ in self.seeds]
        self.at(0)

    def at(self, step: int) -> "Stream":
        """Go to the start of the numbers of `step`; returns itself."""
        for generator, seed in zip(self._generators, self.seeds, strict=True):
            # The CPU generator takes 32 bits of the seed, so the mixed bits are folded to 32.
            generator.manual_seed(_mix(seed, step) >> 32)
        return self

    def _fill(self, out: Tensor, draw: str, **options: float | None) -> Tensor:
        for part, generator in zip(out, self._generators, strict=True):
            getattr(part, draw)(**options, generator=generator)
        return out

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in [0, 1), shape (S, *shape)."""
        out = torch.empty(len(self.seeds), *shape, dtype=dtype, device=self.device)
        return self._fill(out, "uniform_")

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers, shape (S, *shape)."""
        out = torch.empty(len(self.seeds), *shape, dtype=dtype, device=self.device)
        return self._fill(out, "normal_")

    def integers(self, high: int, n: int) -> Tensor:
        """Integers in [0, high), shape (S, n)."""
        out = torch.empty(len(self.seeds), n, dtype=torch.int64, device=self.device)
        return self._fill(out, "random_", **{"from": 0, "to": high})

    def permutation(self, n: int) -> Tensor:
        """One permutation of 0..n-1 per seed, shape (S, n)."""
        rows = [torch.randperm(n, generator=g, device=self.device) for g in self._generators]
        return torch.stack(rows)

    def kept(self, shape: Sequence[int], p: float, dtype: torch.dtype = torch.int16) -> Tensor:
        """0 with probability p (to the nearest 2**-16), else -1; integers, shape (S, *shape).

        -1 has all bits set, so `bitwise_and` of a number's bits with it keeps the number. `dtype`
        is the integer as wide as those numbers; which are kept does not depend on it. On a CPU
        comparisons that return booleans, filling by a boolean mask and products of two types are
        all slow, and `Tensor.bernoulli_` costs as much as the small models themselves.
        """
        size = math.prod(shape)
        if p == 0.5:  # a bit decides: an eighth of the random numbers
            n_words = -(-size // 16)
            words = self._words(n_words, 4).view(torch.int16)[:, None, :n_words]
            width = torch.iinfo(dtype).bits
            left = torch.arange(width - 16, width, dtype=dtype, device=self.device)
            # Bit k of the words, carried to the sign and from there to all bits.
            kept = (words.to(dtype) << left[:, None]).bitwise_right_shift_(width - 1)
            return kept.flatten(1)[:, :size].reshape(len(self.seeds), *shape)
        coarse = (p * 256).is_integer()
        narrow, bits, per_word = (torch.int8, 8, 8) if coarse else (torch.int16, 16, 4)
        drawn = self._words(size, per_word).view(narrow)[:, :size]
        drawn = drawn.reshape(len(self.seeds), *shape)
        threshold = round(p * 2**bits) - 2 ** (bits - 1)
        if threshold == 2 ** (bits - 1):  # p rounds to 1: beyond the largest integer of the type
            return drawn.zero_().to(dtype)
        return drawn.ge_(threshold).neg_().to(dtype)

    def _words(self, n: int, per_word: int) -> Tensor:
        """Random 64-bit words with room for n numbers, `per_word` in each, shape (S, n_words)."""
        words = torch.empty(
            len(self.seeds), -(-n // per_word), dtype=torch.int64, device=self.device
        )
        return self._fill(words, "random_", **{"from": -(2**63), "to": None})
