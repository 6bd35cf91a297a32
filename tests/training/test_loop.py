"""The training loop: schedules, clipping, divergence, and resuming bit for bit."""

import contextlib
import itertools
import multiprocessing
import signal
import time

import numpy as np
import pytest
import torch
from estimators import flow_gmm, mlp, scnf
from safetensors.numpy import save_file
from sklearn.datasets import make_moons
from torch import nn

from flowgmm.methods.flow_gmm import FlowGMMClassifier
from flowgmm.methods.stack import fit_stack
from flowgmm.training import loop as train_module
from flowgmm.training.loop import TrainingOptions, train
from flowgmm.training.optim import Group
from flowgmm.training.schedules import SCHEDULES, cool_down, learning_rate_factor, ramp
from flowgmm.utils import signals as interrupt
from flowgmm.utils.errors import UserError
from flowgmm.utils.io import sha256

# -- schedules -------------------------------------------------------------------------------


def test_schedules():
    assert [learning_rate_factor("constant", t, 10) for t in range(10)] == [1.0] * 10
    steps = [learning_rate_factor("steps", t, 10) for t in range(10)]
    assert steps == [1.0] * 5 + [0.1] * 3 + [0.01] * 2
    cosine = [learning_rate_factor("cosine", t, 100) for t in range(100)]
    assert cosine[0] == 1
    assert cosine[50] == pytest.approx(0.5)
    assert cosine[-1] == 1e-3
    assert all(a >= b for a, b in itertools.pairwise(cosine))
    with pytest.raises(ValueError, match="unknown schedule 'cubic'; expected one of constant, co"):
        learning_rate_factor("cubic", 0, 10)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("n_steps", [1, 7, 300])
def test_every_schedule_stays_between_0_and_1(schedule, n_steps):
    factors = [learning_rate_factor(schedule, t, n_steps) for t in range(n_steps)]
    assert all(0 < factor <= 1 for factor in factors)


def test_schedules_of_the_quoted_systems():
    """Laine and Aila: exp(-5 (1 - e/80)^2) up, exp(-12.5 k^2) down; Dai et al.; Maaloe et al."""
    ramps = [learning_rate_factor("ramps", e, 300) for e in range(300)]
    assert ramps[:81:40] == pytest.approx([np.exp(-5), np.exp(-5 / 4), 1])
    assert ramps[80:250] == [1] * 170
    assert ramps[275] == pytest.approx(np.exp(-12.5 / 4))
    assert [cool_down("ramps", e, 300) for e in (0, 249, 275)] == [1, 1, ramps[275]]
    assert {cool_down("cosine", t, 10) for t in range(10)} == {1}
    flat = [learning_rate_factor("flat_linear", t, 12) for t in range(12)]
    assert flat == pytest.approx([1] * 9 + [0.75, 0.5, 0.25])
    stairs = [learning_rate_factor("staircase", t, 1000) for t in (0, 199, 200, 999)]
    assert stairs == [1, 1, 0.75, 0.75**4]


def test_ramp():
    assert [ramp(t, 100, 0.0) for t in (0, 50)] == [1.0, 1.0]
    assert [ramp(t, 100, 0.1) for t in (0, 4, 9, 10, 99)] == pytest.approx([0.1, 0.5, 1, 1, 1])


# -- a toy stack: seed s minimises |w_s - target_s|^2 --------------------------------------


class Toy(nn.Module):
    def __init__(self, n_seeds):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(n_seeds, 3, dtype=torch.float64))
        self.learnt = nn.Parameter(torch.zeros(n_seeds, 1, dtype=torch.float64))


def toy_losses(model, targets, watched=None):
    def losses(inputs):
        loss = (model.w - targets).square().sum(1) + model.learnt.square().sum(1)
        extra = {"labelled_nll": watched(inputs["step"])} if watched else {}
        return {"loss": loss, **extra}

    return losses


