"""Random numbers of a stack: each seed's own, a function of (seed, step), with the right law."""

import pytest
import torch

from flowgmm.flows.rng import CounterStream, Stream


@pytest.fixture(params=[Stream, CounterStream])
def make(request):
    return request.param


DRAWS = {
    "uniform": lambda stream: stream.uniform((3, 4)),
    "normal": lambda stream: stream.normal((3, 4)),
    "integers": lambda stream: stream.integers(1000, 12),
    "permutation": lambda stream: stream.permutation(40),
    "kept": lambda stream: stream.dropout_mask((5, 13), 0.5),
    "kept_fine": lambda stream: stream.dropout_mask((5, 13), 0.3),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_seed_never_depends_on_its_neighbours(draw, make):
    stack = draw(make([5, 8, 2**31]).at(3))
    assert stack.shape[0] == 3
    for s, seed in enumerate((5, 8, 2**31)):
        assert torch.equal(stack[s], draw(make([seed]).at(3))[0])
    assert not torch.equal(stack[0], stack[1])


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_step_never_depends_on_what_came_before(draw, make):
    stream = make([5])
    expected = draw(stream.at(7))
    draw(stream)
    assert not torch.equal(draw(stream.at(8)), expected)
    assert torch.equal(draw(stream.at(7)), expected)


def test_neighbouring_seeds_and_steps_do_not_meet(make):
    """Seed 1 at step 2 is not seed 2 at step 1, nor any other of a block of pairs."""
    first = {
        make([seed]).at(step).integers(2**62, 1).item() for seed in range(30) for step in range(30)
    }
    assert len(first) == 900


def test_the_laws(make):
    stream = make([1, 2])
    uniform = stream.at(0).uniform((20_000,), torch.float64)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert torch.allclose(uniform.mean(1), torch.tensor(0.5).double(), atol=0.01)
    normal = stream.at(1).normal((20_000,), torch.float64)
    assert torch.allclose(normal.std(1), torch.tensor(1.0).double(), atol=0.02)
    assert torch.equal(stream.at(2).permutation(50).sort().values[1], torch.arange(50))
    assert set(stream.at(3).integers(3, 100).unique().tolist()) == {0, 1, 2}
    # The two seeds' numbers are uncorrelated.
    assert torch.corrcoef(normal)[0, 1].abs() < 0.03


@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.5, 0.7, 0.999])
def test_dropout_rate(p, make):
    kept = make([1, 2, 3]).at(4).dropout_mask((100, 1000), p)
    assert set(kept.unique().tolist()) <= {0, -1}
    for dtype in (torch.int32, torch.int64):
        assert torch.equal(
            make([1, 2, 3]).at(4).dropout_mask((100, 1000), p, dtype), kept.to(dtype)
        )
    drawn = 1 + kept.double()
    tolerance = 5 * (p * (1 - p) / 1e5) ** 0.5 + 2**-16
    assert ((drawn.mean((1, 2)) - p).abs() <= tolerance).all()
    # Independent over places and over seeds: chance agreement alone.
    if 0 < p < 1:
        chance = p**2 + (1 - p) ** 2
        agreement = 5 * (chance * (1 - chance) / 1e5) ** 0.5 + 2**-15
        assert abs((drawn[0] == drawn[1]).double().mean() - chance) <= agreement
        assert abs((drawn[0, 1:] == drawn[0, :-1]).double().mean() - chance) <= 1.01 * agreement


def test_dropping_all_but_nothing(make):
    assert not make([1]).dropout_mask((3, 5), 1 - 1e-7).any()
    assert make([1]).dropout_mask((3, 5), 0.0).all()


def test_normal_numbers_in_single_precision_have_tails(make):
    """One in 15,000 is beyond 4 standard deviations."""
    normal = make([1, 2]).at(0).normal((1_000_000,))
    assert torch.isfinite(normal).all()
    beyond = (normal.abs() > 4).double().mean(1)
    assert ((beyond > 4e-5) & (beyond < 9e-5)).all()


def test_draws_of_a_step_differ(make):
    stream = make([1]).at(5)
    assert not torch.equal(stream.uniform((10,)), stream.uniform((10,)))


def test_a_counters_words_have_no_favourite_bit():
    """Each of the 64, over places, over draws, over steps and over seeds, is as often 0 as 1."""
    streams = CounterStream(range(50))
    words = torch.stack([streams.at(step)._words(400, 1) for step in range(50)])
    for bit in range(64):
        bits = ((words >> bit) & 1).double()
        assert abs(bits.mean() - 0.5) < 5 * 0.5 / 1e6**0.5
        for dim in range(3):
            assert (bits.mean(dim) - 0.5).abs().max() < 6 * 0.5 / words.shape[dim] ** 0.5
    assert len(words.unique()) == words.numel()
