"""Frames per second of `flowgmm explore`, as its page asks for them.

Every frame moves the slider: it is a question over HTTP to the page's server, whose answer is the
changed images. With `--browser` Chromium opens the page and sweeps; its own figure is kept too.

    python benchmarks/explore.py --browser --json benchmarks/explore.json
"""

import argparse
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
from embedding import make_convolution, quartiles
from torch.utils.flop_counter import FlopCounterMode
from train_step import machine

from flowgmm import FlowGMMClassifier
from flowgmm.apps.explore import server as explore
from flowgmm.experiments.job_script import keep_freed_memory
from flowgmm.utils.io import write_json

# Shape of an image and parameters of the model: of the paper's size, and of the recipe `small`.
MODELS: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "small": ((1, 28, 28), {"pool": 2, "n_filters": 16, "n_blocks": 2}),
    "mnist": ((1, 28, 28), {}),
    "cifar10": ((3, 32, 32), {}),
}
LAYERS, COUNTS = (3, 7), (1, 4)
WARM_UP = 2
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking"
# Seconds that the page sweeps before it tells its rate.
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


def make_explorer(name: str) -> explore.Explorer:
    """A model after one step on random images: its speed is that of any other."""
    shape, params = MODELS[name]
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (10, *shape), np.uint8), np.arange(10) % 4
    model = FlowGMMClassifier(
        consistency_weight=0, unlabelled_batch=2, labelled_batch=4, n_steps=1, **params
    )
    return explore.Explorer(model.fit(X, y), X, y, list("abcd"), name)


def time_frames(
    explorer: explore.Explorer, server: explore.Server, layer: int, n_images: int, n_frames: int
) -> dict[str, Any]:
    """Milliseconds and frames per second, and on a CPU the share of its convolution rate."""
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
        convolution()
        rate = in_convolution / (time.perf_counter() - frame)
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
    """Frames per second that the page itself shows, with its four images; None if it shows none."""
    told: queue.Queue[str] = queue.Queue()
    server.answers["tell"] = lambda question: told.put(question["rate"])
    plain = explore.page
    explore.page = lambda: plain() + (SCRIPT % (layer, 1000 * SWEEP)).encode()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        # A port for tools keeps it from leaving as soon as the page is loaded.
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"any of {', '.join(MODELS)}; all if none")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--browser", action="store_true", help="sweep in Chromium, too")
    parser.add_argument("--json", help="file for the results")
    args = parser.parse_args()
    if unknown := sorted(set(args.models) - set(MODELS)):
        parser.error(f"unknown models {', '.join(unknown)}; there are {', '.join(MODELS)}")
    keep_freed_memory()
    torch.set_num_threads(args.threads)
    before, results = machine(args.threads), {}
    for name in args.models or MODELS:
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
    if args.json:
        where = str(explorer.device)
        summary = {"machine": before, "device": where, "frames": args.frames, "models": results}
        write_json(args.json, summary)


if __name__ == "__main__":
    main()
