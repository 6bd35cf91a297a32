"""FlowGMM: a coupling flow into a latent Gaussian mixture, one component per class."""

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.validation import check_is_fitted, check_random_state
from torch import Tensor, nn

from flowgmm.flow import CouplingFlow
from flowgmm.methods.neural import CHUNK, Batches, NeuralClassifier
from flowgmm.mixture import DATA_MEANS, LatentMixture, fixed_means
from flowgmm.streams import Stream
from flowgmm.train import ramp

__all__ = ["FlowGMM", "FlowGMMClassifier"]

# Unlabelled points whose likelihood decides among initialisations.
N_SCORED = 20_000


class FlowGMM(nn.Module):
    """The stacked model: a flow and a mixture."""

    def __init__(self, flow: CouplingFlow, mixture: LatentMixture):
        super().__init__()
        self.flow = flow
        self.mixture = mixture


class FlowGMMClassifier(ClassNamePrefixFeaturesOutMixin, TransformerMixin, NeuralClassifier):
    """Semi-supervised classifier: p(x | y = k) = N(f(x) | mu_k, std^2 I) |det df/dx|.

    The flow f maximises the likelihood of labelled points under their class's component and of
    unlabelled points under the whole mixture; a point belongs to the class with the largest
    posterior in the latent space.

    The defaults follow the `recommended` recipe for text vectors (docs/recipes.md), without its
    principal components: steady with few labels and classes of about equal size; where they are
    not, set `balance_weight=0` or `class_weights`. The paper's own settings are in config/recipes/.

    Arguments:
        n_couplings: Affine couplings in the flow.
        hidden_size: Width of the conditioners.
        n_inner: Hidden layers of that width beyond the first (D3).
        dropout: In the conditioners, after the first hidden layer (D4).
        zero_init: The flow starts as the identity (official: no).
        preprocess: `none`, `standardise` or `pca`; affine, its log-det is counted; constant columns
            and trailing components get a Gaussian that all classes share.
        pca_components: With `pca`, how many components go through the flow; None: all that vary.
        means: Placement of the component means; see `flowgmm.mixture.fixed_means`, and those that
            look at data: `from_latent` (mean initial code of each class's labelled points),
            `from_z` (code of their mean), `from_data` (their mean), `random_data` (codes of random
            points; each class's mean is then the code of one of its labelled points).
        mean_scale: Factor on the placement.
        std: Initial standard deviation of the components.
        class_weights: p(y); None: equal.
        learn_means, learn_std, learn_weights: Train them, with their own learning rate 1e-2.
        unlabelled_weight: Factor on the mean unlabelled NLL (D9). If this and `consistency_weight`
            are 0, only the labelled points are used.
        pooled_loss: One mean over labelled and unlabelled points together (2-D data), instead of
            a weighted sum of two.
        objective: `direct`, or `em`: a step holds the responsibilities fixed (App. A).
        label_weight: Weight of the labelled cross-entropy -log p(y | x).
        consistency_weight: Weight of -log p(x', yhat(x'')), where x' and x'' are the point under
            two independent perturbations (dropout masks, input noise) and yhat the model's own
            hard answer (eq. 7).
        consistency_target: `joint`: as above; `posterior`: -log p(yhat(x'') | x') instead.
        ramp_up: Share of the steps over which the consistency weight grows linearly.
        balance_weight: Weight of KL(p(y) | mean posterior of the unlabelled batch): the shares of
            the classes stay at `class_weights`. The likelihood alone is indifferent to them: a
            boundary that crosses a cluster costs as much wherever it crosses.
        labelled_in_unlabelled: The labelled inputs are among the unlabelled ones (D16).
        input_noise: Standard deviation of Gaussian noise added to preprocessed inputs in training.
        noise_until: Share of the steps after which the noise has fallen, linearly, to 0; None: it
            stays. Learns the coarse shape of the data first.
        n_init: Trainings from as many initialisations, side by side; the one with the highest
            likelihood of the unlabelled points is kept, as in scikit-learn's `GaussianMixture`.
        n_steps, n_epochs: Exactly one of them; an epoch is a pass over the unlabelled points.
        labelled_batch: Labelled points per step; None: all.
        unlabelled_batch: Unlabelled points per step.
        sampling: `shuffle`, `fixed` or `replacement`.
        optimizer, lr, weight_decay, schedule, clip_norm: See `flowgmm.train.Training`.
        keep: `last`: the parameters after the last step; `best_val`: those with the highest
            accuracy on validation points (D41; through `fit_stack`).
        precision: `fp32`, `bf16` (the conditioners' matrix products only) or `fp64`.
        device: `auto`, `cpu`, `cuda`, ...
        random_state: Seed of weights, means, batches, dropout and noise.

    Attributes:
        classes_, n_features_in_, n_iter_: As everywhere in scikit-learn.
        means_: Component means in the latent space, shape (K, d).
        std_: Standard deviations, shape (K,).
        weights_: Class weights, shape (K,).
        history_: Losses on the way.
        seeds_: The named seeds.

    Example:
        >>> from sklearn.datasets import make_moons
        >>> X, y = make_moons(200, noise=0.05, random_state=0)
        >>> y[10:] = -1
        >>> model = FlowGMMClassifier(n_steps=20, random_state=0).fit(X, y)
        >>> model.predict(X).shape
        (200,)

    Source: Izmailov et al. (2020), section 3; spec 1.1, 1.2, 1.5, 1.6.
    """

    model_: FlowGMM

    def __init__(
        self,
        n_couplings: int = 4,
        hidden_size: int = 128,
        n_inner: int = 1,
        dropout: float = 0.5,
        zero_init: bool = True,
        preprocess: str = "standardise",
        pca_components: int | None = None,
        means: str = "from_latent",
        mean_scale: float = 1.0,
        std: float = 1.0,
        class_weights: list[float] | None = None,
        learn_means: bool = True,
        learn_std: bool = False,
        learn_weights: bool = False,
        unlabelled_weight: float = 100.0,
        pooled_loss: bool = False,
        objective: str = "direct",
        label_weight: float = 100.0,
        consistency_weight: float = 1000.0,
        consistency_target: str = "posterior",
        ramp_up: float = 0.0,
        balance_weight: float = 1000.0,
        labelled_in_unlabelled: bool = True,
        input_noise: float = 0.3,
        noise_until: float | None = None,
        n_init: int = 1,
        n_steps: int | None = 300,
        n_epochs: int | None = None,
        labelled_batch: int | None = None,
        unlabelled_batch: int = 256,
        sampling: str = "shuffle",
        optimizer: str = "adamw",
        lr: float = 1e-3,
        weight_decay: float = 1e-5,
        schedule: str = "cosine",
        clip_norm: float | None = 100.0,
        keep: str = "last",
        precision: str = "fp32",
        device: str = "auto",
        random_state: Any = None,
    ):
        self.n_couplings = n_couplings
        self.hidden_size = hidden_size
        self.n_inner = n_inner
        self.dropout = dropout
        self.zero_init = zero_init
        self.preprocess = preprocess
        self.pca_components = pca_components
        self.means = means
        self.mean_scale = mean_scale
        self.std = std
        self.class_weights = class_weights
        self.learn_means = learn_means
        self.learn_std = learn_std
        self.learn_weights = learn_weights
        self.unlabelled_weight = unlabelled_weight
        self.pooled_loss = pooled_loss
        self.objective = objective
        self.label_weight = label_weight
        self.consistency_weight = consistency_weight
        self.consistency_target = consistency_target
        self.ramp_up = ramp_up
        self.balance_weight = balance_weight
        self.labelled_in_unlabelled = labelled_in_unlabelled
        self.input_noise = input_noise
        self.noise_until = noise_until
        self.n_init = n_init
        self.n_steps = n_steps
        self.n_epochs = n_epochs
        self.labelled_batch = labelled_batch
        self.unlabelled_batch = unlabelled_batch
        self.sampling = sampling
        self.optimizer = optimizer
        self.lr = lr
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.keep = keep
        self.precision = precision
        self.device = device
        self.random_state = random_state

    # -- model -------------------------------------------------------------------------------

    def _make_flow(self, n_features: int, initialisation: Stream) -> CouplingFlow:
        return CouplingFlow(
            n_features,
            self.n_couplings,
            self.hidden_size,
            initialisation,
            n_inner=self.n_inner,
            dropout=self.dropout,
            zero_init=self.zero_init,
        )

    def _make_mixture(self, means: Tensor) -> LatentMixture:
        return LatentMixture(
            means,
            std=self.std,
            weights=self.class_weights,
            learn_means=self.learn_means,
            learn_std=self.learn_std,
            learn_weights=self.learn_weights,
        )

    def _build(self, batches: Batches, n_classes: int, streams: dict[str, Stream]) -> nn.Module:
        if self.objective not in ("direct", "em"):
            raise ValueError(f"unknown objective {self.objective!r}; expected direct or em")
        if self.consistency_target not in ("joint", "posterior"):
            raise ValueError(
                f"unknown consistency_target {self.consistency_target!r}; "
                "expected joint or posterior"
            )
        n_features = batches.x.shape[1]
        flow = self._make_flow(n_features, streams["initialisation"].at(0)).to(batches.x)
        stream = streams["means"].at(0)
        if self.means in DATA_MEANS:
            means = self.mean_scale * self._data_means(flow, batches, n_classes, stream)
        else:
            means = fixed_means(self.means, n_classes, n_features, self.mean_scale, stream)
        return FlowGMM(flow, self._make_mixture(means.to(batches.x)))

    @torch.no_grad()
    def _data_means(
        self, flow: CouplingFlow, batches: Batches, n_classes: int, stream: Stream
    ) -> Tensor:
        """Means that look at the labelled points, shape (S, K, D)."""
        x = batches.x[batches.labelled]
        one_hot = nn.functional.one_hot(batches.classes, n_classes).to(x)
        share = (one_hot / one_hot.sum(1, keepdim=True)).transpose(1, 2)
        if self.means == "from_data":
            return share @ x
        if self.means == "from_z":
            return flow(share @ x)[0]
        z = flow(x)[0]
        if self.means == "from_latent":
            return share @ z
        # random_data: every class of the tabular sets has a labelled point, so no random code is
        # left; the first labelled point in a random order stands for its class.
        order = stream.permutation(x.shape[1])
        ranked = one_hot.gather(1, order.unsqueeze(-1).expand_as(one_hot))
        chosen = order.gather(1, ranked.argmax(1))
        return z.gather(1, chosen.unsqueeze(-1).expand(-1, -1, z.shape[-1]))

    def _empty(self, n_features: int, n_classes: int) -> nn.Module:
        means = torch.zeros(1, n_classes, n_features)
        return FlowGMM(self._make_flow(n_features, Stream([0])), self._make_mixture(means))

    def _mixture_parameters(self, model: Any) -> list[nn.Parameter]:
        return list(model.mixture.parameters())

    def _uses_unlabelled(self) -> bool:
        return self.unlabelled_weight > 0 or self.consistency_weight > 0

    @torch.no_grad()
    def _init_scores(self, model: Any, batches: Batches) -> list[float]:
        if self.n_init == 1:
            return super()._init_scores(model, batches)
        rows = batches.unlabelled if batches.unlabelled.shape[1] else batches.labelled
        total = torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
        for part in rows[:, :N_SCORED].split(CHUNK, dim=1):
            z, log_det = model.flow(batches.x[part])
            total += (model.mixture.log_prob(z) + log_det).double().sum(-1)
        # A slice without a finite likelihood is never the best.
        return total.nan_to_num(nan=-float("inf"), posinf=-float("inf")).tolist()

    # -- objective ---------------------------------------------------------------------------

    def _perturb(self, x: Tensor, noise: float, augmentation: Stream) -> Tensor:
        if noise == 0:
            return x
        return x + noise * augmentation.normal(x.shape[1:], x.dtype)

    def _noise(self, step: int, n_steps: int) -> float:
        if self.noise_until is None:
            return self.input_noise
        return self.input_noise * max(0.0, 1 - step / (self.noise_until * n_steps))

    def _losses(
        self,
        model: Any,
        batches: Batches,
        streams: dict[str, Stream],
        step: int,
        n_steps: int,
    ) -> dict[str, Tensor]:
        x, classes = batches.labelled_at(step)
        n_labelled = x.shape[1]
        if batches.unlabelled.shape[1]:
            x = torch.cat([x, batches.unlabelled_at(step)], dim=1)
        dropout, augmentation = streams["dropout"].at(step), streams["augmentation"].at(step)
        noise = self._noise(step, n_steps)
        guess = None
        if self.consistency_weight > 0:
            with torch.no_grad():
                z, _ = model.flow(self._perturb(x, noise, augmentation), dropout)
                guess = model.mixture.log_joint(z).argmax(-1)
        z, log_det = model.flow(self._perturb(x, noise, augmentation), dropout)
        log_joint = model.mixture.log_joint(z)
        log_weights = model.mixture.log_weights
        log_joint_labelled = _pick(log_joint[:, :n_labelled], classes)
        nll_labelled = -(
            log_joint_labelled - log_weights.gather(-1, classes) + log_det[:, :n_labelled]
        )
        losses = {"labelled_nll": nll_labelled.mean(-1)}
        loss = losses["labelled_nll"]
        if batches.unlabelled.shape[1]:
            nll_unlabelled = -(
                self._log_mixture(log_joint[:, n_labelled:]) + log_det[:, n_labelled:]
            )
            losses["unlabelled_nll"] = nll_unlabelled.mean(-1)
            if self.pooled_loss:
                loss = torch.cat([nll_labelled, nll_unlabelled], dim=-1).mean(-1)
            else:
                loss = loss + self.unlabelled_weight * losses["unlabelled_nll"]
        if self.label_weight > 0:
            evidence = torch.logsumexp(log_joint[:, :n_labelled], dim=-1)
            losses["labelled_ce"] = (evidence - log_joint_labelled).mean(-1)
            loss = loss + self.label_weight * losses["labelled_ce"]
        if guess is not None:
            other = (
                log_weights.gather(-1, guess) - log_det
                if self.consistency_target == "joint"
                else torch.logsumexp(log_joint, dim=-1)
            )
            losses["consistency"] = (other - _pick(log_joint, guess)).mean(-1)
            weight = self.consistency_weight * ramp(step, n_steps, self.ramp_up)
            loss = loss + weight * losses["consistency"]
        if self.balance_weight > 0 and batches.unlabelled.shape[1]:
            shares = torch.softmax(log_joint[:, n_labelled:], dim=-1).mean(1)
            weights = log_weights.exp()
            losses["imbalance"] = (weights * (log_weights - shares.clamp_min(1e-12).log())).sum(-1)
            loss = loss + self.balance_weight * losses["imbalance"]
        return {"loss": loss, **losses}

    def _log_mixture(self, log_joint: Tensor) -> Tensor:
        """Density log p(z), shape (S, B); with `em`, up to a constant of the gradient."""
        if self.objective == "direct":
            return torch.logsumexp(log_joint, dim=-1)
        responsibilities = torch.softmax(log_joint.detach(), dim=-1)
        return (responsibilities * log_joint).sum(-1)

    def _log_posterior(self, model: Any, x: Tensor) -> Tensor:
        # In float64: the gaps between the classes are of the order of D (spec, trap 5).
        return torch.log_softmax(model.mixture.log_joint(model.flow(x)[0]).double(), dim=-1)

    # -- using -------------------------------------------------------------------------------

    @property
    def means_(self) -> np.ndarray:
        """Component means in the latent space, shape (K, d)."""
        check_is_fitted(self)
        return self.model_.mixture.means[0].numpy()

    @property
    def std_(self) -> np.ndarray:
        """Standard deviation of each component, shape (K,)."""
        check_is_fitted(self)
        return self.model_.mixture.std[0].numpy()

    @property
    def weights_(self) -> np.ndarray:
        """Class weights, shape (K,)."""
        check_is_fitted(self)
        return self.model_.mixture.log_weights[0].exp().numpy()

    @property
    def _n_features_out(self) -> int:
        return self.n_features_in_

    def score_samples(self, X: Any) -> np.ndarray:
        """Density log p(x) of x itself, before preprocessing, in nats, float64, shape (N,)."""
        X = self._check(X)
        n_lead = self.preprocess_.n_lead

        def log_prob(model: FlowGMM, u: Tensor) -> tuple[Tensor]:
            z, log_det = model.flow(u)
            return ((model.mixture.log_prob(z) + log_det).double(),)

        def score(X: np.ndarray) -> np.ndarray:
            U = X if self.preprocess == "none" else self.preprocess_.forward(X)
            rest = np.asarray(U[:, n_lead:], dtype=np.float64)
            log_rest = -0.5 * (rest**2 + np.log(2 * np.pi)).sum(axis=1)
            return self._map(log_prob, U[:, :n_lead])[0] + log_rest + self.preprocess_.log_det

        # In chunks, since `forward` gives float64.
        return np.concatenate([score(X[i : i + CHUNK]) for i in range(0, len(X), CHUNK)])

    def transform(self, X: Any) -> np.ndarray:
        """Latent code of each point, shape (N, D).

        The first columns are the flow's, the others (constant columns, trailing components) are
        passed on as they are.
        """
        X = self._check(X)
        U = X if self.preprocess == "none" else self.preprocess_.forward(X)
        n_lead = self.preprocess_.n_lead
        z = self._map(lambda model, u: (model.flow(u)[0],), U[:, :n_lead])[0]
        return np.concatenate([z, U[:, n_lead:]], axis=1).astype(X.dtype)

    def inverse_transform(self, Z: Any) -> np.ndarray:
        """Point with each latent code, both shape (N, D).

        Raises:
            ValueError: If the number of columns is wrong.
        """
        check_is_fitted(self)
        Z = check_array(Z, dtype=[np.float32, np.float64])
        if Z.shape[1] != self.n_features_in_:
            raise ValueError(f"Z must have shape (N, {self.n_features_in_}), got {Z.shape}")
        n_lead = self.preprocess_.n_lead
        u = self._map(lambda model, z: (model.flow.inverse(z)[0],), Z[:, :n_lead])[0]
        if self.preprocess != "none":
            u = self.preprocess_.inverse(np.concatenate([u, Z[:, n_lead:]], axis=1))
        return u.astype(Z.dtype)

    def sample(
        self,
        n: int,
        y: Any = None,
        temperature: float = 1.0,
        random_state: Any = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw new points.

        Arguments:
            n: How many.
            y: Their class, or n classes; None: drawn from `weights_`.
            temperature: Factor on the standard deviation of the latent noise (0.25 in Fig. 6).
            random_state: Of the draw; None: that of the estimator.

        Returns:
            Points, shape (n, D), float64, and their classes, shape (n,).

        Raises:
            ValueError: If a class is unknown.

        Source: Izmailov et al. (2020), section 6; spec 1.8.
        """
        check_is_fitted(self)
        rng = check_random_state(self.random_state if random_state is None else random_state)
        if y is None:
            p = self.weights_.astype(np.float64)
            codes = rng.choice(len(p), size=n, p=p / p.sum())
        else:
            places = {label: k for k, label in enumerate(self.classes_.tolist())}
            wanted = np.broadcast_to(np.asarray(y), (n,)).tolist()
            if unknown := sorted(set(wanted) - set(places), key=str):
                raise ValueError(
                    f"y has classes the model does not know: {unknown}; "
                    f"it knows {self.classes_.tolist()}"
                )
            codes = np.array([places[label] for label in wanted])
        noise = rng.standard_normal((n, self.n_features_in_))
        z = temperature * noise
        n_lead = self.preprocess_.n_lead
        z[:, :n_lead] = self.means_[codes] + self.std_[codes, None] * z[:, :n_lead]
        return self.inverse_transform(z), self.classes_[codes]


def _pick(log_joint: Tensor, classes: Tensor) -> Tensor:
    """Entry of each point's class, shape (S, B), of log_joint (S, B, K) and classes (S, B)."""
    return log_joint.gather(-1, classes.unsqueeze(-1)).squeeze(-1)
