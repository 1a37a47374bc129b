"""Losses with a running state in the training of language models, and in its checkpoints."""

import copy
import functools
import json

import numpy as np
import pytest
import torch
from lm_made import random_ids

from prefsim import losses
from prefsim.containers import PairLogps, UnpairedLogps
from prefsim.lm import TextComparisons, TextFeedback
from prefsim.lm.model.digests import write_digests
from prefsim.lm.training import checkpoint as disk
from prefsim.solvers import fit

OPTIONS = {
    "steps": 6,
    "batch_size": 4,
    "learning_rate": 3e-3,
    "max_grad_norm": None,
    "optimizer": "sgd",
    "schedule": "constant",
    "warmup": 0.0,
    "order": "given",
    "progress": False,
    "log_every": 1,
}
RNG = np.random.default_rng(0)
PAIRS = TextComparisons(random_ids(RNG, 8), random_ids(RNG, 8), random_ids(RNG, 8))
THUMBS = TextFeedback(
    random_ids(RNG, 8), random_ids(RNG, 8), [1, 0, 0.25, 1, 0, 0.5, 1, 1], weight=1 + np.arange(8)
)
RUNNING = {
    "beta_dpo": (losses.running_beta_dpo(beta=0.5, keep=0.5, seed=1), PAIRS),
    "bco": (losses.running_bco(beta=0.5), THUMBS),
}


def log_probs(model, prompts, completions):
    """In the plainest PyTorch: one sequence at a time."""

    def one(prompt, completion):
        ids = torch.tensor([prompt + completion])
        logs = torch.log_softmax(model(input_ids=ids).logits[0], dim=-1)
        return sum(logs[len(prompt) + t - 1, token] for t, token in enumerate(completion))

    return torch.stack([one(*row) for row in zip(prompts, completions, strict=True)])


def as_seen(data, model, reference):
    """What a loss sees of rows of text, and the weights."""
    if isinstance(data, TextComparisons):
        with torch.no_grad():
            theirs = [log_probs(reference, data.prompt, c) for c in (data.chosen, data.rejected)]
        ours = [log_probs(model, data.prompt, c) for c in (data.chosen, data.rejected)]
        return PairLogps(*ours, *theirs), torch.ones(len(data), dtype=torch.float64)
    with torch.no_grad():
        theirs = log_probs(reference, data.prompt, data.completion)
    ours, label = log_probs(model, data.prompt, data.completion), torch.tensor(data.label)
    liked = torch.arange(2 * len(data)) < len(data)
    logps = UnpairedLogps(torch.cat([ours, ours]), torch.cat([theirs, theirs]), liked)
    return logps, torch.tensor(data.weight).repeat(2) * torch.cat([label, 1 - label])


@pytest.fixture(scope="module", params=RUNNING)
def case(request):
    return RUNNING[request.param]


def test_the_state_follows_the_batches(tiny64, case):
    """Against the same few steps by hand."""
    loss, data = case
    result = fit(tiny64, loss, data, reference=tiny64, **(OPTIONS | {"steps": 3}))
    model, by_hand = copy.deepcopy(tiny64.model), loss
    for step in range(3):
        rows = np.arange(4 * step, 4 * step + 4) % 8
        logps, weight = as_seen(data.take(rows), model, tiny64.model)
        by_hand = by_hand.after(logps, weight)
        value = (weight * by_hand(logps)).sum() / (4 * data.weight.mean())
        assert result.history[step, 0] == pytest.approx(float(value.detach()), rel=1e-9)
        parameters = list(model.parameters())
        gradients = torch.autograd.grad(value, parameters)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter -= 3e-3 * gradient
    assert list(result.loss.state) == pytest.approx(list(by_hand.state), rel=1e-9)
    assert result.metrics[-1]["loss_mean"] == result.loss.state.mean
    # What was given is not changed.
    assert loss.state.mean == 0


