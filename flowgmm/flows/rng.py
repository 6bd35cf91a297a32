"""Random numbers for a stack of seeds: member s depends on seed s alone, never on others.

The numbers of a step depend on (seed, step) and on nothing that came before it: a run resumes bit
for bit without storing the state of any generator.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["CounterStream", "Stream", "make_stream"]


# Odd multipliers of splitmix64 and of the golden ratio.
_GOLDEN, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def _mix(seed: int, step: int) -> int:
    """Spread neighbouring (seed, step) pairs over 64 bits (the finaliser of splitmix64)."""
    z = (seed * _GOLDEN + step * 0xD1B54A32D192ED03 + 0x632BE59BD9B4E019) % 2**64
    z = ((z ^ (z >> 30)) * _FIRST) % 2**64
    z = ((z ^ (z >> 27)) * _SECOND) % 2**64
    return z ^ (z >> 31)


class Stream:
    """One generator per seed of the stack, on the CPU, seeded anew at every step.

    Arguments:
        seeds: S integers, one per member of the stack.

    Examples:
        >>> stream = Stream([3, 4])
        >>> stream.at(7).uniform((2,)).shape
        torch.Size([2, 2])
    """

    device = torch.device("cpu")

    def __init__(self, seeds: Sequence[int]):
        self.seeds = tuple(int(seed) for seed in seeds)
        self._generators = [torch.Generator() for _ in self.seeds]
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
        out = torch.empty(len(self.seeds), *shape, dtype=dtype)
        return self._fill(out, "uniform_")

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers, shape (S, *shape)."""
        out = torch.empty(len(self.seeds), *shape, dtype=dtype)
        return self._fill(out, "normal_")

    def integers(self, high: int, n: int) -> Tensor:
        """Integers in [0, high), shape (S, n)."""
        out = torch.empty(len(self.seeds), n, dtype=torch.int64)
        return self._fill(out, "random_", **{"from": 0, "to": high})

    def permutation(self, n: int) -> Tensor:
        """One permutation of 0..n-1 per seed, shape (S, n)."""
        rows = [torch.randperm(n, generator=g) for g in self._generators]
        return torch.stack(rows)

    def dropout_masks(
        self, n: int, shape: Sequence[int], p: float, dtype: torch.dtype
    ) -> Sequence[Tensor]:
        """`dropout_mask` n times."""
        return [self.dropout_mask(shape, p, dtype) for _ in range(n)]

    def dropout_mask(
        self, shape: Sequence[int], p: float, dtype: torch.dtype = torch.int16
    ) -> Tensor:
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
        words = torch.empty(len(self.seeds), -(-n // per_word), dtype=torch.int64)
        return self._fill(words, "random_", **{"from": -(2**63), "to": None})


def _signed(word: int) -> int:
    """The same 64 bits as an integer that int64 holds."""
    return word - 2**64 if word >= 2**63 else word


def _shifted(words: Tensor, n: int) -> Tensor:
    """Shift bits right by n and fill with zeros: int64 alone would repeat the sign."""
    return (words >> n) & (2 ** (64 - n) - 1)


def _mixed(words: Tensor) -> Tensor:
    """`_mix`'s last two lines for a tensor of words."""
    words = (words ^ _shifted(words, 30)) * _signed(_FIRST)
    words = (words ^ _shifted(words, 27)) * _signed(_SECOND)
    return words ^ _shifted(words, 31)


class CounterStream(Stream):
    """A stream whose numbers are a hash of (seed, step, draw, index), made by tensor operations.

    A CUDA graph replays operations, not Python: no generator could be seeded anew within one. Here
    a key of seed and step lies in the device's memory, and all seeds draw at once. On a CPU
    generators are faster.

    Arguments:
        seeds: S integers, one per member of the stack.
        device: Where the numbers are drawn.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device | str = "cpu"):
        self.seeds = tuple(int(seed) for seed in seeds)
        self.device = torch.device(device)
        self._keys = torch.zeros(len(self.seeds), 1, dtype=torch.int64, device=self.device)
        # A tensor: a compiler would take such a number for an index of 32 bits.
        self._golden = torch.tensor(_signed(_GOLDEN), device=self.device)
        self._n_draws = 0
        self.at(0)

    def at(self, step: int) -> "CounterStream":
        """Go to the start of the numbers of `step`; returns itself. Not part of a graph."""
        keys = torch.tensor([[_signed(_mix(seed, step))] for seed in self.seeds])
        self._keys.copy_(keys, non_blocking=True)
        self._n_draws = 0
        return self

    def _words(self, n: int, per_word: int) -> Tensor:
        """Random 64-bit words with room for n numbers, `per_word` in each, shape (S, n_words)."""
        # Draws are further from each other than any two indices of one.
        first = self._n_draws * 2**40
        self._n_draws += 1
        positions = torch.arange(first, first - (-n // per_word), device=self.device)
        return _mixed(self._keys + positions * self._golden)

    def uniform(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniform numbers in [0, 1), shape (S, *shape)."""
        bits = 53 if dtype == torch.float64 else 24
        words = _shifted(self._words(math.prod(shape), 1), 64 - bits)
        return (words.to(dtype) * 2.0**-bits).reshape(len(self.seeds), *shape)

    def normal(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normal numbers, shape (S, *shape), by Box and Muller's transformation."""
        words = self._words(math.prod(shape), 1)
        radius, angle = (
            (half.to(dtype) + 0.5) * 2.0**-32 for half in (_shifted(words, 32), words & (2**32 - 1))
        )
        numbers = (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()
        return numbers.reshape(len(self.seeds), *shape)

    def integers(self, high: int, n: int) -> Tensor:
        """Integers in [0, high), shape (S, n); high is small beside 2**63."""
        return _shifted(self._words(n, 1), 1) % high

    def permutation(self, n: int) -> Tensor:
        """One permutation of 0..n-1 per seed, shape (S, n)."""
        return self._words(n, 1).argsort(dim=1)

    def dropout_masks(
        self, n: int, shape: Sequence[int], p: float, dtype: torch.dtype
    ) -> Sequence[Tensor]:
        """`dropout_mask` n times, in one draw."""
        return self.dropout_mask((n, *shape), p, dtype).unbind(1)


def make_stream(seeds: Sequence[int], device: torch.device) -> Stream:
    """The kind of stream that suits a device."""
    return Stream(seeds) if device.type == "cpu" else CounterStream(seeds, device)
