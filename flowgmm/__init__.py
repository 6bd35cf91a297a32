"""Semi-supervised learning with normalizing flows.

The names below are imported when first used (PEP 562), so that `import flowgmm` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowgmm import presets
    from flowgmm.methods.flow_forest import FlowForestClassifier
    from flowgmm.methods.flow_gmm import FlowGMMClassifier
    from flowgmm.methods.forest import ForestClassifier
    from flowgmm.methods.label_spreading import KNNLabelSpreading, RBFLabelSpreading
    from flowgmm.methods.mlp import DropoutMLPClassifier
    from flowgmm.methods.parts import (
        LatentMixture,
        MultiscaleRealNVP,
        Objective,
        RealNVP,
        Training,
    )
    from flowgmm.methods.pi_model import PiModelClassifier
    from flowgmm.reporting.results import load_results

    __version__: str

__all__ = [
    "DropoutMLPClassifier",
    "FlowForestClassifier",
    "FlowGMMClassifier",
    "ForestClassifier",
    "KNNLabelSpreading",
    "LatentMixture",
    "MultiscaleRealNVP",
    "Objective",
    "PiModelClassifier",
    "RBFLabelSpreading",
    "RealNVP",
    "Training",
    "__version__",
    "load_results",
    "presets",
]

_MODULES = {
    "DropoutMLPClassifier": "flowgmm.methods.mlp",
    "FlowForestClassifier": "flowgmm.methods.flow_forest",
    "FlowGMMClassifier": "flowgmm.methods.flow_gmm",
    "ForestClassifier": "flowgmm.methods.forest",
    "KNNLabelSpreading": "flowgmm.methods.label_spreading",
    "LatentMixture": "flowgmm.methods.parts",
    "MultiscaleRealNVP": "flowgmm.methods.parts",
    "Objective": "flowgmm.methods.parts",
    "PiModelClassifier": "flowgmm.methods.pi_model",
    "RBFLabelSpreading": "flowgmm.methods.label_spreading",
    "RealNVP": "flowgmm.methods.parts",
    "Training": "flowgmm.methods.parts",
    "load_results": "flowgmm.reporting.results",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("flowgmm")
    elif name == "presets":
        value = importlib.import_module("flowgmm.presets")
    elif name in _MODULES:
        value = getattr(importlib.import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'flowgmm' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