def test_gradients_are_clipped_by_seed():
    """A gradient of norm 200 is scaled to norm 3, its neighbour of norm 2 is left alone."""
    targets = torch.tensor([[100.0, 0, 0], [1.0, 0, 0]]).double()
    model = Toy(2)
    seen = []
    handle = model.w.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad.clone()))
    train(model, toy_losses(model, targets), TrainingOptions(1, clip_norm=3.0))
    handle.remove()
    assert seen[0].norm(dim=1).tolist() == [200.0, 2.0]
    assert model.w.grad.norm(dim=1).tolist() == pytest.approx([3.0, 2.0])


def test_mixture_parameters_have_their_own_rate_and_no_decay_or_clipping():
    model = Toy(1)
    with torch.no_grad():
        model.learnt.fill_(5.0)
    targets = torch.zeros(1, 3).double()
    training = TrainingOptions(1, lr=1e-3, weight_decay=0.5, clip_norm=1e-3, mixture_lr=0.25)
    groups = training.groups(model, mixture=[model.learnt])
    train(model, toy_losses(model, targets), training, groups=groups)
    # The first step of Adam is the learning rate; decay would add to it.
    assert model.learnt.item() == pytest.approx(4.75)
    assert model.learnt.grad.item() == 10


@pytest.mark.parametrize(("optimizer", "factor"), [("adamw", 0.9), ("adam", 1.0)])
def test_weight_decay(optimizer, factor):
    """AdamW shrinks the weight itself; Adam's decay vanishes in a gradient of one sign."""
    model = Toy(1)
    with torch.no_grad():
        model.w.fill_(1.0)
    training = TrainingOptions(
        1, optimizer=optimizer, lr=0.1, weight_decay=1.0, schedule="constant"
    )
    train(model, toy_losses(model, torch.zeros(1, 3).double()), training)
    assert model.w[0].tolist() == pytest.approx([factor - 0.1] * 3)


def test_unknown_optimizer():
    model = Toy(1)
    with pytest.raises(ValueError, match="unknown optimizer 'sgd'; expected adam, adamw, adamax"):
        train(model, toy_losses(model, model.w.detach()), TrainingOptions(1, optimizer="sgd"))


@pytest.mark.parametrize(
    ("kind", "twin"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("adamax", torch.optim.Adamax)],
)
def test_optimizers_are_pytorchs(kind, twin):
    """Five steps, with a decay and moments of its own in each of two groups."""
    targets = torch.tensor([[1.0, -2.0, 3.0]]).double()
    ours, theirs = Toy(1), Toy(1)
    losses = toy_losses(ours, targets)
    groups = [Group([ours.w], 0.1, 0.3, betas=(0.5, 0.9)), Group([ours.learnt], 0.2)]
    train(
        ours, losses, TrainingOptions(5, kind, schedule="constant", clip_norm=None), groups=groups
    )
    optimizer = twin(
        [
            {"params": [theirs.w], "lr": 0.1, "weight_decay": 0.3, "betas": (0.5, 0.9)},
            {"params": [theirs.learnt], "lr": 0.2, "weight_decay": 0.0},
        ]
    )
    for _ in range(5):
        optimizer.zero_grad()
        toy_losses(theirs, targets)({})["loss"].sum().backward()
        optimizer.step()
    torch.testing.assert_close(ours.w, theirs.w, rtol=1e-12, atol=0)
    torch.testing.assert_close(ours.learnt, theirs.learnt, rtol=1e-12, atol=0)


def test_the_first_moment_may_cool_down():
    group = Group([], 0.1, final_beta1=0.5)
    assert [group.beta1(factor) for factor in (1, 0.5, 0)] == pytest.approx([0.9, 0.7, 0.5])
    assert Group([], 0.1).beta1(0.0) == 0.9


def test_losses_in_turn_move_their_own_parameters():
    """Two losses: w descends to the target, then `learnt` to the sum of the new w."""
    targets = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]]).double()
    model, seen = Toy(2), []

    def first(inputs):
        return {"loss": (model.w - targets).square().sum(1) + 100 * model.learnt.sum(1)}

    def second(inputs):
        seen.append(model.w.detach()[:, 0].clone())
        return {"loss": (model.learnt.sum(1) - model.w.sum(1)).square(), "gap": model.w.sum(1)}

    groups = [Group([model.w], 0.1), Group([model.learnt], 0.2, betas=(0.0, 0.999), turn=1)]
    training = TrainingOptions(200, "adam", schedule="linear", clip_norm=None)
    history = train(model, [first, second], training, groups=groups)
    assert seen[0].tolist() == pytest.approx([0.1, 0.1])  # after the first update
    torch.testing.assert_close(model.w, targets, rtol=0, atol=1e-3)
    torch.testing.assert_close(model.learnt, targets.sum(1, True), rtol=0, atol=0.1)
    assert set(history.losses) == {"loss", "loss_2", "gap"}


