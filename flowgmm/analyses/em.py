"""Expectation maximisation against direct maximisation of the likelihood (Appendix A)."""

from flowgmm.analyses.accuracies import accuracies
from flowgmm.analyses.inputs import Model
from flowgmm.analyses.results import Findings

__all__ = ["em"]


def em(direct: Model, em: Model) -> Findings:
    """Test accuracy when the likelihood is maximised directly and by EM (Appendix A).

    With one gradient step per expectation both have the same gradient (spec 1.6d); what is left is
    the noise of two runs.

    Arguments:
        direct: Trained by gradient steps on the likelihood.
        em: Trained by expectation and maximisation in turn.
    """
    models = {"direct": direct, "em": em}
    return accuracies(models, {"em_minus_direct": "EM minus direct"}, at_least=-1.5, at_most=1.5)
