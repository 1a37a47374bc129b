"""``fit`` on a head: reward models, general preference models and classifiers of responses.

Every loss of scores, against transformers' own numbers, and to the strengths of the tables.
"""

import copy
import functools

import numpy as np
import pytest
import torch
from checks import base_options
from lm_made import adapted_llama, largest_difference, random_ids, random_pairs, small_llama

from prefsim import losses
from prefsim.lm import (
    CausalLM,
    PreferenceModel,
    ResponseClassifier,
    TextClasses,
    TextComparisons,
    TextVersions,
)
from prefsim.solvers import fit
from prefsim.solvers.likelihood.bradley_terry import fit_bradley_terry

PROMPTS, LEFT, RIGHT = (random_ids(np.random.default_rng(seed), 6) for seed in range(3))
VERSIONS = [[one, other] for one, other in zip(LEFT, RIGHT, strict=True)]
DATA = {
    losses.PairRewards: TextComparisons(PROMPTS, LEFT, RIGHT, margin=np.arange(6) / 5),
    losses.ClassLogits: TextClasses(PROMPTS, LEFT, [0, 1, 2, 0, 3, 1]),
    losses.DegreeLogits: TextVersions(
        PROMPTS, VERSIONS, [[0, 1], [0, 2], [3, -1], [-1, -1], [0, 3], [1, 0]]
    ),
}
LOSSES = {
    name: loss
    for name, loss in losses.loss_functions().items()
    if losses.container_of(loss) in DATA
}
QUICK = {"batch_size": 4, "learning_rate": 1e-3, "warmup": 0.0, "progress": False}
ONE_STEP = QUICK | {
    "steps": 1,
    "batch_size": 6,
    "optimizer": "sgd",
    "schedule": "constant",
    "max_grad_norm": None,
}


def policy_of(dtype="float32", **changes):
    return CausalLM.from_config(small_llama(64, **changes), seed=0, dtype=dtype)


def model_for(kind, policy, dim=1, **options):
    if kind is losses.PairRewards:
        return PreferenceModel(policy, dim=dim, seed=1, **options)
    return ResponseClassifier(policy, classes=4, seed=1)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_of_scores_trains(name):
    loss = functools.partial(LOSSES[name], **base_options(LOSSES[name]))
    kind = losses.container_of(loss)
    for dim in (1, 4) if kind is losses.PairRewards else (1,):
        model = model_for(kind, policy_of(), dim)
        found = fit(model, loss, DATA[kind], steps=2, schedule="constant", **QUICK)
        assert type(found.policy) is type(model)
        assert np.isfinite(found.history).all()
        assert found.history[0, 1] > 0
        assert moved(model, found.policy) > 0


def moved(first, second):
    pairs = zip(first.parameters(), second.parameters(), strict=True)
    return max(float((p - q).detach().abs().max()) for p, q in pairs)


def of_transformers(classifier, prompts, completions):
    """The numbers of a sequence classifier by its own forward, one text at a time."""
    texts = [[*x, *y] for x, y in zip(prompts, completions, strict=True)]
    return torch.cat([classifier(input_ids=torch.tensor([ids])).logits for ids in texts])