@pytest.mark.parametrize("n_steps", [1, 7, 100, 250, 1000])
def test_history_holds_means_over_all_steps(n_steps):
    model, seen, calls = Toy(2), [], []
    targets = torch.tensor([[1.0, 0, 0], [2.0, 0, 0]]).double()
    inner = toy_losses(model, targets)

    def losses(inputs):
        values = inner(inputs)
        seen.append(values["loss"].detach().clone())
        return values

    history = train(
        model, losses, TrainingOptions(n_steps), progress=lambda *call: calls.append(call)
    )
    assert len(seen) == n_steps == history.steps[-1]
    assert len(history.steps) <= 126
    for (first, last), row in zip(
        itertools.pairwise([0, *history.steps]), history.losses["loss"], strict=True
    ):
        assert row == pytest.approx(torch.stack(seen[first:last]).mean(0).tolist())
    assert [call[:2] for call in calls] == [(step, n_steps) for step in history.steps]
    assert "loss" in calls[0][2]
    assert "ms/step" in calls[0][2]


# -- divergence ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e6])
def test_a_diverged_seed_never_touches_its_neighbours(bad):
    def run(targets):
        model = Toy(3)
        history = train(model, toy_losses(model, targets), TrainingOptions(200, clip_norm=1.0))
        return model.w.detach(), history

    targets = torch.arange(9.0).view(3, 3).double()
    expected, clean = run(targets)
    assert clean.failures == {}
    targets[1] = bad
    found, history = run(targets)
    assert torch.equal(found[[0, 2]], expected[[0, 2]])
    assert list(history.failures) == [1]
    assert history.failures[1].startswith("diverged: mean loss")
    assert history.failures[1].endswith("in the steps up to 2")
    assert history.steps[-1] == 200


def test_training_stops_when_all_seeds_diverged():
    model = Toy(2)
    history = train(
        model, toy_losses(model, torch.full((2, 3), torch.nan).double()), TrainingOptions(1000)
    )
    assert history.steps == [10]
    assert sorted(history.failures) == [0, 1]


def test_a_seed_whose_labelled_nll_stays_above_its_start_has_diverged():
    """Far above for a tenth of the training; a small rise or a short excursion is forgiven."""
    model = Toy(3)

    def watched(step):
        steady = -0.01 * step
        excursion = 50.0 if 300 <= step < 380 else steady
        lasting = 50.0 if 300 <= step < 420 else steady
        return torch.tensor([5.0 if step >= 300 else steady, excursion, lasting]).double()

    history = train(model, toy_losses(model, model.w.detach(), watched), TrainingOptions(1000))
    assert list(history.failures) == [2]
    assert "labelled NLL 50 at step 400 has been above" in history.failures[2]


@pytest.mark.parametrize("bad", [np.inf, 1e30])
def test_a_stack_of_classifiers_with_one_that_diverges(bad):
    """One seed's rows are absurd: it fails with a reason, the others train as without it."""
    X, y = make_moons(60, noise=0.1, random_state=0)
    y[6:] = -1
    X = np.concatenate([X, np.full_like(X, bad)]).astype(np.float32)
    good = np.arange(60)

    def run(rows):
        models = [
            flow_gmm(
                n_couplings=2,
                hidden_size=8,
                preprocess="none",
                n_steps=20,
                clip_norm=5.0,
                random_state=s,
            )
            for s in range(3)
        ]
        fit_stack(models, X, np.tile(y, (3, 1)), rows=np.stack(rows))
        return models

    clean = run([good, good, good])
    mixed = run([good, good + 60, good])
    assert [model.failure_ for model in clean] == [None] * 3
    assert "diverged" in mixed[1].failure_
    assert None in mixed[1].history_["loss"] or max(mixed[1].history_["loss"]) > 1e8
    for s in (0, 2):
        assert mixed[s].failure_ is None
        assert mixed[s].history_ == clean[s].history_
        for a, b in zip(clean[s].model_.parameters(), mixed[s].model_.parameters(), strict=True):
            assert torch.equal(a, b)


