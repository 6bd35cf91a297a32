"""Images per second of the image encoder, beside the machine's own rate of convolutions.

All settings encode the same images in turn, so that other load falls on all of them; a plain
convolution in the same precision is timed after each. Resizing, normalising and the network are
timed, reading and writing of files is not.

    python benchmarks/embedding.py --threads 2
"""

import itertools
from typing import Any

import numpy as np
import torch
from common import (
    machine,
    make_convolution,
    make_parser,
    quartiles,
    seconds_of,
    write_results,
)
from torch.utils.flop_counter import FlopCounterMode

from flowgmm.embed.image import _Encoder, _Options, _weights

# Rounds before the first that counts.
WARM_UP = 2


@torch.inference_mode()
def measure(
    encoder: str, settings: dict[str, dict[str, Any]], n_images: int, rounds: int
) -> dict[str, dict[str, Any]]:
    """Images per second of each setting, and share of the convolution's rate."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n_images, 3, 32, 32), np.uint8)
    items = np.arange(n_images)
    architecture, path = _weights(encoder)
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
            own = seconds_of(lambda: encoders[name](items))  # noqa: B023
            seconds[name].append((own, seconds_of(convolution)))
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


def main() -> None:
    """Measure all settings; print a line each; write everything to a file."""
    parser = make_parser(__doc__)
    parser.add_argument("--encoder", default="efficientnet_lite0")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[224, 160, 128])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--layouts", nargs="+", default=["last", "first"], help="of the channels")
    parser.add_argument("--batches", type=int, nargs="+", default=[16])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
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
    header = {"machine": before, "encoder": args.encoder, "images": args.images}
    write_results(args.json, header | {"rounds": args.rounds, "settings": results})


if __name__ == "__main__":
    main()
