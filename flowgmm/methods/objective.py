"""The objective of FlowGMM: likelihoods, labels, consistency and balance of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from flowgmm.methods.parts import Objective

__all__ = ["Points", "objective_losses"]


@dataclass(frozen=True)
class Points:
    """A batch in the latent space: labelled points first, then unlabelled ones.

    Attributes:
        log_component: Log p(z | y = k) in nats, shape (S, B, K).
        log_weights: Log p(y), shape (S, K).
        log_det: Log |det dz/dx|, shape (S, B).
        classes: Classes of the labelled points, shape (S, n_labelled).
        n_labelled: Number of labelled points.
        guess: Classes of the last G points, all or the unlabelled ones, under another
            perturbation, shape (S, G); None without consistency.
        trusted: Weights of the guesses, 1 or 0, shape (S, G); None: all count.
    """

    log_component: Tensor
    log_weights: Tensor
    log_det: Tensor
    classes: Tensor
    n_labelled: int
    guess: Tensor | None
    trusted: Tensor | None = None


def objective_losses(
    points: Points, objective: Objective, weights_from: str, ramped: float | Tensor
) -> dict[str, Tensor]:
    """Loss of each seed and its terms, each of shape (S,).

    Arguments:
        points: The batch.
        objective: Terms and weights.
        weights_from: `all`, or `unlabelled`: labelled points leave the class weights alone.
        ramped: Factor on the consistency weight at this step.

    Returns:
        ``loss``, ``labelled_nll`` and the terms that are in use.

    Source: spec 1.1, 1.5, 1.6.
    """
    n = points.n_labelled
    log_component, log_det = points.log_component, points.log_det
    log_joint = log_component + points.log_weights.unsqueeze(1)
    in_labelled = log_joint[:, :n]
    if weights_from == "unlabelled":
        in_labelled = log_component[:, :n] + points.log_weights.detach().unsqueeze(1)
    log_joint_labelled = _pick(in_labelled, points.classes)
    nll_labelled = -(_pick(log_component[:, :n], points.classes) + log_det[:, :n])
    losses = {"labelled_nll": nll_labelled.mean(-1)}
    if objective.labelled_nll == "mixture":
        nll_labelled = -(_log_mixture(in_labelled, objective.em) + log_det[:, :n])
    elif objective.labelled_nll == "none":
        nll_labelled = torch.zeros_like(nll_labelled)
    loss = nll_labelled.mean(-1)
    if with_unlabelled := log_joint.shape[1] > n:
        nll_unlabelled = -(_log_mixture(log_joint[:, n:], objective.em) + log_det[:, n:])
        losses["unlabelled_nll"] = nll_unlabelled.mean(-1)
        if objective.pooled_loss:
            loss = torch.cat([nll_labelled, nll_unlabelled], dim=-1).mean(-1)
        else:
            loss = loss + float(objective.unlabelled_weight) * losses["unlabelled_nll"]
    if objective.label_weight > 0:
        evidence = torch.logsumexp(in_labelled, dim=-1)
        losses["labelled_ce"] = (evidence - log_joint_labelled).mean(-1)
        target = losses["labelled_ce"]
        if objective.label_weight_target == "joint":
            target = -(log_joint_labelled + log_det[:, :n]).mean(-1)
        loss = loss + objective.label_weight * target
    if points.guess is not None:
        last = slice(log_joint.shape[1] - points.guess.shape[1], None)
        if objective.consistency_target == "joint":
            consistency = -(_pick(log_component[:, last], points.guess) + log_det[:, last])
        else:
            evidence = torch.logsumexp(log_joint[:, last], dim=-1)
            consistency = evidence - _pick(log_joint[:, last], points.guess)
        if points.trusted is not None:
            consistency = points.trusted * consistency
        losses["consistency"] = consistency.mean(-1)
        loss = loss + objective.consistency_weight * ramped * losses["consistency"]
    if objective.balance_weight > 0 and with_unlabelled:
        losses["imbalance"] = _imbalance(log_joint[:, n:], points.log_weights)
        loss = loss + objective.balance_weight * losses["imbalance"]
    return {"loss": loss, **losses}


def _pick(log_joint: Tensor, classes: Tensor) -> Tensor:
    """Entry of each point's class, shape (S, B), of log_joint (S, B, K) and classes (S, B)."""
    return log_joint.gather(-1, classes.unsqueeze(-1)).squeeze(-1)


def _log_mixture(log_joint: Tensor, em: bool) -> Tensor:
    """Density log p(z), shape (S, B); with `em`, up to a constant of the gradient."""
    if not em:
        return torch.logsumexp(log_joint, dim=-1)
    responsibilities = torch.softmax(log_joint.detach(), dim=-1)
    return (responsibilities * log_joint).sum(-1)


def _imbalance(log_joint: Tensor, log_weights: Tensor) -> Tensor:
    """KL(p(y) | mean posterior) in nats, shape (S,)."""
    shares = torch.softmax(log_joint, dim=-1).mean(1)
    return (log_weights.exp() * (log_weights - shares.clamp_min(1e-12).log())).sum(-1)