# -- checkpoints -----------------------------------------------------------------------------


class InterruptedRunError(Exception):
    pass


METHODS = {
    "flow": lambda seed: flow_gmm(
        n_couplings=2,
        hidden_size=8,
        dropout=0.5,
        learn_weights=True,
        n_steps=250,
        unlabelled_batch=16,
        random_state=seed,
    ),
    "flow_bf16": lambda seed: flow_gmm(
        n_couplings=2,
        hidden_size=8,
        precision="bf16",
        input_noise=0.1,
        n_steps=None,
        n_epochs=40,
        unlabelled_batch=16,
        random_state=seed,
    ),
    "in_turns": lambda seed: flow_gmm(
        n_couplings=2,
        hidden_size=8,
        learn_std=True,
        learn_in_turns=True,
        n_steps=30,
        unlabelled_batch=16,
        random_state=seed,
    ),
    "teacher": lambda seed: flow_gmm(
        n_couplings=2,
        hidden_size=8,
        consistency_weight=1.0,
        teacher_decay=0.9,
        n_steps=30,
        unlabelled_batch=16,
        random_state=seed,
    ),
    "mlp": lambda seed: mlp(hidden_size=8, n_steps=30, labelled_batch=5, random_state=seed),
    # Sizes that come from the first batch.
    "scnf": lambda seed: scnf(n_steps=30, random_state=seed),
    # Batch statistics, augmentation and dequantisation, too.
    "images": lambda seed: flow_gmm(
        n_filters=4,
        n_blocks=1,
        crop_padding=1,
        flip=True,
        learn_weights=True,
        labelled_batch=5,
        unlabelled_batch=7,
        sampling="shuffle_full",
        labelled_in_unlabelled=False,
        n_steps=30,
        random_state=seed,
    ),
}


