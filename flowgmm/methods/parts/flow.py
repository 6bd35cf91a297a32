"""Flow of an estimator: of vectors, or of images."""

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar

from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from flowgmm.methods.parts.part import COUNT, NOT_NEGATIVE, SHARE_BELOW_1, WHOLE, Part

__all__ = ["MultiscaleRealNVP", "RealNVP"]

# The noise of sqrt(D / L) grows without bound where labels are few (docs/recipes.md).
MOST_NOISE = 0.7


class RealNVP(Part):
    """Coupling flow for vectors, shape (N, D).

    Arguments:
        n_couplings: Affine couplings.
        hidden_size: Width of the conditioners.
        n_inner: Hidden layers of that width beyond the first (D3).
        dropout: In the conditioners, after the first hidden layer (D4).
        zero_init: The couplings start as the identity (official: no).
        input_noise: Standard deviation of Gaussian noise added to preprocessed inputs in training;
            `auto`: sqrt(D / L) of D modelled features and L labelled points, at most 0.7.
        noise_until: Share of the steps after which the noise has fallen, linearly, to 0; None: it
            stays. Learns the coarse shape of the data first.

    Source: Izmailov et al. (2020), sections 4 and 5.1; spec 1.2.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_couplings": COUNT,
        "hidden_size": COUNT,
        "n_inner": WHOLE,
        "dropout": SHARE_BELOW_1,
        "zero_init": ["boolean"],
        "input_noise": [*NOT_NEGATIVE, StrOptions({"auto"})],
        "noise_until": [Interval(Real, 0, 1, closed="right"), None],
    }

    def __init__(
        self,
        n_couplings: int = 4,
        hidden_size: int = 64,
        n_inner: int = 1,
        dropout: float = 0.2,
        zero_init: bool = True,
        input_noise: float | str = "auto",
        noise_until: float | None = None,
    ):
        self.n_couplings = n_couplings
        self.hidden_size = hidden_size
        self.n_inner = n_inner
        self.dropout = dropout
        self.zero_init = zero_init
        self.input_noise = input_noise
        self.noise_until = noise_until

    def resolved(self, shape: Sequence[int], n_labelled: int) -> "RealNVP":
        """The part, checked, with a number for `auto`.

        Arguments:
            shape: Modelled features, (D,).
            n_labelled: Labelled points L.
        """
        if self.checked().input_noise != "auto":
            return self
        noise = min(MOST_NOISE, math.sqrt(shape[0] / n_labelled))
        return clone(self).set_params(input_noise=noise)


class MultiscaleRealNVP(Part):
    """Multi-scale coupling flow for images, shape (N, C, H, W).

    Arguments:
        architecture: `multi_scale`, `mnist_small` or `squeezed`; see `flowgmm.flows.multiscale`.
            `auto`: `squeezed` for images whose sides, after pooling, are multiples of 4, else
            `multi_scale`.
        n_filters, n_blocks: Channels m and residual blocks B of a conditioner.
        zero_init: The couplings start as the identity (official: no).
        pool: Average over blocks of pool x pixels first, for scaled-down runs. Images that come out
            of the model are of the smaller size.
        crop_padding: Largest random shift in training, pixels after pooling.
        flip: Mirror half of the images at random in training.
        distortion: Largest entry of the random linear map, less the identity, that turns, stretches
            and shears each image in training; the view that guesses are made on goes without. 0:
            none (the paper).

    Source: Izmailov et al. (2020), section 6; spec 1.3.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "architecture": [StrOptions({"auto", "multi_scale", "mnist_small", "squeezed"})],
        "n_filters": COUNT,
        "n_blocks": WHOLE,
        "zero_init": ["boolean"],
        "pool": COUNT,
        "crop_padding": WHOLE,
        "flip": ["boolean"],
        "distortion": SHARE_BELOW_1,
    }

    def __init__(
        self,
        architecture: str = "multi_scale",
        n_filters: int = 64,
        n_blocks: int = 8,
        zero_init: bool = True,
        pool: int = 1,
        crop_padding: int = 4,
        flip: bool = False,
        distortion: float = 0.0,
    ):
        self.architecture = architecture
        self.n_filters = n_filters
        self.n_blocks = n_blocks
        self.zero_init = zero_init
        self.pool = pool
        self.crop_padding = crop_padding
        self.flip = flip
        self.distortion = distortion

    def resolved(self, shape: Sequence[int], n_labelled: int) -> "MultiscaleRealNVP":
        """The part, checked, with a name for `auto`.

        Arguments:
            shape: Of an image, (C, H, W).
            n_labelled: Labelled images L; nothing depends on them.
        """
        if self.checked().architecture != "auto":
            return self
        fits = all(side % (4 * self.pool) == 0 for side in shape[1:])
        return clone(self).set_params(architecture="squeezed" if fits else "multi_scale")
