"""Training of FlowGMM on vectors: terms of the objective, guesses, batches, initialisations."""

import itertools
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from estimators import LIKELIHOOD_ONLY, flow_gmm, in_use, small_flow
from sklearn.datasets import make_moons
from steps import points_at

from flowgmm.flows.rng import Stream
from flowgmm.methods.stack import fit_stack
from flowgmm.training.batches import Batches


def test_the_objectives(moons):
    """The parts of the loss add up as documented, at the first step of equal models."""
    X, y, _, _ = moons
    build = partial(small_flow, n_steps=1, zero_init=False, precision="fp64", random_state=0)
    plain = build(unlabelled_weight=0.3).fit(X, y).history_
    expected = plain["labelled_nll"][0] + 0.3 * plain["unlabelled_nll"][0]
    assert plain["loss"][0] == pytest.approx(expected)
    pooled = build(pooled_loss=True).fit(X, y).history_
    expected = (6 * pooled["labelled_nll"][0] + 150 * pooled["unlabelled_nll"][0]) / 156
    assert pooled["loss"][0] == pytest.approx(expected)
    apart = build(labelled_in_unlabelled=False).fit(X, y).history_
    assert apart["unlabelled_nll"][0] != plain["unlabelled_nll"][0]
    alone = build(unlabelled_weight=0).fit(X, y).history_
    assert alone["loss"] == alone["labelled_nll"]
    assert "unlabelled_nll" not in alone
    supervised = build(label_weight=3.0).fit(X, y).history_
    parts = [supervised[k][0] for k in ("labelled_nll", "unlabelled_nll", "labelled_ce")]
    assert supervised["loss"][0] == pytest.approx(parts[0] + parts[1] + 3 * parts[2])


@pytest.mark.parametrize("target", ["joint", "posterior"])
def test_consistency_is_ramped_up(target, moons):
    X, y, _, _ = moons
    model = small_flow(
        consistency_weight=2.0,
        consistency_target=target,
        ramp_up=0.5,
        input_noise=0.1,
        n_steps=4,
        random_state=0,
    )
    history = model.fit(X, y).history_
    for t in range(4):
        weight = 2.0 * min(1.0, (t + 1) / 2)
        parts = [history[k][t] for k in ("labelled_nll", "unlabelled_nll", "consistency")]
        assert history["loss"][t] == pytest.approx(
            parts[0] + parts[1] + weight * parts[2], rel=1e-5
        )


def test_the_teacher_is_what_is_kept(moons):
    """The average of the flows at each of two steps, the start with a tenth of its weight."""
    X, y, _, _ = moons
    fit = partial(
        small_flow,
        consistency_weight=1.0,
        precision="fp64",
        zero_init=False,
        random_state=0,
        lr=1e-2,
    )
    taught = fit(teacher_decay=0.999, n_steps=2, schedule="constant").fit(X, y)
    once = fit(teacher_decay=0.999, n_steps=1).fit(X, y)  # the flow before the first update
    moved = fit(teacher_decay=1e-12, n_steps=2, schedule="constant").fit(X, y)  # and after it
    for name, value in taught.model_.flow.state_dict().items():
        start, end = (m.model_.flow.state_dict()[name] for m in (once, moved))
        torch.testing.assert_close(value, start + (end - start) * (1 - 2 / 11))
    assert not any(name.startswith("teacher") for name in taught.model_.state_dict())


def test_guesses_below_the_threshold_do_not_count(moons):
    """At the first step of equal models: with the threshold at 0 all count, near 1 none."""
    X, y, _, _ = moons
    consistency = [
        small_flow(
            consistency_weight=2.0,
            guess_threshold=threshold,
            input_noise=0.1,
            n_steps=1,
            precision="fp64",
            random_state=0,
        )
        .fit(X, y)
        .history_["consistency"][0]
        for threshold in (0.0, 0.5, 0.6, 1 - 1e-9)
    ]
    assert consistency == sorted(consistency, reverse=True)
    assert consistency[0] == pytest.approx(consistency[1])  # the larger of two is 0.5 at least
    assert consistency[1] > consistency[2] > consistency[3] == 0


def test_consistency_of_the_unlabelled_points_alone(moons):
    """At the first step of equal models the mean over all points is that over both kinds."""
    X, y, _, _ = moons
    labelled = y >= 0

    def consistency(points, on):
        model = small_flow(
            consistency_weight=2.0,
            consistency_on=on,
            labelled_in_unlabelled=False,
            labelled_batch=None,
            unlabelled_batch=len(y),
            n_steps=1,
            preprocess="none",
            precision="fp64",
            random_state=0,
        ).fit(X[points], y[points])
        return model.history_["consistency"][0]

    everything = np.full(len(y), True)
    of_all, of_unlabelled = (consistency(everything, on) for on in ("all", "unlabelled"))
    of_labelled = consistency(labelled, "all")
    share = labelled.mean()
    assert of_unlabelled != pytest.approx(of_labelled)
    assert of_all == pytest.approx(share * of_labelled + (1 - share) * of_unlabelled)


