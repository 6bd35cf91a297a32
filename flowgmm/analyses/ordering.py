"""Ordering of test accuracies: the paper's main claim (Tables 3 and 4)."""

from flowgmm.analyses.accuracies import accuracies
from flowgmm.analyses.inputs import Model
from flowgmm.analyses.results import Findings

__all__ = ["ordering"]


def ordering(sup: Model, plain: Model, cons: Model) -> Findings:
    """Test accuracies with labelled points alone, with unlabelled ones, and with consistency.

    The paper's order (Tables 3 and 4; claim C3) is tested split by split: every split has its own
    labelled points, which move all three together.

    Arguments:
        sup: Trained on the labelled points alone.
        plain: Trained on labelled and unlabelled points.
        cons: The same with the consistency term.
    """
    models = {"sup": sup, "plain": plain, "cons": cons}
    differences = {
        "plain_minus_sup": "unlabelled points minus none",
        "cons_minus_plain": "consistency minus none",
        "cons_minus_sup": "both minus neither",
    }
    return accuracies(models, differences, at_least=0.0)
