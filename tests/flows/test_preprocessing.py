"""The affine map in front of a network: its inverse, its log-det, and what it sets apart."""

import numpy as np
import pytest

from flowgmm.flows import preprocessing as preprocess
from flowgmm.flows.preprocessing import PREPROCESS, Preprocess

RNG = np.random.default_rng(0)
UNITS = np.array([1e-9, 1, 1e3, 1e6, 1])
# Five correlated columns of very different units.
X = (RNG.normal(size=(200, 5)) @ RNG.normal(size=(5, 5)) + [0, 5, 0, -1, 0]) * UNITS


@pytest.mark.parametrize("kind", PREPROCESS)
def test_inverse_and_log_det(kind):
    data = X / UNITS if kind == "pca" else X
    fitted = Preprocess.fit(data, kind)
    u = fitted.forward(data)
    assert fitted.n_modelled == 5
    np.testing.assert_allclose(fitted.inverse(u), data, rtol=1e-9, atol=1e-15)
    # The map is affine, so the differences along the axes are its Jacobian.
    step = data.std(axis=0)
    jacobian = (fitted.forward(data[0] + np.diag(step)) - u[0]) / step[:, None]
    assert np.linalg.slogdet(jacobian)[1] == pytest.approx(fitted.log_det, abs=1e-6)


@pytest.mark.parametrize("components", [None, 2])
@pytest.mark.parametrize("kind", PREPROCESS)
def test_in_chunks_as_at_once(kind, components, monkeypatch):
    data, components = (X / UNITS, components) if kind == "pca" else (X, None)
    at_once = Preprocess.fit(data, kind, components)
    monkeypatch.setattr(preprocess, "CHUNK", 7)
    fitted = Preprocess.fit(data, kind, components)
    np.testing.assert_allclose(fitted.scale, at_once.scale, rtol=1e-12)
    lead = fitted.modelled(data, np.float32)
    assert lead.dtype == np.float32
    expected = (data - at_once.shift) @ at_once.rotation[:, : at_once.n_modelled]
    np.testing.assert_allclose(lead, expected / at_once.scale[: at_once.n_modelled], 1e-5, 1e-6)


def test_none_is_the_identity():
    fitted = Preprocess.fit(X, "none")
    np.testing.assert_array_equal(fitted.forward(X), X)
    assert fitted.log_det == 0


def test_standardise():
    u = Preprocess.fit(X, "standardise").forward(X)
    np.testing.assert_allclose(u.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(u.std(axis=0), 1, rtol=1e-9)
    order = np.argsort(X[:, 3])
    assert (np.diff(u[order, 3]) >= 0).all()


def test_pca_whitens_and_orders():
    data = X / UNITS
    fitted = Preprocess.fit(data, "pca")
    np.testing.assert_allclose(np.cov(fitted.forward(data).T, ddof=0), np.eye(5), atol=1e-9)
    assert (np.diff(fitted.scale) < 0).all()
    np.testing.assert_allclose(fitted.rotation.T @ fitted.rotation, np.eye(5), atol=1e-12)
    # Equal data, whatever the order of the rows, give the same signs.
    again = Preprocess.fit(data[::-1], "pca")
    np.testing.assert_allclose(again.rotation, fitted.rotation, atol=1e-9)


def test_trailing_components_are_set_apart():
    fitted = Preprocess.fit(X, "pca", pca_components=2)
    assert fitted.n_modelled == 2
    assert fitted.forward(X).shape == X.shape


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6, -1e-6])
def test_constant_columns_are_set_apart(constant):
    data = np.insert(X, [1, 3], constant, axis=1)
    fitted = Preprocess.fit(data, "standardise")
    assert fitted.n_modelled == 5
    u = fitted.forward(data)
    np.testing.assert_allclose(u[:, 5:], 0, atol=1e-9)
    np.testing.assert_allclose(u[:, :5], Preprocess.fit(X, "standardise").forward(X), rtol=1e-9)
    np.testing.assert_allclose(fitted.inverse(u), data, rtol=1e-9, atol=1e-12)


def test_dependent_columns_are_set_apart_by_pca():
    data = np.column_stack([X[:, 1], X[:, 4], X[:, 1] + X[:, 4], np.ones(200)])
    fitted = Preprocess.fit(data, "pca")
    assert fitted.n_modelled == 2
    np.testing.assert_allclose(fitted.inverse(fitted.forward(data)), data, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "pca_components", "message"),
    [
        (
            "whiten",
            None,
            "unknown preprocess 'whiten'; expected one of none, stand",
        ),
        ("standardise", 3, "pca_components=3 must be 1 or more and goes with preprocess='pca'"),
        ("pca", 0, "pca_components=0 must be 1 or more"),
    ],
)
def test_impossible_options(kind, pca_components, message):
    with pytest.raises(ValueError, match=message):
        Preprocess.fit(X, kind, pca_components)


@pytest.mark.parametrize("kind", ["standardise", "pca"])
def test_constant_data(kind):
    with pytest.raises(ValueError, match="X has no column that varies"):
        Preprocess.fit(np.ones((10, 3)), kind)


def test_columns_of_two_values_count_half():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.normal(size=50), rng.integers(0, 2, 50) * 3.0 + 1, np.full(50, 7.0)])
    plain, mixed = (Preprocess.fit(X, kind) for kind in ("standardise", "mixed"))
    np.testing.assert_allclose(mixed.forward(X)[:, 0], plain.forward(X)[:, 0])
    np.testing.assert_allclose(mixed.forward(X)[:, 1], plain.forward(X)[:, 1] / 2)
    assert mixed.n_modelled == plain.n_modelled == 2
    np.testing.assert_allclose(mixed.inverse(mixed.forward(X)), X)
    assert mixed.log_det == pytest.approx(plain.log_det - np.log(2))
