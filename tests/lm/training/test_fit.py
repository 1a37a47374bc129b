"""``fit`` for language models.

Every loss that text can feed, against a plain loop, however a step is split and whatever the
reference.
"""

import functools

import numpy as np
import pytest
import torch
from checks import base_options
from lm_made import adapted_llama, largest_difference, random_pairs, rich_data, small_llama

from prefsim import losses
from prefsim.containers import map_fields
from prefsim.lm import (
    CausalLM,
    TextComparisons,
    TextFeedback,
    references_of,
)
from prefsim.lm.training.batches import epoch_batches
from prefsim.solvers import fit

# What a causal language model does not give, and why.
NOT_FROM_A_LANGUAGE_MODEL = {
    losses.PairRewards: "rewards come from a head of their own: test_reward_models.py",
    losses.ClassLogits: "class scores come from a head of their own: test_reward_models.py",
    losses.DegreeLogits: "degree scores come from a head of their own: test_reward_models.py",
    losses.DistillationLogits: "scores of a student and of a teacher, which are two models",
    losses.GaussianRewards: "means and deviations of rewards, which no head gives together",
    losses.TokenValues: "values come from a head of their own: test_critics.py",
    losses.ClassPairs: "class scores and rewards of heads, which no model has together",
    losses.DegreePairLogps: "log-probabilities and a head of degrees, which no model has together",
}

LOSSES = losses.loss_functions()

FED = sorted(
    name
    for name, loss in LOSSES.items()
    if losses.container_of(loss) not in NOT_FROM_A_LANGUAGE_MODEL
)


dpo = functools.partial(losses.dpo, beta=0.5)

QUICK = {"batch_size": 4, "learning_rate": 1e-3, "warmup": 0.0, "progress": False}


@pytest.mark.parametrize("name", FED)
def test_every_loss_trains(tiny, name):
    loss = functools.partial(LOSSES[name], **base_options(LOSSES[name]))
    start = tiny.with_masks("independent") if name == "sparse_po" else tiny
    found = fit(
        start,
        loss,
        rich_data(losses.container_of(loss)),
        reference=tiny,
        steps=2,
        schedule="constant",
        **QUICK,
    )
    assert found.steps == len(found.history) == 2
    assert np.isfinite(found.history).all()
    assert found.history[0, 1] > 0
    assert largest_difference(found.policy, start) > 0


@pytest.mark.parametrize("name", sorted(LOSSES.keys() - set(FED)))
def test_what_a_language_model_does_not_give_is_refused(tiny, name):
    kind = losses.container_of(LOSSES[name]).__name__
    takes = "(scores: fit|scores of a student|scores of classes and|log-probab|means and dev)"
    with pytest.raises(ValueError, match=f"a loss of {kind} takes {takes}"):
        fit(tiny, LOSSES[name], random_pairs(), reference=tiny)
    with pytest.raises(ValueError, match=r"TextFeedback feed losses of .* got a loss of PairLogps"):
        fit(tiny, dpo, TextFeedback([[3]], [[4]], [1]), reference=tiny)


def plain_dpo(policy, data, order, *, steps, rate, beta, decay=0.0):
    """DPO in the plainest PyTorch.

    One sequence at a time, logits and a log-softmax, no accelerate.
    """
    import copy

    model, reference = copy.deepcopy(policy.model), copy.deepcopy(policy.model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay)

    def log_prob(net, prompt, completion):
        logs = torch.log_softmax(
            net(input_ids=torch.tensor([prompt + completion])).logits[0], dim=-1
        )
        return sum(logs[len(prompt) + t - 1, token] for t, token in enumerate(completion))

    values = []
    for step in range(steps):
        rows = order[step]
        total = 0.0
        for i in rows:
            x, w, low = data.prompt[i], data.chosen[i], data.rejected[i]
            with torch.no_grad():
                start = log_prob(reference, x, w) - log_prob(reference, x, low)
            margin = log_prob(model, x, w) - log_prob(model, x, low) - start
            total = total - torch.nn.functional.logsigmoid(beta * margin) / len(rows)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        values.append(float(total.detach()))
    return model, values


def test_training_equals_a_plain_loop(tiny64):
    data = random_pairs(7)
    options = {
        "steps": 5,
        "batch_size": 3,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup": 0.0,
        "max_grad_norm": None,
    }
    found = fit(tiny64, dpo, data, reference=tiny64, seed=3, progress=False, **options)
    order = [
        epoch_batches(found_lengths(data), 3, order="by_length", seed=3, epoch=epoch)
        for epoch in (0, 1)
    ]
    model, values = plain_dpo(tiny64, data, order[0] + order[1], steps=5, rate=1e-3, beta=0.5)
    np.testing.assert_allclose(found.history[:, 0], values, rtol=0, atol=1e-9)
    for (name, p), q in zip(found.policy.model.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=1e-6, msg=name)


def found_lengths(data):
    rows = zip(data.prompt, data.chosen, data.rejected, strict=True)
    return np.asarray([len(x) + max(len(w), len(low)) for x, w, low in rows])


