"""Settings of the whole suite."""

import os

# Set before torch is imported. The models in the tests are small: a second thread costs more than
# it gains, and on a busy machine ten times more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
