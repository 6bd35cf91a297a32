"""The latent mixture: against torch's full-covariance Gaussians, and every placement of means."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from flowgmm.flows.mixture import DATA_MEANS, FIXED_MEANS, MEANS, StackedMixture, fixed_means
from flowgmm.flows.rng import Stream

SEEDS = (0, 1, 2)


def make_mixture(n_classes=3, n_features=16, **options):
    means = fixed_means("random", n_classes, n_features, 1.5, Stream(SEEDS)).double()
    return StackedMixture(means, **options)


def test_equals_full_covariance_gaussians():
    mixture = make_mixture(std=1.3133, weights=[1.0, 2.0, 3.0], learn_std=True)
    with torch.no_grad():
        mixture.rho += Stream(SEEDS).normal((3,), torch.float64)
    z = 2 * Stream(SEEDS).at(5).normal((20, 16), torch.float64)
    weights = torch.tensor([1.0, 2.0, 3.0]).double() / 6
    for s in range(3):
        dense = torch.stack(
            [
                MultivariateNormal(
                    mixture.means[s, k], mixture.std[s, k] ** 2 * torch.eye(16).double()
                ).log_prob(z[s])
                for k in range(3)
            ],
            dim=1,
        )
        joint = dense + weights.log()
        assert (mixture.component_log_prob(z)[s] - dense).abs().max() <= 1e-10
        assert (mixture.log_joint(z)[s] - joint).abs().max() <= 1e-7  # the weights are float32
        assert (mixture.log_prob(z)[s] - joint.logsumexp(1)).abs().max() <= 1e-7
        assert (mixture.log_posterior(z)[s] - joint.log_softmax(1)).abs().max() <= 1e-7


@pytest.mark.parametrize("n_features", [2, 768])
def test_float32_is_close_enough_for_training(n_features):
    mixture = make_mixture(n_features=n_features)
    z = 3 * Stream(SEEDS).at(5).normal((50, n_features), torch.float64)
    exact = mixture.component_log_prob(z)
    rounded = mixture.float().component_log_prob(z.float())
    assert torch.allclose(rounded.double(), exact, rtol=1e-5, atol=1e-4)


def test_a_point_on_its_mean_has_the_largest_density():
    mixture = make_mixture(std=0.7)
    density = mixture.component_log_prob(mixture.means)
    peak = -16 * (math.log(0.7) + 0.5 * math.log(2 * math.pi))
    assert torch.allclose(density.diagonal(dim1=1, dim2=2), torch.tensor(peak).double())
    assert torch.equal(mixture.log_posterior(mixture.means).argmax(-1)[0], torch.arange(3))


@pytest.mark.parametrize("learn", ["means", "std", "weights"])
def test_only_what_is_to_be_learnt_is_a_parameter(learn):
    mixture = make_mixture(**{f"learn_{learn}": True})
    (name, parameter), *others = mixture.named_parameters()
    assert not others
    assert name == {"means": "means", "std": "rho", "weights": "logits"}[learn]
    mixture.log_prob(Stream(SEEDS).normal((9, 16), torch.float64)).sum().backward()
    assert parameter.grad.abs().sum() > 0
    assert not list(make_mixture().parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"std": 0.0}, "std must be positive, got 0.0"),
        ({"std": float("nan")}, "std must be positive, got nan"),
        ({"weights": [0.5, 0.5]}, "class_weights must be 3 positive numbers"),
        ({"weights": [0.5, 0.5, 0.0]}, "class_weights must be 3 positive numbers"),
    ],
)
def test_impossible_mixtures(options, message):
    with pytest.raises(ValueError, match=message):
        make_mixture(**options)


# -- placements ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FIXED_MEANS)
def test_every_placement(kind):
    n_classes = 2 if kind in ("random_pm", "diag") else 4
    means = fixed_means(kind, n_classes, 10, 2.0, Stream(SEEDS))
    assert means.shape == (3, n_classes, 10)
    assert means.isfinite().all()
    # No two classes share a mean, the seeds differ where chance decides, and scale is a factor.
    apart = torch.cdist(means, means) + torch.eye(n_classes)
    assert apart.min() > 0
    assert torch.equal(means[0], means[1]) == (not kind.startswith("random"))
    assert torch.allclose(means, 2 * fixed_means(kind, n_classes, 10, 1.0, Stream(SEEDS)))


def test_random_means_have_the_distance_of_the_spec():
    means = fixed_means("random", 4, 768, 1.0, Stream(range(20)))
    apart = torch.cdist(means, means)[:, *torch.triu_indices(4, 4, 1)]
    assert apart.mean() == pytest.approx(math.sqrt(2 * 768), rel=0.02)


def test_random_pm_means_are_opposite():
    means = fixed_means("random_pm", 2, 43, 3.75, Stream(SEEDS))
    assert torch.equal(means[:, 0], -means[:, 1])
    assert torch.allclose((means[:, 0] - means[:, 1]).norm(dim=-1), torch.tensor(7.5))


def test_circle_means():
    means = fixed_means("circle", 3, 4, 2.0, Stream(SEEDS))
    assert torch.allclose(means.norm(dim=-1), torch.tensor(2.0))
    assert torch.allclose(means[0, 0], torch.tensor([2.0, 0, 0, 0]))
    apart = torch.cdist(means, means)[:, *torch.triu_indices(3, 3, 1)]
    assert torch.allclose(apart, torch.tensor(2 * math.sqrt(3.0)))


def test_fixed_placements():
    assert fixed_means("diag", 2, 2, 3.5, Stream([0])).tolist() == [[[-3.5, -3.5], [3.5, 3.5]]]
    constant = fixed_means("pixel_const", 10, 3, 0.5, Stream([0]))
    assert constant[0, :, 0].tolist() == [0.5 * (k - 4) for k in range(10)]
    assert (constant == constant[..., :1]).all()
    split = fixed_means("split_dims", 2, 5, 1.0, Stream([0]))
    assert split.tolist() == [[[1, 1, 0, 0, 0], [0, 0, 1, 1, 0]]]
    axes = fixed_means("axes", 2, 4, 3.0, Stream([0]))
    assert axes.tolist() == [[[3, 0, 0, 0], [0, 3, 0, 0]]]


@pytest.mark.parametrize(
    ("kind", "n_classes", "n_features", "message"),
    [
        ("random_pm", 3, 5, "means='random_pm' is for 2 classes, got 3; use means='random'"),
        ("diag", 3, 5, "means='diag' is for 2 classes, got 3; use means='random'"),
        ("split_dims", 6, 5, "as many features as classes, got 5 features and 6 classes"),
        ("axes", 6, 5, "as many features as classes, got 5 features and 6 classes"),
        ("cirlce", 3, 5, "unknown means 'cirlce'; expected one of random, "),
    ],
)
def test_impossible_placements(kind, n_classes, n_features, message):
    with pytest.raises(ValueError, match=message):
        fixed_means(kind, n_classes, n_features, 1.0, Stream(SEEDS))


def test_the_list_of_placements():
    assert MEANS == FIXED_MEANS + DATA_MEANS
    assert len(set(MEANS)) == len(MEANS)
