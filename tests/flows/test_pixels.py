"""Pixels in and out: pooling, augmentation, dequantisation."""

import numpy as np
import pytest
import torch

from flowgmm.flows.pixels import Pixels, crop_and_flip, dequantise, distort
from flowgmm.flows.rng import Stream


def pixels(n=5, shape=(3, 4, 6)):
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


@pytest.mark.parametrize("pool", [1, 2])
def test_pooling_is_the_mean_of_blocks(pool):
    X = pixels()
    front = Pixels.fit(X, pool)
    lead = front.modelled(X)
    assert lead.dtype == np.uint8
    assert lead.shape[1:] == front.pooled == (3, 4 // pool, 6 // pool)
    assert front.n_modelled == front.n_out == lead[0].size
    block = X[1, 2, pool : 2 * pool, :pool].astype(float)
    assert lead[1, 2, 1, 0] == np.rint(block.mean())
    np.testing.assert_array_equal(front.modelled(X / 255), lead)
    # Images that come out of a model go in again.
    np.testing.assert_array_equal(front.modelled(lead), lead)
    np.testing.assert_array_equal(front.modelled(lead / 255), lead)


def test_density_of_an_image_counts_its_levels():
    assert Pixels((1, 2, 2)).log_det == pytest.approx(-4 * np.log(256))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X.astype(float), "got float64 in .*divide by 255"),
        (lambda X: X / 255 - 1.1, "images are uint8 in 0..255 or floats"),
        (lambda X: np.full(X.shape, np.nan), "images are uint8 in 0..255 or floats"),
        (lambda X: X[:, :1], r"images of shape \(1, 4, 6\), but the model was fitted to"),
    ],
)
def test_bad_images(change, message):
    X = pixels()
    with pytest.raises(ValueError, match=message):
        Pixels.fit(X, 1).modelled(change(X))


@pytest.mark.parametrize("pool", [0, 3, 5])
def test_pool_must_divide(pool):
    with pytest.raises(ValueError, match="does not divide images of 4 x 6 pixels"):
        Pixels.fit(pixels(), pool)


def test_dequantised_pixels_lie_in_their_level():
    x = torch.arange(256)
    for noise in (0.0, 0.5, 0.999):
        assert torch.equal((dequantise(x, noise) * 256).floor().long(), x)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize(("padding", "flip"), [(0, False), (0, True), (2, False), (1, True)])
def test_every_image_is_some_crop_of_its_padded_self(padding, flip, mode):
    """Against every crop there is, by brute force; all shifts and mirrors come up."""
    x = torch.as_tensor(pixels(80, (2, 3, 5))).view(2, 40, 2, 3, 5)
    out = crop_and_flip(x, padding, flip, Stream([1, 2]), mode)
    assert out.shape == x.shape
    assert out.dtype == x.dtype
    seen = set()
    for image, found in zip(x.flatten(0, 1), out.flatten(0, 1), strict=True):
        around = ((0, 0), (padding, padding), (padding, padding))
        padded = np.pad(image.numpy(), around, "reflect" if mode == "reflect" else "constant")
        padded = torch.as_tensor(padded)
        views = {
            (i, j, mirrored): view.flip(-1) if mirrored else view
            for i in range(2 * padding + 1)
            for j in range(2 * padding + 1)
            for mirrored in ((False, True) if flip else (False,))
            for view in [padded[:, i : i + 3, j : j + 5]]
        }
        matches = [key for key, view in views.items() if torch.equal(view, found)]
        assert matches
        seen.update(matches)
    assert {key[0] for key in seen} == set(range(2 * padding + 1))
    assert {key[2] for key in seen} == ({False, True} if flip else {False})


def test_augmentation_belongs_to_its_seed():
    x = torch.as_tensor(pixels(6, (1, 4, 4))).view(1, 6, 1, 4, 4)
    both = crop_and_flip(x.expand(2, -1, -1, -1, -1), 2, True, Stream([1, 2]))
    assert torch.equal(both[1:], crop_and_flip(x, 2, True, Stream([2])))
    assert not torch.equal(both[0], both[1])


def test_distortion_moves_points_by_a_linear_map():
    """A spot's displacement is at most `largest` times its distance from the centre, in L1."""
    x = torch.zeros(2, 50, 1, 21, 21, dtype=torch.uint8)
    x[..., 10, 15] = 255  # five pixels beside the centre
    out = distort(x, 0.2, Stream([1, 2]))
    assert out.shape == x.shape
    assert 0 <= out.min() < out.max() <= 255
    total = out.sum((-2, -1))
    position = torch.arange(21.0) - 10
    row = (out.sum(-1) * position).sum(-1) / total
    column = (out.sum(-2) * position).sum(-1) / total
    assert (row.abs() <= 5 * 0.2 / 0.6 + 0.2).all()
    assert (column >= 5 / 1.2 - 0.3).all()
    assert (column <= 5 / 0.8 + 1.0).all()
    assert row.std() > 0.3
    assert column.std() > 0.2


def test_no_distortion_leaves_an_image():
    x = torch.from_numpy(pixels()[None, :, :1])
    assert torch.allclose(distort(x, 0.0, Stream([1])), x.float(), atol=0.01)


def test_distortion_belongs_to_its_seed():
    x = torch.from_numpy(pixels()[None])
    both = distort(x.expand(2, -1, -1, -1, -1), 0.3, Stream([1, 2]))
    assert torch.equal(both[1:], distort(x, 0.3, Stream([2])))
    assert not torch.equal(both[0], both[1])


def test_unknown_mode():
    x = torch.zeros(1, 1, 1, 4, 4)
    with pytest.raises(ValueError, match="unknown mode 'wrap'; expected zeros or reflect"):
        crop_and_flip(x, 1, False, Stream([1]), mode="wrap")