def test_a_resumed_training_has_its_state_back(tiny, case, tmp_path):
    loss, data = case
    whole = fit(tiny, loss, data, reference=tiny, **OPTIONS)
    options = OPTIONS | {"out": tmp_path, "save_every": 2, "keep": 9}
    fit(tiny, loss, data, reference=tiny, **options)
    for step in (4, 6):
        # As if the training had ended after its second step.
        folder = tmp_path / f"checkpoints/step-{step:08d}"
        (folder / disk.STATE).unlink()
    stored = disk.latest(tmp_path / "checkpoints")
    assert stored.step == 2
    assert set(stored.state["loss_state"]) == set(loss.state._fields)
    resumed = fit(tiny, loss, data, reference=tiny, resume=True, **options)
    np.testing.assert_array_equal(resumed.history, whole.history)
    assert resumed.loss.state == whole.loss.state

    # Without the state the end is another.
    for step in (4, 6):
        (tmp_path / f"checkpoints/step-{step:08d}" / disk.STATE).unlink()
    folder = tmp_path / "checkpoints/step-00000002"
    state = json.loads((folder / disk.STATE).read_text())
    (folder / disk.STATE).write_text(json.dumps(state | {"loss_state": None}))
    write_digests(folder)
    forgotten = fit(tiny, loss, data, reference=tiny, resume=True, **options)
    assert np.abs(forgotten.history - whole.history)[2:].max() > 1e-4


def test_another_start_of_the_state_is_another_training(tiny, tmp_path):
    loss, data = RUNNING["bco"]
    options = OPTIONS | {"out": tmp_path, "save_every": 3}
    fit(tiny, loss, data, reference=tiny, **options)
    moved = losses.RunningLoss(loss.loss, losses.RunningShift(0.5, 1.0, 3))
    with pytest.raises(ValueError, match="loss must be what it was before the interruption"):
        fit(tiny, moved, data, reference=tiny, resume=True, **options)


def test_the_state_sees_micro_batches_in_the_order_of_the_rows(tiny64):
    """Each part before its own values: what BCO's mean of all rewards was by then."""
    loss, data = RUNNING["bco"]
    split = OPTIONS | {"steps": 1, "batch_size": 8, "gradient_accumulation": 2}
    reference = copy.deepcopy(tiny64)
    with torch.no_grad():
        for parameter in reference.log_prob_model.parameters():
            parameter *= 0.9
    result = fit(tiny64, loss, data, reference=reference, **split)
    total, by_hand = 0.0, loss
    for rows in (np.arange(4), np.arange(4, 8)):
        logps, weight = as_seen(data.take(rows), tiny64.model, reference.model)
        by_hand = by_hand.after(logps, weight)
        total += float((weight * by_hand(logps)).sum().detach())
    assert result.value == pytest.approx(total / (8 * data.weight.mean()), rel=1e-9)
    assert list(result.loss.state) == pytest.approx(list(by_hand.state), rel=1e-9)


def test_what_the_loss_cannot_weigh_is_refused(tiny):
    soft = TextComparisons(PAIRS.prompt, PAIRS.chosen, PAIRS.rejected, prob=np.full(8, 0.7))
    with pytest.raises(ValueError, match="hard labels of equal weight"):
        fit(tiny, RUNNING["beta_dpo"][0], soft, reference=tiny, **OPTIONS)


def test_a_loss_without_state_has_none_in_its_result(tiny):
    loss = functools.partial(losses.dpo, beta=0.5)
    result = fit(tiny, loss, PAIRS, reference=tiny, **(OPTIONS | {"steps": 1}))
    assert result.loss is loss
    assert not any(name.startswith("loss_") for name in result.metrics[-1])


@pytest.mark.parametrize("is_empty", [False, True])
def test_processes_move_one_state_by_what_all_of_them_see(monkeypatch, is_empty):
    """A process without examples of its own takes part with none."""
    from types import SimpleNamespace

    import accelerate.utils

    from prefsim.lm.training.loss_evaluator import LossEvaluator, Seen

    def rows(*log_ratio):
        ratio = torch.tensor(log_ratio, dtype=torch.float64)
        return UnpairedLogps(ratio, 0 * ratio, ratio > 0), torch.ones_like(ratio)

    other = tuple(np.asarray(part) for part in rows(3.0)[0][:3])
    gathered = []

    def gather_object(own):
        gathered.append(own)
        return [*own, (UnpairedLogps(*other), np.ones(1))]

    monkeypatch.setattr(accelerate.utils, "gather_object", gather_object)
    nothing = dict.fromkeys(("policy", "data", "rows"))
    evaluator = LossEvaluator(**nothing, loss=losses.running_bco(beta=0.5))
    seen = Seen(*rows(1.0, 2.0), router_loss=None)
    evaluator.move_loss(seen, SimpleNamespace(num_processes=2), counts=not is_empty)
    assert len(gathered[0]) == (0 if is_empty else 1)
    expected = (0.5, 1.5, 1.0) if is_empty else (0.5, 1.0, 3.0)
    assert evaluator.loss.state == expected
