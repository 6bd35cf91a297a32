"""Reading of a user's tables and their classes."""

import numpy as np
import pandas as pd
import pytest

from flowgmm.apps.fit.reading import read_labels, read_table
from flowgmm.utils.errors import UserError


def test_label_is_read_as_classes():
    codes, names = read_labels(pd.DataFrame({"y": [10, None, 9, 10, 9]}), "y", "t")
    assert names == ["9", "10"] and codes.tolist() == [1, -1, 0, 1, 0]
    codes, _ = read_labels(pd.DataFrame({"y": ["9", " ", "10"]}), "y", "t", names)
    assert codes.tolist() == [0, -1, 1]
    with pytest.raises(UserError, match="unknown class '8' in column 'y'; expected one of 9, 10"):
        read_labels(pd.DataFrame({"y": ["8"]}), "y", "t", names)


def test_formats_hold_the_same_table(tmp_path):
    X = np.arange(12.0).reshape(4, 3)
    y = np.array([0, 1, -1, 1])
    np.savez(tmp_path / "t.npz", X=X, y=y)
    frame = pd.DataFrame(X, columns=["x0", "x1", "x2"]).assign(y=[0, 1, None, 1])
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for suffix in ("npz", "csv", "csv.gz", "parquet"):
        pd.testing.assert_frame_equal(read_table(tmp_path / f"t.{suffix}"), frame)