@pytest.mark.parametrize(
    "loss", [dpo, functools.partial(losses.ld_dpo, alpha=0.3)], ids=["sequences", "tokens"]
)
def test_how_a_step_is_split_changes_nothing(tiny64, loss):
    rng = np.random.default_rng(2)
    data = random_pairs(
        7, weight=1 + 5 * rng.random(7), prob=rng.random(7) if loss is dpo else None
    )
    options = QUICK | {"batch_size": 7, "optimizer": "sgd", "learning_rate": 1e-2}
    whole = fit(tiny64, loss, data, reference=tiny64, steps=2, **options)
    longest = 2 * int(found_lengths(data).max())
    ways = [{"gradient_accumulation": parts} for parts in (2, 7, 9)]
    ways += [{"micro_batch_tokens": tokens} for tokens in (longest, 2 * longest, 10**6)]
    for way in ways:
        split = fit(tiny64, loss, data, reference=tiny64, steps=2, **way, **options)
        np.testing.assert_allclose(split.history, whole.history, rtol=1e-11)
        assert largest_difference(split.policy, whole.policy) < 1e-12


def test_weights_are_relative_and_weigh_examples(tiny64):
    """Batches of one example.

    Each step's gradient is that of its example times its weight over the mean weight.
    """
    data = random_pairs(2, weight=[1.0, 3.0])
    options = QUICK | {"batch_size": 1, "order": "given", "max_grad_norm": None}
    found = fit(
        tiny64, dpo, data, reference=tiny64, steps=2, **(options | {"learning_rate": 1e-12})
    )
    np.testing.assert_allclose(found.history[:, 0], [0.5 * np.log(2), 1.5 * np.log(2)], rtol=1e-9)


def test_a_batch_coupled_loss_sees_the_micro_batch(tiny64):
    data, options = (
        random_pairs(6),
        QUICK | {"batch_size": 6, "order": "given", "max_grad_norm": None},
    )
    whole = fit(tiny64, losses.aot, data, reference=None, steps=1, **options)
    chosen, rejected = (
        tiny64.log_prob(data.prompt, side).numpy() for side in (data.chosen, data.rejected)
    )
    zero = np.zeros(6)
    logps = losses.PairLogps(chosen=chosen, rejected=rejected, ref_chosen=zero, ref_rejected=zero)
    assert whole.value == pytest.approx(losses.aot(logps).mean(), rel=1e-9)
    split = fit(
        tiny64, losses.aot, data, reference=None, steps=1, gradient_accumulation=2, **options
    )
    halves = [
        losses.aot(map_fields(logps, lambda column, part=part: column[part])).mean()
        for part in (slice(3), slice(3, 6))
    ]
    assert split.value == pytest.approx(np.mean(halves), rel=1e-9)


@pytest.mark.parametrize("loss", [dpo, losses.tdpo2, losses.wpo], ids=["dpo", "tdpo2", "wpo"])
def test_references_give_the_same_numbers(tmp_path, loss):
    policy, data = adapted_llama(), random_pairs(7)
    fixed = CausalLM.from_config(small_llama(64), seed=0)
    options = QUICK | {"steps": 3, "learning_rate": 1e-2}
    ways = [policy.without_adapters(), fixed, policy.frozen()]
    if loss is not losses.tdpo2:
        ways += [
            references_of(fixed, data, loss, cache=tmp_path),
            references_of(fixed, data, loss, cache=tmp_path),
        ]
    found = [fit(policy, loss, data, reference=way, **options) for way in ways]
    for other in found[1:]:
        np.testing.assert_allclose(other.history, found[0].history, rtol=1e-5, atol=1e-5)
        assert largest_difference(other.policy, found[0].policy) < 1e-5
    if loss is losses.tdpo2:
        with pytest.raises(
            ValueError,
            match=r"needs the KL divergence at every token.* got its log-probabilities alone",
        ):
            fit(policy, loss, data, reference=references_of(fixed, data, loss), **options)


def test_fitting_lowers_the_loss(tiny):
    found = fit(
        tiny,
        dpo,
        random_pairs(16),
        reference=tiny,
        epochs=6,
        batch_size=16,
        learning_rate=3e-3,
        progress=False,
    )
    assert found.steps == 6
    assert found.history[-1, 0] < 0.5 * found.history[0, 0]


def test_bad_data(tiny):
    from prefsim.data import Comparisons

    cases = [
        (
            dpo,
            Comparisons([0], [0], [1]),
            tiny,
            "data must be TextComparisons or the like of prefsim.lm, .* got Comparisons",
        ),
        (dpo, TextComparisons([], [], []), tiny, "data must hold at least one row, got 0"),
        (
            dpo,
            TextComparisons([[1], [1]], [[2], []], [[3], [3]]),
            tiny,
            "example 1: row 0 has a completion without tokens",
        ),
        (
            losses.aot,
            random_pairs(weight=np.arange(7)),
            tiny,
            "couples the examples of its batch and sees no weights",
        ),
        (
            losses.aot,
            random_pairs(prob=np.full(7, 0.5)),
            tiny,
            "couples the examples of its batch and sees no weights",
        ),
        (
            losses.tdpo1,
            random_pairs(),
            None,
            "needs the KL divergence at every token.* got no reference",
        ),
        (losses.odpo, random_pairs(), tiny, "chosen_score is needed by this loss, got None"),
        (
            dpo,
            random_pairs(7),
            references_of(tiny, random_pairs(6), dpo),
            "must be of the data's 14 sequences of",
        ),
    ]
    for loss, data, reference, message in cases:
        with pytest.raises(ValueError, match=message):
            fit(tiny, loss, data, reference=reference)
    with pytest.raises(TypeError, match="has no option 'tolerance': it takes steps or epochs"):
        fit(tiny, dpo, random_pairs(), reference=tiny, tolerance=1e-3)
    with pytest.raises(ValueError, match="must have a parameter that requires a gradient"):
        fit(tiny.frozen(), dpo, random_pairs(), reference=tiny)
