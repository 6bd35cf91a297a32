"""A short training, and a table that was fitted with it."""

import pytest
from customers import customers, run, shorten


@pytest.fixture(autouse=True)
def _short_training(monkeypatch):
    shorten(monkeypatch)


@pytest.fixture(scope="session")
def fitted(tmp_path_factory):
    """The folder of results, its table and the true classes."""
    folder = tmp_path_factory.mktemp("own")
    frame, truth = customers()
    frame.to_csv(folder / "customers.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch)
        patch.chdir(folder)
        result = run("fit", "customers.csv", "--label", "outcome")
    assert result.exit_code == 0, result.output
    return folder / "customers-flowgmm", frame, truth, result
