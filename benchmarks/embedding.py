"""Images per second of the image encoder, beside the machine's own rate of convolutions.

All settings encode the same few images in turn, again and again, so that whatever else the machine
does falls on all of them; a plain convolution in the same precision is timed after each. No image
is read from a file and no vector written: what is timed is resizing, normalising and the network.

    python benchmarks/embedding.py --threads 2 --json benchmarks/embedding.json
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode
from train_step import machine

from flowgmm.embed.image import _Encoder, _Options, _weights
from flowgmm.utils.io import write_json

# Rounds before the first that counts.
WARM_UP = 2


def make_convolution(dtype: torch.dtype) -> tuple[Callable[[], Any], int]:
    """A 3 x 3 convolution of 128 channels on 16 maps of 28 x 28, and its operations."""
    size, channels, batch = 28, 128, 16
    x = torch.randn(batch, channels, size, size).to(dtype, memory_format=torch.channels_last)
    convolution = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    convolution = convolution.to(dtype).to(memory_format=torch.channels_last)
    return lambda: convolution(x), 2 * batch * size**2 * 9 * channels**2


@torch.inference_mode()
def measure(
    encoder: str, settings: dict[str, dict[str, Any]], n_images: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """Rates of each setting, and the share of the convolution's."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n_images, 3, 32, 32), np.uint8)
    items = np.arange(n_images)
    with tempfile.TemporaryDirectory() as cache:
        architecture, path = _weights(encoder, Path(cache), None)
        encoders = {
            name: _Encoder(images, architecture, path, _Options(**options, device="cpu"))
            for name, options in settings.items()
        }
    operations = {}
    for name, encode in encoders.items():
        with FlopCounterMode(display=False) as counter:
            encode(items[:1])
        operations[name] = counter.get_total_flops()
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in settings}
    for _ in range(WARM_UP + rounds):
        for name, options in settings.items():
            dtype = torch.bfloat16 if options["precision"] == "bf16" else torch.float32
            convolution, _ = make_convolution(dtype)
            convolution()
            start = time.perf_counter()
            encoders[name](items)
            middle = time.perf_counter()
            convolution()
            seconds[name].append((middle - start, time.perf_counter() - middle))
    results = {}
    for name, options in settings.items():
        own, reference = np.array(seconds[name][WARM_UP:]).T
        rate = n_images / own
        machine_rate = make_convolution(torch.float32)[1] / reference
        results[name] = options | {
            "flop_per_image": operations[name],
            "images_per_second": quartiles(rate),
            "convolution_gflops": quartiles(machine_rate / 1e9),
            "share_of_convolution_rate": quartiles(operations[name] * rate / machine_rate),
        }
    return results


def quartiles(values: np.ndarray) -> dict[str, float]:
    """Median and quartiles."""
    found = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return dict(zip(("q25", "median", "q75"), found, strict=True))


def main() -> None:
    """Measure all settings; print a line each; write everything to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[224, 160, 128])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--layouts", nargs="+", default=["last", "first"], help="of the channels")
    parser.add_argument("--batches", type=int, nargs="+", default=[16])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", help="file for the results")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    settings = {
        f"{side} {precision} channels {layout} batch {batch}": {
            "resolution": side,
            "precision": precision,
            "channels_last": layout == "last",
            "batch_images": batch,
        }
        for side, precision, layout, batch in itertools.product(
            args.resolutions, args.precisions, args.layouts, args.batches
        )
    }
    before = machine(args.threads)
    results = measure(args.encoder, settings, args.images, args.rounds)
    for name, found in results.items():
        rate, share = found["images_per_second"], found["share_of_convolution_rate"]["median"]
        print(
            f"{name}: {rate['median']:.1f} images/s ({rate['q25']:.1f}..{rate['q75']:.1f}), "
            f"{100 * share:.0f} % of the convolution rate"
        )
    if args.json:
        write_json(
            args.json,
            {
                "machine": before,
                "encoder": args.encoder,
                "images": args.images,
                "rounds": args.rounds,
                "settings": results,
            },
        )


if __name__ == "__main__":
    main()
