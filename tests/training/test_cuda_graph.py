"""A recorded step does what the step does: on a CPU with an imitation of a CUDA graph."""

from functools import partial

import numpy as np
import pytest
import torch
from estimators import adgm, badgan, diglm, flow_gmm, mlp, pi_model, scnf
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from flowgmm.flows.rng import CounterStream
from flowgmm.methods import stack
from flowgmm.methods.stack import fit_stack
from flowgmm.training.loop import TrainingOptions, train

OF_IMAGES = {"n_steps": 8, "unlabelled_batch": 32, "lr": 1e-2}
VECTORS = {"hidden_size": 16, "n_steps": 40, "unlabelled_batch": 32, "lr": 1e-2}
IMAGES = {"n_filters": 4, "n_blocks": 1, "pool": 2, "crop_padding": 1, "flip": True}
# Each with something that changes from step to step: noise that ends, weights that grow, a last
# batch that is smaller.
CASES = {
    "flow": partial(flow_gmm, n_couplings=2, noise_until=0.5, ramp_up=0.4, **VECTORS),
    "flow, drawn anew": partial(
        flow_gmm, n_couplings=2, sampling="replacement", labelled_batch=4, **VECTORS
    ),
    "flow, constant noise": partial(
        flow_gmm, n_couplings=2, learn_std=True, clip_norm=None, dropout=0.3, **VECTORS
    ),
    "mixture in turns": partial(
        flow_gmm, n_couplings=2, learn_std=True, learn_in_turns=True, **VECTORS
    ),
    "images": partial(flow_gmm, architecture="mnist_small", **IMAGES, **OF_IMAGES),
    "teacher": partial(
        flow_gmm,
        n_couplings=2,
        consistency_weight=1.0,
        teacher_decay=0.9,
        guess_threshold=0.5,
        **VECTORS,
    ),
    "GAN on images": partial(
        badgan, width=3, generator_width=2, optimizer="adam", schedule="flat_linear", **OF_IMAGES
    ),
    "DIGLM": partial(diglm, n_couplings=2, sampling="replacement", **VECTORS),
    "class sum on images": partial(adgm, hidden_size=8, n_latent=3, samples=2, **OF_IMAGES),
    "Pi-model": partial(pi_model, ramp_up=0.4, **VECTORS),
    # Adamax is not recorded.
    "SCNF": partial(scnf, n_steps=40, optimizer="adam"),
    "MLP": partial(mlp, hidden_size=16, n_steps=30, lr=1e-2),
}


def imitated(step, static):
    """Record the operations of a step, then run those: what Python says is said once, as then.

    Results have one place, as a graph's. What it does not find is a copy from Python's memory.
    """
    results = {}

    def flat(*values):
        results.update(step(dict(zip(static, values, strict=True))))
        return results

    recorded = make_fx(flat)(*static.values())
    made = True  # to record is to make the step, here; a graph only looks

    @torch.no_grad()  # the gradients are among what was recorded
    def replay():
        nonlocal made
        if not made:
            for name, value in recorded(*static.values()).items():
                results[name].copy_(value)
        made = False
        return results

    return replay


def data(images):
    rng = np.random.default_rng(0)
    shape = (1, 8, 8) if images else (6,)
    X = rng.normal(size=(100, *shape)).astype(np.float32)
    y = np.where(np.arange(100) < 12, np.arange(100) % 3, -1)
    X += y.reshape(-1, *[1] * len(shape)) * 0.5
    return (255 / (1 + np.exp(-X))).astype(np.uint8) if images else X, y


def fitted(name, precision, device="cpu"):
    X, y = data("images" in name)
    estimators = [CASES[name](precision=precision, device=device, random_state=s) for s in (1, 2)]
    fit_stack(estimators, X, np.stack([y, y]))
    return estimators


@pytest.fixture
def recording(monkeypatch):
    """Training as on a GPU, with what `cuda_graph` would take for a graph; counts recordings."""
    monkeypatch.setattr(stack, "make_stream", CounterStream)
    monkeypatch.setattr("flowgmm.training.loop.capturer", lambda device: capture)
    kinds = []

    def capture(step, static):
        kinds.append({name: tuple(value.shape) for name, value in static.items()})
        return record(step, static)

    record = imitated

    def switch(to):
        nonlocal record
        record = to
        kinds.clear()
        return kinds

    return switch


def call_by_call(step, static):
    return lambda: step(static)