def fit_moons(method, checkpoint=None, stop_at=None, seeds=(0, 1)):
    X, y = make_moons(60, noise=0.1, random_state=0)
    if method == "images":
        X = (32 * (np.tile(X, 8) + 3)).astype(np.uint8).reshape(60, 1, 4, 4)
    y[12:] = -1
    models = [METHODS[method](seed) for seed in seeds]

    def progress(step, n_steps, text):
        if stop_at is not None and step >= stop_at:
            raise InterruptedRunError

    ys = np.tile(y, (len(seeds), 1))
    fit_stack(models, X, ys, checkpoint=checkpoint, progress=progress)
    return models


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_run_resumes_bit_for_bit(method, tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "CHECKPOINT_EVERY", 0.0)
    expected = fit_moons(method)
    n_steps = expected[0].n_iter_
    checkpoint = tmp_path / "run.safetensors"
    for share in (0.3, 0.5, 0.9):
        with pytest.raises(InterruptedRunError):
            fit_moons(method, checkpoint, stop_at=share * n_steps)
        assert checkpoint.exists()
    found = fit_moons(method, checkpoint)
    for a, b in zip(expected, found, strict=True):
        assert a.history_ == b.history_
        assert a.n_iter_ == b.n_iter_
        for name, value in a.model_.state_dict().items():
            assert torch.equal(value, b.model_.state_dict()[name]), name
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_failed_seed_stays_failed_after_resuming(tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "CHECKPOINT_EVERY", 0.0)

    def run(stop_at, checkpoint=None):
        model = Toy(2)
        targets = torch.ones(2, 3).double()
        inner = toy_losses(model, targets)

        def losses(inputs):
            values = inner(inputs)
            # A loss that is bad in the first steps only.
            bad = 1e9 if inputs["step"] < 10 else 0.0
            return {"loss": values["loss"] + torch.tensor([0.0, bad])}

        def progress(step, *_):
            if step == stop_at:
                raise InterruptedRunError

        return train(model, losses, TrainingOptions(100), checkpoint=checkpoint, progress=progress)

    expected = run(None)
    with pytest.raises(InterruptedRunError):
        run(50, tmp_path / "c")
    found = run(None, tmp_path / "c")
    assert list(expected.failures) == [1]
    assert found == expected


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "foreign", "flipped"])
def test_a_damaged_checkpoint_is_set_aside(damage, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train_module, "CHECKPOINT_EVERY", 0.0)
    checkpoint = tmp_path / "run.safetensors"
    expected = fit_moons("mlp")
    with pytest.raises(InterruptedRunError):
        fit_moons("mlp", checkpoint, stop_at=15)
    whole = checkpoint.read_bytes()
    if damage == "truncated":
        checkpoint.write_bytes(whole[: len(whole) // 2])
    elif damage == "empty":
        checkpoint.write_bytes(b"")
    elif damage == "text":
        checkpoint.write_text("not a checkpoint")
    elif damage == "flipped":  # a bit of a parameter's mantissa, which nothing else would notice
        checkpoint.write_bytes(whole[:-100] + bytes([whole[-100] ^ 1]) + whole[-99:])
    else:
        save_file({"x": np.zeros(3)}, checkpoint)
    found = fit_moons("mlp", checkpoint)
    said = capsys.readouterr().err
    assert "run.safetensors is damaged" in said
    assert "starts afresh" in said
    assert (tmp_path / "run.safetensors.damaged").exists()
    for a, b in zip(expected, found, strict=True):
        assert a.history_ == b.history_
        for x, y in zip(a.model_.parameters(), b.model_.parameters(), strict=True):
            assert torch.equal(x, y)


@pytest.fixture
def signals(monkeypatch):
    """Signals as scripts take them; as before afterwards."""
    before = {number: signal.getsignal(number) for number in interrupt.SIGNALS}
    monkeypatch.setattr(interrupt, "_received", None)
    interrupt.install_handlers()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("method", ["flow", "images"])
@pytest.mark.parametrize("share", [0.0, 0.41, 1.0])
def test_a_signal_saves_the_step_it_comes_in(method, share, signals, tmp_path, monkeypatch):
    """Between two evaluations as well, and in the last step; then it goes on bit for bit."""
    expected = fit_moons(method)
    n_steps = expected[0].n_iter_
    step_of_signal = round(share * (n_steps - 1))
    steps = []

    def factor(schedule, step, n_steps):
        steps.append(step)
        if step == step_of_signal and len(steps) <= step + 1:
            signal.raise_signal(signal.SIGTERM)
        return learning_rate_factor(schedule, step, n_steps)

    monkeypatch.setattr(train_module, "learning_rate_factor", factor)
    checkpoint = tmp_path / "run.safetensors"
    reached = rf"by SIGTERM: step {step_of_signal + 1} of {n_steps} done, the checkpoint is saved;"
    with pytest.raises(interrupt.Interrupted, match=reached):
        fit_moons(method, checkpoint)
    monkeypatch.setattr(interrupt, "_received", None)
    found = fit_moons(method, checkpoint)
    assert steps == list(range(n_steps))  # none twice
    for a, b in zip(expected, found, strict=True):
        assert a.history_ == b.history_
        for x, y in zip(a.model_.parameters(), b.model_.parameters(), strict=True):
            assert torch.equal(x, y)


def test_a_signal_that_nobody_waits_for_ends_at_once(signals):
    with pytest.raises(interrupt.Interrupted, match="SIGINT: run the same command again"):
        signal.raise_signal(signal.SIGINT)
    with pytest.raises(interrupt.Interrupted), interrupt.deferred():  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        reached = True
    assert reached


def test_a_checkpoint_belongs_to_its_seeds_and_data(tmp_path, monkeypatch):
    monkeypatch.setattr(train_module, "CHECKPOINT_EVERY", 0.0)
    checkpoint = tmp_path / "run.safetensors"
    with pytest.raises(InterruptedRunError):
        fit_moons("mlp", checkpoint, stop_at=15)
    with pytest.raises(UserError, match="belongs to another run"):
        fit_moons("mlp", checkpoint, seeds=(0, 2))
    X, y = make_moons(60, noise=0.1, random_state=1)
    models = [METHODS["mlp"](seed) for seed in (0, 1)]
    with pytest.raises(UserError, match="belongs to another run"):
        fit_stack(models, X, np.tile(y, (2, 1)), checkpoint=checkpoint)
    fit_moons("mlp", checkpoint)


def test_no_checkpoint_before_its_time(tmp_path):
    fit_moons("mlp", tmp_path / "run.safetensors")
    assert not list(tmp_path.iterdir())


KILLED = {
    "vectors": {"n_couplings": 3, "hidden_size": 16, "dropout": 0.3},
    "images": {
        "n_filters": 4,
        "n_blocks": 1,
        "crop_padding": 1,
        "labelled_nll": "mixture",
        "pooled_loss": True,
        "consistency_target": "joint",
        "ramp_up": 0.5,
        "labelled_batch": 4,
        "unlabelled_batch": 4,
        "sampling": "shuffle_full",
        "labelled_in_unlabelled": False,
    },
}


def train_and_save(folder, steps, kind):
    """Body of the process that is killed; reports every evaluation."""
    torch.set_num_threads(1)
    train_module.CHECKPOINT_EVERY = 0.0
    X, y = make_moons(60, noise=0.1, random_state=0)
    if kind == "images":
        X = (32 * (np.tile(X, 8) + 3)).astype(np.uint8).reshape(60, 1, 4, 4)
    y[6:] = -1
    models = [flow_gmm(**KILLED[kind], n_steps=200, random_state=s) for s in (0, 1)]
    fit_stack(
        models,
        X,
        np.stack([y, y]),
        checkpoint=folder / "checkpoint",
        progress=lambda step, n_steps, text: steps.send(step),
    )
    FlowGMMClassifier.save_stack(folder / "model.safetensors", models)


@pytest.mark.system
@pytest.mark.parametrize("kind", KILLED)
def test_kill_9_at_any_moment_and_resume(kind, tmp_path):
    """Killed at moments that differ from run to run; the final file is the same to the bit."""
    # A server that has imported torch forks the processes: each would need seconds for that.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flowgmm.methods.flow_gmm", "sklearn.datasets", "pytest"])

    def start(name):
        (tmp_path / name).mkdir(exist_ok=True)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=train_and_save, args=(tmp_path / name, sender, kind))
        process.start()
        sender.close()
        return process, receiver

    def steps_of(receiver):
        with contextlib.suppress(EOFError):
            while True:
                yield receiver.recv()

    whole, whole_steps = start("whole")
    for wait_for in (20, 60, 120):
        victim, receiver = start("killed")
        reached = next(step for step in steps_of(receiver) if step >= wait_for)
        # Anywhere within the next steps, the writing of a checkpoint included.
        time.sleep(np.random.default_rng().uniform(0, 0.03))
        victim.kill()
        victim.join()
        assert victim.exitcode == -signal.SIGKILL
    last, receiver = start("killed")
    steps = list(steps_of(receiver))
    assert list(steps_of(whole_steps)) == [*range(2, 201, 2)]
    for process in (last, whole):
        process.join()
        assert process.exitcode == 0
    # It went on from a checkpoint instead of starting afresh.
    assert reached <= steps[0] < steps[-1] == 200
    files = [tmp_path / name / "model.safetensors" for name in ("whole", "killed")]
    assert sha256(files[0]) == sha256(files[1])


def test_the_best_parameters_are_kept_seed_by_seed():
    """Scores that peak at different steps: each seed ends with the parameters it had there."""
    model = Toy(2)
    seen = []

    def validate():
        seen.append(model.w.detach().clone())
        n = len(seen)
        return torch.tensor([-abs(n - 3.0), -abs(n - 7.0)])

    history = train(
        model, toy_losses(model, torch.ones(2, 3).double()), TrainingOptions(100), validate=validate
    )
    assert torch.equal(model.w[0], seen[2][0])
    assert torch.equal(model.w[1], seen[6][1])
    assert len(history.losses["val_accuracy"]) == len(history.steps) == len(seen)
