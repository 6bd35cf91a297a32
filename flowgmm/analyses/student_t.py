"""Student-t against Gaussian components: confidences (Appendix J)."""

import numpy as np

from flowgmm.analyses.accuracies import accuracies
from flowgmm.analyses.inputs import Model
from flowgmm.analyses.results import Findings, number

__all__ = ["student_t"]


def student_t(gaussian: Model, student_t: Model, *, confidence: float) -> Findings:
    """Confidences on test images of a Gaussian and of a Student-t mixture (Appendix J).

    Arguments:
        gaussian: Trained with Gaussian components.
        student_t: Trained with Student-t components.
        confidence: Images whose largest class probability lies below it are counted.

    Returns:
        Arrays ``doubt_{name}``: 1 - largest class probability, ascending, (N,).
    """
    models = {"gaussian": gaussian, "student_t": student_t}
    found = accuracies(models, {"student_t_minus_gaussian": "Student-t minus Gaussian"})
    for name, model in models.items():
        X, _ = model.data.test
        # The sum of the others: 1 - p has no digits left where p rounds to 1.
        doubts = [
            np.exp(np.sort(e.predict_log_proba(X), axis=1)[:, :-1]).sum(axis=1)
            for e in model.estimators
        ]
        counts = [int((doubt > 1 - confidence).sum()) for doubt in doubts]
        title = f"of {len(X)} test images, confidence below {confidence:g}, {model.title}"
        found.numbers.append(number(f"n_below_{name}", title, "count", counts))
        if name == "student_t":
            # Sure of more images than it gets right, it is over-confident (claim C8).
            errors = [100 - accuracy for accuracy in model.accuracies()]
            title = f"images with confidence below {confidence:g} minus misclassified ones"
            gaps = [100 * n / len(X) - error for n, error in zip(counts, errors, strict=True)]
            found.numbers.append(number("doubt_minus_error", title, "percent", gaps))
        found.arrays[f"doubt_{name}"] = np.sort(doubts[0])
    found.details["confidence"] = confidence
    return found