@pytest.mark.parametrize(
    ("name", "precision"),
    # Recording the image flow takes twenty seconds: once, and not in the quick suite.
    [
        pytest.param("images", "fp64", marks=pytest.mark.system),
        ("GAN on images", "fp64"),
        ("class sum on images", "fp64"),
        *((name, p) for name in CASES for p in ("fp64", "bf16") if "images" not in name),
    ],
)
def test_a_recorded_step_is_the_step(name, precision, recording):
    """Over a whole training, with learning rates, batches, noise and masks of their own steps."""
    recording(call_by_call)
    expected = fitted(name, precision)
    kinds = recording(imitated)
    found = fitted(name, precision)
    # Of "shuffle" the last, smaller batch, and steps without noise, are other kinds.
    assert len(kinds) == {
        "flow": 4,
        "flow, constant noise": 2,
        "mixture in turns": 2,
        "teacher": 2,
        "Pi-model": 2,
    }.get(name, 1)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.history_ == theirs.history_
        before = ours.history_["loss"]
        assert before[-1] != before[0]
        for key, value in ours.model_.state_dict().items():
            assert torch.equal(value, theirs.model_.state_dict()[key]), key


class Weight(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(2, 3))


def test_the_imitation_finds_what_a_graph_would_freeze(recording):
    """A number that changes with the step behind the inputs' back stays what it was."""
    found = []
    for record in (call_by_call, imitated):
        recording(record)
        model, clock = Weight(), [0]

        def losses(inputs, model=model, clock=clock):
            clock[0] += 1
            return {"loss": (model.w - clock[0] * inputs["target"]).square().sum(1)}

        train(model, losses, TrainingOptions(50, lr=0.1), inputs=lambda step: {"target": 1.0})
        found.append(model.w.detach())
    assert (found[0] - found[1]).abs().min() > 0.1


@pytest.mark.parametrize("wait", [torch.Tensor.item, bool])
def test_the_imitation_finds_a_wait_for_the_device(wait, recording):
    recording(imitated)
    model = Weight()

    def losses(inputs):
        loss = (model.w - inputs["target"]).square().sum(1)
        wait(loss.detach().sum())
        return {"loss": loss}

    with pytest.raises(RuntimeError, match="get value out of a tracing tensor"):
        train(model, losses, TrainingOptions(50), inputs=lambda step: {"target": 1.0})


def goes_on_from_a_checkpoint(folder, device):
    X, y = data(images=False)
    whole, parts = (
        CASES["Pi-model"](precision="fp64", device=device, random_state=3) for _ in range(2)
    )
    fit_stack([whole], X, y[None])
    for share in (0.4, 1.0):
        fit_stack([parts], X, y[None], share=share, checkpoint=folder / "state.safetensors")
    for key, value in whole.model_.state_dict().items():
        assert torch.equal(value, parts.model_.state_dict()[key])


def test_training_goes_on_from_a_checkpoint_as_without(recording, tmp_path):
    """The optimizer's moments of the checkpoint are those that the graph changes."""
    kinds = recording(imitated)
    goes_on_from_a_checkpoint(tmp_path, "cpu")
    assert kinds


def test_sums_of_losses_are_no_view_of_what_the_next_step_overwrites(recording):
    means = []
    for record in (call_by_call, imitated):
        recording(record)
        model = Weight()
        history = train(
            model,
            lambda inputs, model=model: {"loss": (model.w - inputs["step"]).square().sum(1)},
            TrainingOptions(300, lr=0.1),
        )
        means.append(history.losses["loss"])
    assert means[0] == means[1]


on_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


@on_a_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(name, precision, monkeypatch):
    found = fitted(name, precision, "cuda")
    monkeypatch.setattr("flowgmm.training.loop.capturer", lambda device: None)
    for ours, theirs in zip(found, fitted(name, precision, "cuda"), strict=True):
        for key, value in ours.model_.state_dict().items():
            torch.testing.assert_close(value, theirs.model_.state_dict()[key], rtol=1e-3, atol=1e-4)


@on_a_gpu
def test_a_gpu_starts_where_a_cpu_does():
    """Weights, means and batches are drawn by the CPU: a step without noise ends all but equal."""
    found = [
        flow_gmm(
            n_steps=1,
            dropout=0.0,
            input_noise=0.0,
            zero_init=False,
            precision="fp64",
            device=device,
            random_state=1,
        ).fit(*data(images=False))
        for device in ("cpu", "cuda")
    ]
    for ours, theirs in zip(*(model.model_.parameters() for model in found), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)


@on_a_gpu
def test_training_on_a_gpu_goes_on_from_a_checkpoint(tmp_path):
    goes_on_from_a_checkpoint(tmp_path, "cuda")


@on_a_gpu
def test_a_compiled_flow_on_a_gpu():
    compiled, plain = (
        flow_gmm(n_steps=20, compile=compile, device="cuda", random_state=1).fit(
            *data(images=False)
        )
        for compile in (True, False)
    )
    np.testing.assert_allclose(compiled.history_["loss"], plain.history_["loss"], 1e-3)


@on_a_gpu
def test_a_step_on_a_gpu_waits_for_nothing():
    """But at evaluations, a hundred times a training, where losses are read."""
    model = pi_model(n_steps=1000, device="cuda", random_state=1)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with pytest.warns(UserWarning, match="synchronizing") as record:
            model.fit(*data(images=False))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(record) < 1000
