"""A page in the browser on which a feature inside an image flow is moved and the image follows.

The page (`page.html`) talks to a server on this machine alone, whose address holds a secret.
"""

import functools
import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_tensors, sha256

if TYPE_CHECKING:
    from flowgmm.flows.multiscale import ImageFlow
    from flowgmm.methods.flow_gmm import FlowGMMClassifier

__all__ = ["Explorer", "Feature", "Server", "page"]

# Images at once; images whose activations make the histogram; its bins.
MOST_IMAGES, N_MEASURED, N_BINS = 12, 16, 60
# Standard deviations that a feature may be moved by.
MOST_ALPHA = 100.0
# Bytes of a question; a real one has a few hundred.
MOST_BYTES = 10_000
STEPS = {
    "Checkerboard": "checkerboard coupling",
    "ChannelWise": "channel-wise coupling",
    "Squeeze": "squeeze",
    "FactorOut": "factoring out",
}
# The page is one file and asks nobody but its own server.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Feature:
    """Feature to perturb, in which images and by how much.

    Arguments:
        images: Rows of the test images.
        layer: Step of the flow (spec 1.3), from 1 on.
        channel: Channel there.
        alpha: Standard deviations.
        position: Row and column there; None: everywhere.
    """

    images: tuple[int, ...]
    layer: int
    channel: int
    alpha: float
    position: tuple[int, int] | None


