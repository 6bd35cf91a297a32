"""SCNF: a flow whose latent density, given the class, is a conditional flow of its own."""

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.validation import check_is_fitted, check_random_state
from torch import Tensor, nn

from flowgmm.flows.glow import ActNorm, Composition, DoubleCoupling, LeakyMLP, Mixing, initialise
from flowgmm.flows.pixels import Pixels
from flowgmm.flows.preprocessing import Preprocess
from flowgmm.flows.rng import Stream
from flowgmm.methods.neural import NeuralClassifier
from flowgmm.methods.parts import Training
from flowgmm.methods.parts.part import COUNT, WHOLE
from flowgmm.methods.quoted.class_latent import ClassFlow, ClassGaussians, ClassLatent
from flowgmm.training.batches import Batches
from flowgmm.training.loop import Inputs

__all__ = ["Scnf", "ScnfClassifier"]


class Scnf(nn.Module):
    """The stacked model: flow f of all points, latent density of each class, class weights.

    Arguments:
        flow: f, from x to z.
        latent: p(z | y).
        log_weights: Logarithms of p(y), shape (S, K).
    """

    log_weights: Tensor

    def __init__(self, flow: Composition, latent: ClassLatent, log_weights: Tensor):
        super().__init__()
        self.flow = flow
        self.latent = latent
        self.register_buffer("log_weights", log_weights)

    def log_joint(self, x: Tensor) -> Tensor:
        """Log p(x, y = k) in nats, shape (S, B, K), of x, shape (S, B, D)."""
        z, log_det = self.flow(x)
        log_class = self.latent.component_log_prob(z) + log_det.unsqueeze(-1)
        return log_class + self.log_weights.unsqueeze(1)


class ScnfClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NeuralClassifier):
    """Semi-conditional normalizing flow for vectors.

    log p(x | y) = log|df/dx| + log|dh/dz| + log N(h(z; y) | 0, s^2) with z = f(x). The loss is the
    mean over a batch of -log p(x | y) at labelled and -log p(x) at unlabelled points; f is
    evaluated once, h for each class. The predicted class has the largest p(y) p(x | y), where p(y)
    is its share of the labelled points.

    Arguments:
        latent: `flow`: h is a conditional flow (Glow+Glow); `gaussians`: one Gaussian per class, of
            learnt mean and diagonal (the GMM variant).
        n_layers, hidden_size: Layers of f (mixing, double coupling, ActNorm), and width of the two
            hidden layers of its networks.
        n_class_layers: Layers of h (ActNorm, mixing, conditional double coupling).
        class_hidden_size, n_blocks: Width and residual blocks of its networks.
        embedding_size: Features of the learnt vector of a class, at least as many as classes.
        preprocess: `none`, `standardise`, `mixed` or `pca`; see `flowgmm.flows.preprocessing`.
        pca_components: Principal components kept with `pca`.
        training: A `flowgmm.methods.parts.Training`; None: the authors', 2000 steps of Adamax at
            batches of 256 with replacement, a third of them labelled.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of the initial weights and batches.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        training_: The training in use.
        history_: Losses on the way.
        seeds_: The named seeds.

    Source: Atanov et al. (2019), semi-conditional normalizing flows; quoted systems, section 3.
    The sizes of the authors' runs on 2-D data are not known; the defaults are those of their
    functions.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "latent": [StrOptions({"flow", "gaussians"})],
        "n_layers": COUNT,
        "hidden_size": COUNT,
        "n_class_layers": COUNT,
        "class_hidden_size": COUNT,
        "n_blocks": WHOLE,
        "embedding_size": COUNT,
    }
    model_: Scnf

    def __init__(
        self,
        latent: str = "flow",
        n_layers: int = 5,
        hidden_size: int = 64,
        n_class_layers: int = 4,
        class_hidden_size: int = 256,
        n_blocks: int = 4,
        embedding_size: int = 10,
        preprocess: str = "standardise",
        pca_components: int | None = None,
        training: Training | None = None,
        device: str = "auto",
        random_state: Any = None,
    ):
        self.latent = latent
        self.n_layers = n_layers
        self.hidden_size = hidden_size
        self.n_class_layers = n_class_layers
        self.class_hidden_size = class_hidden_size
        self.n_blocks = n_blocks
        self.embedding_size = embedding_size
        self.preprocess = preprocess
        self.pca_components = pca_components
        self.training = training
        self.device = device
        self.random_state = random_state

    # -- model -------------------------------------------------------------------------------

    def _default_part(self, name: str, inner: str = "") -> Training:
        return Training(
            n_steps=2000,
            labelled_batch=85,
            unlabelled_batch=171,
            sampling="replacement",
            optimizer="adamax",
            lr=1e-3,
            weight_decay=1e-5,
            schedule="linear",
            clip_norm=None,
        )

    def _choose_parts(self, X: np.ndarray, n_labelled: int, n_classes: int) -> dict[str, Any]:
        self._validate_params()
        training = self._default_part("training") if self.training is None else self.training
        return {"training_": training.resolved(n_labelled, n_classes)}

    def _labelled_in_unlabelled(self) -> bool:
        return False

    def _passes(self) -> tuple[float, float]:
        # h, most of the network, sees an unlabelled point once for each class: of two, as in 2-D.
        return 3.0, 6.0

    def _network(self, n_features: int, log_weights: Tensor, initialisation: Stream) -> Scnf:
        n_seeds, n_classes = log_weights.shape

        def make_net(n_in: int, n_out: int) -> LeakyMLP:
            return LeakyMLP(n_in, n_out, self.hidden_size, initialisation)

        flow = Composition(
            layer
            for _ in range(self.n_layers)
            for layer in (
                Mixing(n_features, n_seeds),
                DoubleCoupling(n_features, make_net),
                ActNorm(n_features, n_seeds),
            )
        )
        latent: ClassLatent
        if self.latent == "gaussians":
            latent = ClassGaussians(n_features, n_classes, initialisation)
        else:
            latent = ClassFlow(
                n_features,
                n_classes,
                self.n_class_layers,
                self.class_hidden_size,
                self.n_blocks,
                self.embedding_size,
                initialisation,
            )
        return Scnf(flow, latent, log_weights)

    def _build(self, batches: Batches, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        one_hot = nn.functional.one_hot(batches.classes.cpu(), n_classes)
        shares = one_hot.to(self._dtype).mean(1)
        return self._network(batches.x.shape[1], shares.log(), streams["initialisation"].at(0))

    def _empty(self, preprocess: Preprocess | Pixels, n_classes: int) -> nn.Module:
        return self._network(preprocess.n_modelled, torch.zeros(1, n_classes), Stream([0]))

    def _initialise(self, model: nn.Module, batches: Batches, streams: dict[str, Stream]) -> None:
        """Fit every ActNorm to the first batch, those of h to what f makes of it."""
        inputs = self._inputs(batches, streams, 0, 1)
        initialise(model, lambda: self._losses(model, batches, streams, inputs))

    # -- objective ---------------------------------------------------------------------------

    def _losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        inputs: Inputs,
    ) -> dict[str, Tensor]:
        rows, classes = inputs["labelled"], inputs["classes"]
        n_labelled = rows.shape[1]
        if "unlabelled" in inputs:
            rows = torch.cat([rows, inputs["unlabelled"]], dim=1)
        z, log_det = model.flow(batches.x[rows])
        repeated, of_every = model.latent.of_every_class(z[:, n_labelled:])
        # One pass of h over the labelled points, each of its class, and the others, of every class.
        log_class = model.latent.log_prob(
            torch.cat([z[:, :n_labelled], repeated], dim=1), torch.cat([classes, of_every], dim=1)
        )
        nll = -(log_class[:, :n_labelled] + log_det[:, :n_labelled])
        losses = {"labelled_nll": nll.mean(-1)}
        if "unlabelled" in inputs:
            log_joint = log_class[:, n_labelled:].unflatten(1, (model.latent.n_classes, -1))
            log_prob = torch.logsumexp(log_joint + model.log_weights.unsqueeze(-1), dim=1)
            nll_unlabelled = -(log_prob + log_det[:, n_labelled:])
            losses["unlabelled_nll"] = nll_unlabelled.mean(-1)
            nll = torch.cat([nll, nll_unlabelled], dim=1)
        return {"loss": nll.mean(-1), **losses}

    # -- fitted ------------------------------------------------------------------------------

    def _log_posterior(self, model: Any, x: Tensor) -> Tensor:
        return torch.log_softmax(model.log_joint(x).double(), dim=-1)

    @property
    def _n_features_out(self) -> int:
        return self.preprocess_.n_out

    def _split(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Modelled features of checked points, and residual ones."""
        double = self._evaluation_dtype == torch.float64
        return self.preprocess_.split(X, np.float64 if double else np.float32)

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density log p(x) in nats, before preprocessing, float64, shape (N,)."""
        modelled, residual = self._split(self._check(X))

        def log_prob(model: Scnf, x: Tensor) -> tuple[Tensor]:
            return (torch.logsumexp(model.log_joint(x).double(), dim=-1),)

        residual = np.asarray(residual, dtype=np.float64)
        log_residual = -0.5 * (residual**2 + np.log(2 * np.pi)).sum(axis=1)
        return self._map(log_prob, modelled)[0] + log_residual + self.preprocess_.log_det

    def transform(self, X: Any) -> np.ndarray:
        """Latent code of each point, h(f(x); predicted class), shape (N, D).

        The last columns are passed on as they are: constant columns, trailing components.
        """
        X = self._check(X)
        modelled, residual = self._split(X)

        def code(model: Scnf, x: Tensor) -> tuple[Tensor]:
            return (model.latent(model.flow(x)[0], self._log_posterior(model, x).argmax(-1))[0],)

        codes = self._map(code, modelled)[0]
        return np.concatenate([codes, residual], axis=1).astype(X.dtype)

    def sample(
        self, n: int, y: Any = None, temperature: float = 1.0, random_state: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw new points.

        Arguments:
            n: How many.
            y: Their class, or n classes; None: drawn as frequent as among the labelled points.
            temperature: Factor on the standard deviation of the latent noise.
            random_state: Of the draw; None: that of the estimator.

        Returns:
            Points, shape (n, D), float64, and their classes, shape (n,).

        Raises:
            ValueError: If a class is unknown.
        """
        check_is_fitted(self)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        if y is None:
            p = self.model_.log_weights[0].double().exp().numpy()
            codes = rng.choice(len(p), size=n, p=p / p.sum())
        else:
            wanted = np.broadcast_to(np.asarray(y), (n,))
            if unknown := sorted(set(wanted.tolist()) - set(self.classes_.tolist()), key=str):
                raise ValueError(
                    f"y has classes the model does not know: {unknown}; "
                    f"it knows {self.classes_.tolist()}"
                )
            codes = np.searchsorted(self.classes_, wanted)
        noise = temperature * rng.standard_normal((n, self.preprocess_.n_out))
        n_modelled = self.preprocess_.n_modelled

        def point(model: Scnf, given: Tensor) -> tuple[Tensor]:
            u, classes = given[..., :-1] * model.latent.std, given[..., -1].long()
            return (model.flow.inverse(model.latent.inverse(u, classes)[0])[0],)

        modelled = self._map(point, np.column_stack([noise[:, :n_modelled], codes]))[0]
        X = self.preprocess_.join(modelled.astype(np.float64), noise[:, n_modelled:])
        return X, self.classes_[codes]
