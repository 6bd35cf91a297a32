"""Settings of the whole suite."""

import os

from hypothesis import settings

# Set before torch is imported. The models in the tests are small: a second thread costs more than
# it gains, and on a busy machine ten times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples on every machine: a failure is one for everybody.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")

# The paper's plain objective: FlowGMMClassifier's defaults are the recommended recipe's.
LIKELIHOOD_ONLY = {
    "dropout": 0.0,
    "means": "random",
    "learn_means": False,
    "unlabelled_weight": 1.0,
    "label_weight": 0.0,
    "consistency_weight": 0.0,
    "balance_weight": 0.0,
    "input_noise": 0.0,
}
