"""Frames per second of `flowgmm explore`, as its page requests them.

Every frame moves the slider: an HTTP request to the page's server, answered with the changed
images. With `--browser` Chromium opens the page and sweeps; the rate that it shows is kept too.

    python benchmarks/explore.py --browser
"""

import itertools
import json
import queue
import re
import subprocess
import tempfile
import threading
import time
from http.client import HTTPConnection
from typing import Any

import numpy as np
import torch
from common import (
    chosen,
    machine,
    make_convolution,
    make_parser,
    quartiles,
    seconds_of,
    write_results,
)
from torch.utils.flop_counter import FlopCounterMode

from flowgmm import FlowGMMClassifier
from flowgmm.apps.explore import server as explore
from flowgmm.apps.explore.explorer import Explorer
from flowgmm.experiments.job_script import keep_freed_memory
from flowgmm.methods.parts import MultiscaleRealNVP, Objective, Training

# Shape of an image and parameters of the model: the recipe `small`, then the paper's size.
MODELS: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "small": ((1, 28, 28), {"pool": 2, "n_filters": 16, "n_blocks": 2}),
    "mnist": ((1, 28, 28), {}),
    "cifar10": ((3, 32, 32), {}),
}
LAYERS, COUNTS = (3, 7), (1, 4)
WARM_UP = 2
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
# Seconds of sweeping before the rate is read.
SWEEP = 8
SCRIPT = """
<script>onload = () => {
  const wait = setInterval(() => {
    if (!$("rate").textContent.includes("ms")) return;
    clearInterval(wait);
    $("layer").value = %d;
    limit();
    $("sweep").click();
    setTimeout(() => ask("tell", {rate: $("rate").textContent}), %d);
  }, 50);
};</script>
"""


def make_explorer(name: str) -> Explorer:
    """Make a model of one step on random images: speed does not depend on the weights."""
    shape, params = MODELS[name]
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (10, *shape), np.uint8), np.arange(10) % 4
    model = FlowGMMClassifier(
        MultiscaleRealNVP(**params),
        objective=Objective(consistency_weight=0),
        training=Training(n_steps=1, unlabelled_batch=2, labelled_batch=4),
    )
    return Explorer(model.fit(X, y), X, y, list("abcd"), name)


def time_frames(
    explorer: Explorer, server: explore.Server, layer: int, n_images: int, n_frames: int
) -> dict[str, Any]:
    """Measure milliseconds and frames per second; on a CPU, the share of its convolution rate."""
    state = explorer._state(tuple(range(n_images)), layer)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        explorer.flow.back(*state, layer)
    operations = counter.get_total_flops()
    convolution, in_convolution = make_convolution(torch.float32)
    connection = HTTPConnection("127.0.0.1", server.server_port)
    found = []
    for alpha in np.linspace(-4, 4, WARM_UP + n_frames):
        question = {"images": list(range(n_images)), "layer": layer, "channel": 0}
        body = json.dumps(question | {"alpha": float(alpha), "position": None})
        start = time.perf_counter()
        connection.request("POST", f"/{server.token}/frame", body)
        response = connection.getresponse()
        pixels = response.read()
        frame = time.perf_counter()
        rate = in_convolution / seconds_of(convolution)
        if response.status != 200:
            raise RuntimeError(pixels.decode())
        flow = float(re.search(r"dur=([\d.]+)", response.headers["Server-Timing"])[1]) / 1000
        found.append((frame - start, flow, rate))
    connection.close()
    whole, flow, rate = np.array(found[WARM_UP:]).T
    results = {
        "milliseconds": quartiles(1000 * whole),
        "flow_milliseconds": quartiles(1000 * flow),
        "frames_per_second": quartiles(1 / whole),
        "flop": operations,
    }
    if explorer.device.type == "cpu":
        results["convolution_gflops"] = quartiles(rate / 1e9)
        results["share_of_convolution_rate"] = quartiles(operations / flow / rate)
    return results


def sweep_in_browser(server: explore.Server, layer: int) -> float | None:
    """Read the frames per second that the page shows for four images; None if it shows none."""
    told: queue.Queue[str] = queue.Queue()
    server.answers["tell"] = lambda question: told.put(question["rate"])
    plain = explore.page
    explore.page = lambda: plain() + (SCRIPT % (layer, 1000 * SWEEP)).encode()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A port for tools keeps Chromium from ending once the page is loaded.
        command = ["chromium", *FLAGS.split(), "--remote-debugging-port=0"]
        browser = subprocess.Popen(
            [*command, f"--user-data-dir={folder}", server.url], stderr=subprocess.DEVNULL
        )
        try:
            rate = re.match(r"([\d.]+) frames/s", told.get(timeout=120))
        finally:
            browser.terminate()
            browser.wait()
            explore.page = plain
    return float(rate[1]) if rate else None


def main() -> None:
    """Measure the models asked for; print a line each; write everything to a file."""
    parser = make_parser(__doc__, "models")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--browser", action="store_true", help="sweep in Chromium, too")
    args = parser.parse_args()
    names = chosen(parser, args.models, MODELS)
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    before, results = machine(args.threads), {}
    for name in names:
        explorer = make_explorer(name)
        with explore.Server(explorer) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for layer, n_images in itertools.product(LAYERS, COUNTS):
                found = time_frames(explorer, server, layer, n_images, args.frames)
                if args.browser and n_images == 4:
                    found["page_frames_per_second"] = sweep_in_browser(server, layer)
                results[f"{name} layer {layer} images {n_images}"] = found
                rate = found["frames_per_second"]
                print(
                    f"{name}, layer {layer}, {n_images} images: {rate['median']:.1f} frames/s "
                    f"({rate['q25']:.1f} to {rate['q75']:.1f}); "
                    f"on the page {found.get('page_frames_per_second', 'not measured')}",
                    flush=True,
                )
            server.shutdown()
    header = {"machine": before, "device": str(explorer.device), "frames": args.frames}
    write_results(args.json, header | {"models": results})


if __name__ == "__main__":
    main()
