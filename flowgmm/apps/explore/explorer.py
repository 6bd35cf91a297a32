"""Explorer: moves a feature inside an image flow and computes the images that follow."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from flowgmm.apps.explore.questions import (
    MOST_IMAGES,
    Feature,
    integer,
    parse_channel,
    parse_feature,
)
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import read_json, read_tensors, sha256

if TYPE_CHECKING:
    from flowgmm.flows.multiscale import ImageFlow
    from flowgmm.methods.flow_gmm import FlowGMMClassifier

__all__ = ["Explorer"]

# Images in the histogram of activations; its bins.
N_MEASURED, N_BINS = 16, 60
STEPS = {
    "Checkerboard": "checkerboard coupling",
    "ChannelWise": "channel-wise coupling",
    "Squeeze": "squeeze",
    "FactorOut": "factoring out",
}


class Explorer:
    """Image model and test images behind the page.

    Arguments:
        model: Fitted to images; one seed.
        X: Test images, uint8, shape (N, C, H, W).
        y: Their classes, indices of `names`, shape (N,).
        names: Names of the classes.
        title: Title of the page.

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
                f"{X.shape[1:]}; give the features file of its dataset as --features"
            )
        self.model, self.X, self.y, self.names, self.title = model, X, y, names, title
        self.pixels = model.preprocess_
        # Classes of a run are indices of `names`; those of another model may be names.
        self.known = [
            names[k] if isinstance(k, int) and 0 <= k < len(names) else str(k)
            for k in model.classes_.tolist()
        ]
        # Stays on the device; the estimator's own returns to the CPU after every call.
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.flow: ImageFlow = copy.deepcopy(model._image_flow()).to(self.device)
        # Moving the slider needs only the inverse from a layer; forward passes are cached.
        self._state = functools.lru_cache(maxsize=32)(self._run)
        # The page requests classes one image at a time, after the frame with all of them.
        self.changed = functools.lru_cache(maxsize=4)(self._changed)
        self._before = functools.lru_cache(maxsize=1024)(lambda row: self._best(X[row]))
        self._activations = functools.lru_cache(maxsize=None)(self._feature_maps)

    @classmethod
    def load(cls, path: Path, features: Path | None = None, seed: int | None = None) -> Self:
        """Load a run of the workflow, or any file of `FlowGMMClassifier.save_stack`.

        Arguments:
            path: model.safetensors; beside it, if the workflow made it, record.json.
            features: Features file with test images; None: that of the run.
            seed: One of the run's seeds (without a record: position in the file); None: the first
                that did not fail.

        Raises:
            UserError: If a file is missing or damaged, or the seed is not in the run or failed.
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
                    f"{beside}, which names the dataset, not found; give its features file as "
                    "--features"
                )
            found = (
                file
                for folder in path.resolve().parents
                for file in (folder / "features").glob(f"{record['dataset']}*.safetensors")
            )
            features = next((f for f in found if sha256(f) == record["hashes"]["features"]), None)
            if features is None:
                raise UserError(
                    f"features file of {path} not found in a folder features/ above it; "
                    "give one as --features"
                )
        arrays, meta = read_tensors(features, ["X_test", "y_test"])
        model = models[seeds.index(chosen)].set_params(device="auto")
        names = [str(name) for name in meta["classes"]]
        title = f"{title}, seed {chosen}"
        return cls(model, arrays["X_test"], arrays["y_test"], names, title)

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
        """Consecutive test images, pooled as for the flow, uint8, shape (N, C, h, w)."""
        start = integer(question, "start", len(self.X))
        n = integer(question, "n", 101)
        return self.pixels.modelled(self.X[start : start + n])

    def frame(self, question: Mapping[str, Any]) -> np.ndarray:
        """Images with the feature moved, uint8, shape (N, C, h, w)."""
        return np.rint(255 * self.changed(self._feature(question))).astype(np.uint8)

    def classify(self, question: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Predicted class of image `which` and its probability, before and after the change."""
        feature = self._feature(question)
        which = integer(question, "which", len(feature.images))
        # The estimator pools blocks of pixels, which gives these images back.
        pool = self.pixels.pool
        after = self.changed(feature)[which].repeat(pool, axis=1).repeat(pool, axis=2)
        return {"before": self._before(feature.images[which]), "after": self._best(after)}

    def histogram(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Activations of a channel on test images, and its spread on training images."""
        layer, channel = parse_channel(question, self.flow.shapes)
        activations = self._activations(layer)[:, channel]
        counts, edges = np.histogram(activations, bins=N_BINS)
        return {
            "counts": counts.tolist(),
            "edges": edges.tolist(),
            "mean": float(activations.mean()),
            "std": float(self.model.feature_std_[layer][channel]),
        }

    def _feature(self, question: Mapping[str, Any]) -> Feature:
        return parse_feature(question, len(self.X), self.flow.shapes)

    def _changed(self, feature: Feature) -> np.ndarray:
        """Images with a feature moved, as by `FlowGMMClassifier.perturb_feature`: (N, C, h, w).

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
        """Feature maps of images after the first `layer` steps, and the factored-out channels."""
        import torch

        from flowgmm.methods.neural import as_inputs

        modelled = torch.as_tensor(self.pixels.modelled(self.X[list(images)]))
        with torch.inference_mode():
            inputs = as_inputs(modelled.to(self.device), self.flow)[None]
            h, factored, _ = self.flow.run(inputs, layer)
        return h, factored

    def _best(self, image: np.ndarray) -> dict[str, Any]:
        """Predicted class of an image, shape (C, H, W), and its probability."""
        shares = self.model.predict_proba(image[None])[0]
        best = int(shares.argmax())
        return {"class": self.known[best], "probability": float(shares[best])}

    def _feature_maps(self, layer: int) -> np.ndarray:
        """Activations on evenly spaced test images, shape (n, C_l, H_l, W_l)."""
        rows = np.linspace(0, len(self.X) - 1, min(N_MEASURED, len(self.X))).astype(int)
        return self.model.feature_maps(self.X[rows], layer)