def test_batches_cover_an_epoch():
    """Every unlabelled point once an epoch, in a new order each time; `fixed` repeats its order."""
    codes = np.r_[0, 1, np.full(148, -1)][None]
    seen = {}
    for sampling in ("shuffle", "fixed", "replacement"):
        model = in_use(small_flow(sampling=sampling, unlabelled_batch=40), 2)
        batches = model._batches(
            torch.arange(150.0)[:, None], codes, np.arange(150)[None], Stream([0])
        )
        assert batches.steps_per_epoch == 4
        seen[sampling] = [points_at(batches, step)[2][0, :, 0].tolist() for step in range(8)]
    for sampling in ("shuffle", "fixed"):
        first, second = (
            list(itertools.chain(*part)) for part in (seen[sampling][:4], seen[sampling][4:])
        )
        assert sorted(first) == sorted(second) == list(range(150))
        assert (first == second) == (sampling == "fixed")
    assert seen["fixed"][0] == list(range(40))
    assert {len(batch) for batch in seen["replacement"]} == {40}


@pytest.mark.parametrize("sampling", ["shuffle", "replacement"])
def test_labelled_and_unlabelled_batches_are_independent(sampling):
    """Batches of equal size from the same points hold different ones."""
    x = torch.arange(50.0)[:, None]
    rows = torch.arange(50)[None]
    batches = Batches(x, rows, rows % 2, rows, 10, 10, sampling, Stream([0]))
    for step in range(7):
        labelled, classes, unlabelled = points_at(batches, step)
        assert torch.equal(labelled[..., 0] % 2, classes.float())
        assert not torch.equal(labelled, unlabelled)
        assert not torch.equal(labelled, points_at(batches, step + 1)[2])


def test_of_several_initialisations_the_most_likely_is_kept():
    X, y = make_moons(120, noise=0.1, random_state=0)
    y = np.where(np.arange(120) < 10, y, -1)
    options = LIKELIHOOD_ONLY | {"n_couplings": 2, "hidden_size": 8, "n_steps": 15}
    options |= {"zero_init": False}
    several = flow_gmm(**options, n_init=4, random_state=3).fit(X, y)
    stack = [flow_gmm(**options, n_init=n, random_state=3).fit(X, y) for n in (1, 2, 3)]
    likelihoods = [model.score_samples(X).mean() for model in [*stack, several]]
    # More initialisations contain the fewer, so the best can only rise.
    assert likelihoods == sorted(likelihoods)
    assert likelihoods[-1] > likelihoods[0]


def test_balance_keeps_the_shares_of_the_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))  # one blob: the likelihood does not care where it is cut
    y = np.full(200, -1)
    y[:2], y[2:3] = 0, 1
    options = LIKELIHOOD_ONLY | {"n_couplings": 2, "hidden_size": 16, "n_steps": 150}
    options |= {"unlabelled_batch": 200}
    options |= {"means": "diag", "mean_scale": 2.0, "random_state": 0}
    shares = [
        flow_gmm(**options | {"balance_weight": weight}).fit(X, y).predict_proba(X)[:, 0].mean()
        for weight in (0.0, 100.0)
    ]
    assert abs(shares[1] - 0.5) < 0.03
    assert abs(shares[1] - 0.5) < abs(shares[0] - 0.5)


def test_noise_falls_to_nothing():
    model = in_use(flow_gmm(input_noise=0.4, noise_until=0.5), 2)
    noises = [model._schedule(step, 100).get("noise", 0.0) for step in (0, 25, 50, 99)]
    assert noises == pytest.approx([0.4, 0.2, 0.0, 0.0])
    assert in_use(flow_gmm(input_noise=0.4), 2)._schedule(99, 100)["noise"] == 0.4


def test_keeping_the_best_on_validation_points(moons, tmp_path, monkeypatch):
    """The kept model has the best validation accuracy of all looks, also after a resume."""
    X, y, _, truth = moons
    rows, val = np.arange(100)[None], np.arange(100, 150)[None]

    def fit(**options):
        model = small_flow(random_state=0, keep="best_val", n_steps=200)
        truth_val = truth[val]
        fit_stack([model], X, y[:100][None], rows, (val, truth_val), **options)
        return model

    model = fit()
    best = max(model.history_["val_accuracy"])
    assert np.mean(model.predict(X[100:150]) == truth[100:150]) == pytest.approx(best)
    assert best > min(model.history_["val_accuracy"])

    def stop(step, n_steps, text):
        if step >= 150:
            raise KeyboardInterrupt

    monkeypatch.setattr("flowgmm.training.loop.CHECKPOINT_EVERY", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=tmp_path / "state", progress=stop)
    resumed = fit(checkpoint=tmp_path / "state")
    assert (resumed.score_samples(X) == model.score_samples(X)).all()
    assert resumed.history_ == model.history_
    with pytest.raises(ValueError, match="needs validation points"):
        small_flow(keep="best_val").fit(X, y)
    with pytest.raises(ValueError, match="'keep' parameter of Training must be a str among"):
        small_flow(keep="first").fit(X, y)


@pytest.mark.system
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_flow_trains_the_same(moons):
    X, y, _, _ = moons
    compiled, plain = (
        flow_gmm(n_steps=5, compile=compile, random_state=0).fit(X, y) for compile in (True, False)
    )
    np.testing.assert_allclose(compiled.history_["loss"], plain.history_["loss"], 1e-4)
    assert compiled.model_.state_dict().keys() == plain.model_.state_dict().keys()
