"""Whitened pixels: covariance, scale, saving."""

import numpy as np
import pytest

from flowgmm.flows.whitening import Whitening


def correlated(n=4000, shape=(2, 4, 4)):
    """Images whose pixels are mixtures of independent ones."""
    rng = np.random.default_rng(0)
    d = int(np.prod(shape))
    mixing = np.eye(d) + 0.3 * rng.normal(size=(d, d)) / np.sqrt(d)
    pixels = 0.5 + 0.1 * rng.normal(size=(n, d)) @ mixing
    return np.rint(255 * pixels.clip(0, 1)).astype(np.uint8).reshape(n, *shape)


@pytest.mark.parametrize("pool", [1, 2])
def test_zca_gives_uncorrelated_pixels_of_variance_1(pool):
    X = correlated()
    front = Whitening.fit(X, "zca", pool)
    white = front.modelled(X, np.float64).reshape(len(X), -1)
    assert front.pooled == (2, 4 // pool, 4 // pool)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.cov(white.T, ddof=0), np.eye(white.shape[1]), atol=0.02)
    # The nearest such map to the identity: it is symmetric.
    np.testing.assert_allclose(front.rotation, front.rotation.T, atol=1e-5)


def test_directions_that_hardly_vary_are_not_blown_up():
    """The covariance of what comes out is C (C + 1e-5)^-1; real images have such directions."""
    X = correlated()
    X[:, 1] = X[:, 0] + X[:, 1] // 128  # the second channel repeats the first
    p = X.reshape(len(X), -1) / 255
    covariance = np.cov(p.T, ddof=0)
    white = Whitening.fit(X, "zca").modelled(X, np.float64).reshape(len(X), -1)
    expected = covariance @ np.linalg.inv(covariance + 1e-5 * np.eye(len(covariance)))
    np.testing.assert_allclose(np.cov(white.T, ddof=0), expected, atol=2e-3)
    assert np.linalg.eigvalsh(expected)[0] < 0.6


def test_zca_is_of_the_images_it_was_fitted_to():
    X = correlated()
    front = Whitening.fit(X[:1000], "zca")
    np.testing.assert_array_equal(
        front.modelled(X, np.float32)[:1000], front.modelled(X[:1000], np.float32)
    )
    assert not np.allclose(front.rotation, Whitening.fit(X[1000:], "zca").rotation, atol=1e-3)


def test_per_image_removes_brightness_and_contrast():
    X = correlated(20)
    front = Whitening.fit(X, "per_image")
    white = front.modelled(X, np.float64)
    np.testing.assert_allclose(white.mean(axis=(1, 2, 3)), 0, atol=1e-12)
    np.testing.assert_allclose((white**2).mean(axis=(1, 2, 3)), 1)
    assert not front.modelled(np.full_like(X, 7), np.float32).any()


def test_plain_pixels_lie_between_minus_1_and_1():
    X = np.array([0, 51, 255, 0], np.uint8).reshape(1, 1, 2, 2)
    found = Whitening.fit(X, "none").modelled(X, np.float32)
    np.testing.assert_allclose(found.ravel(), [-1, -0.6, 1, -1], atol=1e-6)


@pytest.mark.parametrize("kind", ["none", "zca", "per_image"])
def test_floats_and_saving(kind):
    X = correlated(300)
    front = Whitening.fit(X, kind)
    expected = front.modelled(X, np.float32)
    np.testing.assert_array_equal(front.modelled(X / 255, np.float32), expected)
    again = Whitening.from_saved(front.header(), front.arrays())
    np.testing.assert_array_equal(again.modelled(X, np.float32), expected)


def test_unknown_kind():
    with pytest.raises(ValueError, match="unknown preprocess 'pca'; expected one of none, zca"):
        Whitening.fit(correlated(5), "pca")
