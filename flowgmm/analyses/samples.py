"""Samples of the model around the means (Figure 6)."""

from collections.abc import Sequence

import numpy as np

from flowgmm.analyses.inputs import Model
from flowgmm.analyses.results import Findings, float32, number
from flowgmm.utils.seeds import derive

__all__ = ["samples"]


def samples(model: Model, *, temperatures: Sequence[float], n_per_class: int) -> Findings:
    """Images of the means, and of latent samples around them (Figure 6).

    Arguments:
        model: The model.
        temperatures: Factors on the standard deviation of the latent noise.
        n_per_class: Samples of each class.

    Returns:
        Arrays ``means`` (K, C, H, W) and ``samples_{t}`` (K, n_per_class, C, H, W), with t the
        place of the temperature.

    Source: Izmailov et al. (2020), Appendix I; spec 1.8.
    """
    arrays: dict[str, np.ndarray] = {}
    agree: list[list[float]] = [[] for _ in temperatures]
    for s, (seed, estimator) in enumerate(zip(model.seeds, model.estimators, strict=True)):
        y = np.repeat(estimator.classes_, n_per_class)
        for t, temperature in enumerate(temperatures):
            state = derive("analysis/samples", seed, "batches")
            images, _ = estimator.sample(len(y), y=y, temperature=temperature, random_state=state)
            agree[t].append(100 * float(np.mean(estimator.predict(images) == y)))
            if s == 0:
                shape = (len(estimator.classes_), n_per_class, *images.shape[1:])
                arrays[f"samples_{t}"] = float32(images.reshape(shape))
        if s == 0:
            arrays["means"] = float32(estimator.inverse_transform(estimator.means_))
    numbers = [
        number("accuracy", "test accuracy", "percent", model.accuracies(), n_points=model.n_test())
    ]
    numbers += [
        number(
            f"agree_{t}",
            f"samples at T = {temperature:g} that the model gives their class",
            "percent",
            agree[t],
        )
        for t, temperature in enumerate(temperatures)
    ]
    details = {"temperatures": list(temperatures), "classes": model.data.meta["classes"]}
    return Findings(numbers, arrays, details)