@pytest.mark.parametrize("dim", [1, 4])
def test_a_step_is_along_the_gradient_of_the_pure_loss(dim):
    """Of soft labels, weights and margins, on the numbers that transformers gives."""
    rng = np.random.default_rng(3)
    prob, weight, margin = rng.random(6), 1 + rng.random(6), rng.random(6)
    data = TextComparisons(PROMPTS, LEFT, RIGHT, prob=prob, weight=weight, margin=margin)
    model = PreferenceModel(policy_of("float64"), dim=dim, seed=1)
    loss = functools.partial(losses.bradley_terry, margin=0.3)
    found = fit(model, loss, data, **ONE_STEP)
    plain = copy.deepcopy(model)
    first, second = (
        of_transformers(plain.classifier, PROMPTS, completions) for completions in (LEFT, RIGHT)
    )
    ahead = (first - second)[:, 0]
    if dim == 4:
        # Two planes, each with the area that two vectors span in it.
        ahead = sum(first[:, i] * second[:, i + 1] - first[:, i + 1] * second[:, i] for i in (0, 2))
    asked = torch.as_tensor(margin)
    rewards = losses.PairRewards(ahead, 0 * ahead, asked)
    turned = losses.PairRewards(-ahead, 0 * ahead, asked)
    share = torch.as_tensor(weight / weight.sum())
    soft = torch.as_tensor(prob)
    value = (share * (soft * loss(rewards) + (1 - soft) * loss(turned))).sum()
    value.backward()
    assert found.value == pytest.approx(value.item(), rel=1e-12)
    for (name, before), after in zip(
        plain.named_parameters(), found.policy.parameters(), strict=True
    ):
        step = (before - after).detach() / QUICK["learning_rate"]
        torch.testing.assert_close(step, before.grad, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("kind", [losses.ClassLogits, losses.DegreeLogits])
def test_a_step_of_a_classifier_is_along_the_gradient_of_the_pure_loss(kind):
    data, model = DATA[kind], ResponseClassifier(policy_of("float64"), classes=4, seed=1)
    loss = losses.cross_entropy if kind is losses.ClassLogits else losses.preference_degree
    found = fit(model, loss, data, **ONE_STEP)
    plain = copy.deepcopy(model)
    if kind is losses.ClassLogits:
        logits = of_transformers(plain.classifier, PROMPTS, LEFT)
        container = kind(logits, torch.as_tensor(data.label))
    else:
        both = [of_transformers(plain.classifier, PROMPTS, side) for side in (LEFT, RIGHT)]
        container = kind(torch.stack(both, dim=1), torch.as_tensor(data.degree))
    loss(container).mean().backward()
    for before, after in zip(plain.parameters(), found.policy.parameters(), strict=True):
        step = (before - after).detach() / QUICK["learning_rate"]
        torch.testing.assert_close(step, before.grad, rtol=0, atol=1e-9)


TO_THE_END = {
    "batch_size": 10,
    "learning_rate": 1e-2,
    "schedule": "cosine",
    "max_grad_norm": None,
    "progress": False,
}


def all_pairs(prob, weight=None):
    """Every pair of items once: answers of one token to one prompt, as a table has arms."""
    first, second = np.triu_indices(len(prob), 1)
    return TextComparisons(
        [[3]] * len(first),
        [[10 + int(i)] for i in first],
        [[10 + int(j)] for j in second],
        prob=prob[first, second],
        weight=None if weight is None else weight[first, second],
    )


def test_strengths_are_those_of_the_table():
    """On every pair of a table the rewards are its maximum-likelihood strengths."""
    counts = np.random.default_rng(0).integers(1, 9, (5, 5)) * (1 - np.eye(5))
    total = counts + counts.T
    exact = fit_bradley_terry(counts).reward
    data = all_pairs(counts / np.where(total > 0, total, 1), total)
    model = PreferenceModel(policy_of(num_hidden_layers=1), dim=1, seed=1)
    found = fit(model, losses.bradley_terry, data, steps=150, **TO_THE_END).policy
    reward = found.rewards([[3]] * 5, [[10 + i] for i in range(5)]).numpy()
    assert np.ptp(exact) > 1
    np.testing.assert_allclose(reward - reward.mean(), exact, atol=5e-3)


def test_a_cycle_is_learned_by_vectors_and_by_no_reward():
    prob = np.asarray([[0.5, 0.9, 0.1], [0.1, 0.5, 0.9], [0.9, 0.1, 0.5]])
    data = all_pairs(prob)
    items = [[10 + i] for i in range(3)]
    for dim, expected in ((1, 0 * prob), (2, np.log(prob / (1 - prob)))):
        model = PreferenceModel(policy_of(num_hidden_layers=1), dim=dim, seed=1)
        found = fit(model, losses.bradley_terry, data, steps=150, **TO_THE_END).policy
        np.testing.assert_allclose(found.log_odds([3], items), expected, atol=2e-2)


def test_how_a_step_is_split_changes_nothing():
    model = PreferenceModel(policy_of("float64"), dim=1, seed=1)
    data = random_pairs(7, prob=np.random.default_rng(0).random(7), margin=np.ones(7))
    options = ONE_STEP | {"batch_size": 7, "steps": 2}
    whole = fit(model, losses.bradley_terry, data, **options)
    for accumulation in (2, 7):
        split = fit(
            model, losses.bradley_terry, data, gradient_accumulation=accumulation, **options
        )
        np.testing.assert_allclose(split.history, whole.history, rtol=1e-11)
        assert moved(split.policy, whole.policy) < 1e-12


def test_what_was_given_is_not_changed_and_frozen_parts_are_shared():
    model = PreferenceModel(adapted_llama(), dim=1, seed=1)
    before = copy.deepcopy(model)
    found = fit(model, losses.bradley_terry, random_pairs(), steps=2, **QUICK)
    assert moved(before, model) == 0
    trained = {name for name, p in found.policy.named_parameters() if p.requires_grad}
    assert trained == {name for name in trained if "lora_" in name or ".score." in name}
    assert any("lora_" in name for name in trained)
    frozen = "classifier.model.embed_tokens.weight"
    assert found.policy.get_parameter(frozen) is model.get_parameter(frozen)


FORMS = {
    "reward": {"dim": 1},
    "adapters": {"dim": 1},
    "general": {"dim": 4, "gated": True, "temperature": True},
}


def made(form):
    policy = adapted_llama() if form == "adapters" else policy_of()
    return PreferenceModel(policy, seed=1, **FORMS[form])


def stopping(after):
    """Bradley–Terry that fails at its call number ``after``, under one name."""
    calls = []

    def stop(rewards: losses.PairRewards):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return losses.bradley_terry(rewards)

    return stop


@pytest.mark.parametrize("form", FORMS)
def test_a_training_that_was_interrupted_ends_as_if_it_had_not_been(tmp_path, form):
    options = QUICK | {"steps": 6, "batch_size": 3, "log_every": 2}
    data = random_pairs(7)
    whole = fit(made(form), stopping(99), data, **options)
    with pytest.raises(KeyboardInterrupt):
        fit(made(form), stopping(6), data, out=tmp_path, save_every=2, **options)
    resumed = fit(
        made(form), stopping(99), data, out=tmp_path, save_every=2, resume=True, **options
    )
    assert resumed.steps == 6
    np.testing.assert_array_equal(resumed.history, whole.history)
    assert moved(resumed.policy, whole.policy) == 0
    loaded = PreferenceModel.load(tmp_path / "model")
    torch.testing.assert_close(
        loaded.scores(PROMPTS, LEFT, RIGHT), whole.policy.scores(PROMPTS, LEFT, RIGHT)
    )
    with pytest.raises(ValueError, match="loss must be what it was before the interruption"):
        fit(made(form), losses.bradley_terry, data, out=tmp_path, resume=True, **options)


def test_a_reward_model_finds_the_better_answers():
    data = random_pairs(16)
    model = PreferenceModel(policy_of(), dim=1, seed=1)
    options = QUICK | {"batch_size": 16, "learning_rate": 3e-3}
    found = fit(model, losses.bradley_terry, data, epochs=12, **options).policy
    rewards = [found.rewards(data.prompt, side) for side in (data.chosen, data.rejected)]
    assert (rewards[0] > rewards[1]).all()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_half_precision(precision):
    """A model in bfloat16 is trained in float32, and its numbers stay near those of the other."""
    wide, data = PreferenceModel(policy_of(), dim=1, seed=1), random_pairs()
    options = ONE_STEP | {"batch_size": 7}
    expected = fit(wide, losses.bradley_terry, data, **options).value
    found = fit(wide, losses.bradley_terry, data, precision=precision, **options).value
    assert found == pytest.approx(expected, rel=1e-9 if precision == "float32" else 0.05)


def test_what_does_not_go_together():
    policy, model = policy_of(), PreferenceModel(policy_of(), dim=1, seed=1)
    grader = ResponseClassifier(policy_of(), classes=2, seed=1)
    pairs = random_pairs()
    cases = [
        (
            (policy, losses.bradley_terry, pairs),
            {},
            r"a loss of PairRewards takes scores: fit prefsim.lm.PreferenceModel\(policy, dim=1",
        ),
        (
            (policy, losses.ldr_kl, DATA[losses.ClassLogits]),
            {},
            r"fit prefsim.lm.ResponseClassifier\(policy, classes=K",
        ),
        (
            (policy, losses.spo_degree, pairs),
            {"reference": None},
            "no model of prefsim.lm gives both",
        ),
        (
            (model, losses.dpo, pairs),
            {"reference": policy},
            "PreferenceModel is fitted with losses of PairRewards, got a loss of PairLogps, which"
            " is for the language model itself",
        ),
        ((model, losses.cross_entropy, pairs), {}, "which is for ResponseClassifier"),
        (
            (model, losses.bradley_terry, pairs),
            {"reference": policy},
            "fitted without a reference, for its loss takes no log-ratios; got a CausalLM",
        ),
        (
            (model, losses.bradley_terry, DATA[losses.ClassLogits]),
            {},
            "TextClasses feed losses of ClassLogits, got a loss of PairRewards",
        ),
        ((grader, losses.cross_entropy, DATA[losses.ClassLogits]), {}, "as the data, 4, got 2"),
        ((model, losses.bradley_terry, pairs), {"diagnostics": ["ches"]}, "diagnostics are of log"),
        ((model, losses.bradley_terry, pairs), {"reference_weight": 0.5}, "got no reference"),
        (
            (model, losses.bradley_terry, TextComparisons([[3]], [[4, 0]], [[5]])),
            {},
            "example 0: a completion must not end with the token for padding, 0",
        ),
    ]
    for arguments, options, message in cases:
        with pytest.raises(ValueError, match=message):
            fit(*arguments, steps=1, progress=False, **options)
    with pytest.raises(ValueError, match="margin must be finite, got inf"):
        random_pairs(margin=np.full(7, np.inf))
    with pytest.raises(ValueError, match="label must be >= 0"):
        TextClasses([[1]], [[2]], [-1])
    with pytest.raises(ValueError, match="degree must be an integer"):
        TextVersions([[1]], [[[2], [3]]], [[0, 0.5]])
    with pytest.raises(ValueError, match=r"degree must have shape \(1, 2\)"):
        TextVersions([[1]], [[[2], [3]]], [[0]])
    assert largest_difference(policy, policy_of()) == 0