class Explorer:
    """An image model and test images, asked by the page.

    Arguments:
        model: Fitted to images; one seed.
        X: Test images, uint8, shape (N, C, H, W).
        y: Their classes, places in `names`, shape (N,).
        names: Names of the classes.
        title: What the page calls the model.

    Raises:
        UserError: If the model is not of images, or of images of another shape.

    Source: Izmailov et al. (2020), section 6.3; spec 1.8.
    """

    def __init__(
        self, model: "FlowGMMClassifier", X: np.ndarray, y: np.ndarray, names: list[str], title: str
    ):
        import copy

        import torch

        from flowgmm.flows.pixels import Pixels

        if not isinstance(model.preprocess_, Pixels):
            raise UserError(
                f"{title} was fitted to vectors, which have no channels to move; "
                "give a model of images"
            )
        if X.shape[1:] != model.preprocess_.shape:
            raise UserError(
                f"{title} is of images of shape {model.preprocess_.shape}, the features file has "
                f"{X.shape[1:]}; give the features file of its data set as --features"
            )
        self.model, self.X, self.y, self.names, self.title = model, X, y, names, title
        self.pixels = model.preprocess_
        # A run's classes are places in the names; a model of one's own may have names themselves.
        self.known = [
            names[k] if isinstance(k, int) and 0 <= k < len(names) else str(k)
            for k in model.classes_.tolist()
        ]
        # On the device for good: the estimator's own comes back to the CPU after every call.
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.flow: ImageFlow = copy.deepcopy(model._image_flow()).to(self.device)
        # A move of the slider needs only the way back from a layer; the ways there are kept.
        self._state = functools.lru_cache(maxsize=32)(self._run)
        # Classes are asked for one by one, of images that were just made.
        self.changed = functools.lru_cache(maxsize=4)(self._changed)
        self._before = functools.lru_cache(maxsize=1024)(lambda row: self._best(X[row]))
        self._activations = functools.lru_cache(maxsize=None)(self._feature_maps)

    @classmethod
    def load(cls, path: Path, features: Path | None = None, seed: int | None = None) -> Self:
        """From a run of the workflow, or any file of `FlowGMMClassifier.save_stack`.

        Arguments:
            path: model.safetensors; beside it, if the workflow made it, record.json.
            features: Features file with test images; None: the one that the run learnt from.
            seed: Which of the run's seeds (without a record: place in the file); None: the first
                that did not fail.

        Raises:
            UserError: If a file is absent or damaged, or the seed is not there or failed.
        """
        from flowgmm.methods.flow_gmm import FlowGMMClassifier

        models = FlowGMMClassifier.load_stack(path)
        record: dict[str, Any] = {}
        title, seeds = path.name, list(range(len(models)))
        if (beside := path.with_name("record.json")).exists():
            record = read_json(beside)
            seeds = record["seeds"]
            title = "{dataset}, {labels} labels, {method}, recipe {recipe}".format(**record)
        sound = [s for s, model in zip(seeds, models, strict=True) if model.failure_ is None]
        chosen = seed if seed is not None or not sound else sound[0]
        if chosen not in sound:
            raise UserError(
                f"seed {chosen} is not among the sound ones of {path}: {sound}; "
                "give one of them as --seed"
            )
        if features is None:
            if not record:
                raise UserError(
                    f"there is no record.json beside {path} that names its data set; "
                    "give its features file as --features"
                )
            found = (
                file
                for folder in path.resolve().parents
                for file in (folder / "features").glob(f"{record['dataset']}*.safetensors")
            )
            features = next((f for f in found if sha256(f) == record["hashes"]["features"]), None)
            if features is None:
                raise UserError(
                    f"no folder features/ above {path} has the file that it learnt from; "
                    "give a features file as --features"
                )
        arrays, meta = read_tensors(features, ["X_test", "y_test"])
        model = models[seeds.index(chosen)].set_params(device="auto")
        names = [str(name) for name in meta["classes"]]
        title = f"{title}, seed {chosen}"
        return cls(model, arrays["X_test"], arrays["y_test"], names, title)

    # -- answers -----------------------------------------------------------------------------

    def describe(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Contents of the page: classes, labels, layers and limits."""
        layers = [
            {"number": i, "name": STEPS[type(step).__name__], "shape": list(shape)}
            for i, (step, shape) in enumerate(
                zip(self.flow.steps, self.flow.shapes[1:], strict=True), start=1
            )
        ]
        return {
            "title": self.title,
            "shape": list(self.flow.shape),
            "classes": self.names,
            "labels": self.y.tolist(),
            "layers": layers,
            "most_images": MOST_IMAGES,
            "n_measured": min(N_MEASURED, len(self.X)),
            "device": self.device.type,
        }

    def originals(self, question: Mapping[str, Any]) -> np.ndarray:
        """Neighbouring test images as the flow sees them, uint8, shape (N, C, h, w)."""
        start = _integer(question, "start", len(self.X))
        n = _integer(question, "n", 101)
        return self.pixels.lead(self.X[start : start + n])

    def frame(self, question: Mapping[str, Any]) -> np.ndarray:
        """The images whose feature differs, uint8, shape (N, C, h, w)."""
        return np.rint(255 * self.changed(self.parse(question))).astype(np.uint8)

    def classify(self, question: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Predicted class of image `which` and its probability, before and after the change."""
        feature = self.parse(question)
        which = _integer(question, "which", len(feature.images))
        # The estimator averages over blocks of pixels, which leaves these as they are.
        pool = self.pixels.pool
        after = self.changed(feature)[which].repeat(pool, axis=1).repeat(pool, axis=2)
        return {"before": self._before(feature.images[which]), "after": self._best(after)}

    def histogram(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Activations of a channel on test images, and its spread on training images."""
        layer, channel = self._layer_and_channel(question)
        activations = self._activations(layer)[:, channel]
        counts, edges = np.histogram(activations, bins=N_BINS)
        return {
            "counts": counts.tolist(),
            "edges": edges.tolist(),
            "mean": float(activations.mean()),
            "std": float(self.model.feature_std_[layer][channel]),
        }

    # -- the flow ----------------------------------------------------------------------------

    def _changed(self, feature: Feature) -> np.ndarray:
        """As `FlowGMMClassifier.perturb_feature`, of several images: shape (N, C, h, w).

        Raises:
            ValueError: If the images are not finite.
        """
        import torch

        h, factored = self._state(feature.images, feature.layer)
        shift = feature.alpha * float(self.model.feature_std_[feature.layer][feature.channel])
        row, column = feature.position or (slice(None), slice(None))
        with torch.inference_mode():
            h = h.clone()
            h[:, :, feature.channel, row, column] += shift
            images = self.flow.back(h, factored, feature.layer)[0][0].cpu().numpy()
        if not np.isfinite(images).all():
            raise ValueError(f"alpha={feature.alpha:g} leaves the numbers; choose a smaller one")
        return self.pixels.join(images, images[:0])

    def _run(self, images: tuple[int, ...], layer: int) -> tuple[Any, list[Any]]:
        """Feature maps of images after the first steps, and the channels factored out."""
        import torch

        from flowgmm.methods.neural import as_inputs

        lead = torch.as_tensor(self.pixels.lead(self.X[list(images)]))
        with torch.inference_mode():
            inputs = as_inputs(lead.to(self.device), self.flow)[None]
            h, factored, _ = self.flow.run(inputs, layer)
        return h, factored

    def _best(self, image: np.ndarray) -> dict[str, Any]:
        """The predicted class of an image, shape (C, H, W), and its probability."""
        shares = self.model.predict_proba(image[None])[0]
        best = int(shares.argmax())
        return {"class": self.known[best], "probability": float(shares[best])}

    def _feature_maps(self, layer: int) -> np.ndarray:
        """Activations on test images far apart, shape (n, C_l, H_l, W_l)."""
        rows = np.linspace(0, len(self.X) - 1, min(N_MEASURED, len(self.X))).astype(int)
        return self.model.feature_maps(self.X[rows], layer)

    # -- questions ---------------------------------------------------------------------------

    def parse(self, question: Mapping[str, Any]) -> Feature:
        """Check what the page sent.

        Raises:
            ValueError: If a value is missing, of another type or out of range.
        """
        images = question.get("images")
        if not isinstance(images, list) or not 1 <= len(images) <= MOST_IMAGES:
            raise ValueError(f"images={images!r} is not a list of 1 to {MOST_IMAGES} rows")
        rows = tuple(_integer({"image": image}, "image", len(self.X)) for image in images)
        layer, channel = self._layer_and_channel(question)
        alpha: Any = question.get("alpha")
        if type(alpha) not in (int, float) or not abs(alpha) <= MOST_ALPHA:
            raise ValueError(f"alpha={alpha!r} is not a number in +-{MOST_ALPHA:g}")
        position = question.get("position")
        if position is not None:
            if not isinstance(position, list) or len(position) != 2:
                raise ValueError(f"position={position!r} is neither null nor [row, column]")
            _, height, width = self.flow.shapes[layer]
            place = dict(zip(("row", "column"), position, strict=True))
            position = (_integer(place, "row", height), _integer(place, "column", width))
        return Feature(rows, layer, channel, float(alpha), position)

    def _layer_and_channel(self, question: Mapping[str, Any]) -> tuple[int, int]:
        layer = _integer(question, "layer", len(self.flow.shapes), low=1)
        return layer, _integer(question, "channel", self.flow.shapes[layer][0])


def _integer(question: Mapping[str, Any], name: str, stop: int, low: int = 0) -> int:
    value = question.get(name)
    if type(value) is not int or not low <= value < stop:  # True is no number here
        raise ValueError(f"{name}={value!r} is not an integer in {low}..{stop - 1}")
    return value


def page() -> bytes:
    """The page, UTF-8."""
    return files("flowgmm.apps.explore").joinpath("page.html").read_bytes()


class Server(ThreadingHTTPServer):
    """The page and its answers, on 127.0.0.1.

    Every address starts with a token that is new at each start: a page of another site cannot
    guess it, so it can ask nothing. No address is a path of the file system.

    Arguments:
        explorer: Who answers.
        port: Port; 0: any free one.

    Raises:
        UserError: If the port cannot be had.
    """

    daemon_threads = True

    def __init__(self, explorer: Explorer, port: int = 0):
        self.token = secrets.token_urlsafe(24)
        self.answers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "describe": explorer.describe,
            "originals": explorer.originals,
            "frame": explorer.frame,
            "classify": explorer.classify,
            "histogram": explorer.histogram,
        }
        # One thread computes: two would share the cores, and each would start threads of its own.
        self.worker = ThreadPoolExecutor(max_workers=1)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(
                f"port {port} cannot be had ({error}); give another --port, or none for a free one"
            ) from error

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report a fault; a browser that left before its answer came is none."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Let go of the port and the thread."""
        super().server_close()
        self.worker.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"  # one connection for all frames
    disable_nagle_algorithm = True  # a frame must not wait for the next packet

    def do_GET(self) -> None:
        if (name := self._name()) is None:
            return
        if name:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")
        else:
            self._send(page(), "text/html; charset=utf-8")

    def do_POST(self) -> None:
        if (name := self._name()) is None:
            return
        if name not in self.server.answers:
            self._refuse(HTTPStatus.NOT_FOUND, f"there is no such question: {name}")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MOST_BYTES:
            self._refuse(HTTPStatus.BAD_REQUEST, f"a question has at most {MOST_BYTES} bytes")
            return
        start = time.perf_counter()
        try:
            question = json.loads(self.rfile.read(int(length)))
            if not isinstance(question, dict):
                raise ValueError("a question is a JSON object")
            answer = self.server.worker.submit(self.server.answers[name], question).result()
        except (UserError, ValueError) as error:  # of JSON too
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        seconds = time.perf_counter() - start
        if isinstance(answer, np.ndarray):
            self._send(answer.tobytes(), "application/octet-stream", seconds=seconds)
        else:
            self._send(json.dumps(answer).encode(), "application/json", seconds=seconds)

    def _name(self) -> str | None:
        """Part of the path after the token; None: refused."""
        token, _, name = self.path[1:].partition("/")
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self._refuse(HTTPStatus.FORBIDDEN, "the address lacks the token that explore printed")
            return None
        return name

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        # The question may be unread: what follows on this connection would be taken for another.
        self.close_connection = True
        self._send(json.dumps({"error": reason}).encode(), "application/json", status)

    def _send(
        self,
        body: bytes,
        kind: str,
        status: HTTPStatus = HTTPStatus.OK,
        seconds: float | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        if seconds is not None:
            self.send_header("Server-Timing", f"answer;dur={1000 * seconds:.1f}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a line for each frame would fill the screen."""
