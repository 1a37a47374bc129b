"""What is measured during training against transformers' own outputs, autograd and enumeration."""

import functools
import itertools

import numpy as np
import pytest
import torch
from lm_made import small_llama

from prefsim import losses
from prefsim.analysis.displacement import (
    ches_score,
    displacement,
    entanglement,
    ranking_accuracy,
    reward_accuracy,
)
from prefsim.containers import PairLogps
from prefsim.lm import DIAGNOSTICS, CausalLM, Diagnostics, TextComparisons, TextFeedback
from prefsim.solvers import fit

dpo = functools.partial(losses.dpo, beta=0.5)
OPTIONS = {
    "steps": 2,
    "batch_size": 3,
    "learning_rate": 3e-3,
    "progress": False,
    "log_every": 1,
    "warmup": 0.0,
}


def pairs(n=5, vocabulary=64, **options):
    rng = np.random.default_rng(0)
    return TextComparisons(
        *(
            [rng.integers(3, vocabulary, rng.integers(2, 8)).tolist() for _ in range(n)]
            for _ in range(3)
        ),
        **options,
    )


@pytest.fixture(scope="module")
def policy():
    return CausalLM.from_config(small_llama(64), seed=0, dtype="float64")


@pytest.fixture(scope="module")
def reference():
    return CausalLM.from_config(small_llama(64), seed=1, dtype="float64")


def test_log_probabilities(policy, reference):
    data = pairs()
    found = fit(
        policy, dpo, data, reference=reference, diagnostics=["displacement", "accuracy"], **OPTIONS
    )
    start, now, ref = (
        [each.log_prob(data.prompt, side) for side in (data.chosen, data.rejected)]
        for each in (policy, found.policy, reference)
    )
    first, last = found.metrics[0], found.metrics[-1]
    assert first["step"] == first["chosen_drift"] == first["displaced"] == 0
    drift = displacement(*now, *start)
    expected = {
        "chosen_logp": now[0].mean(),
        "rejected_logp": now[1].mean(),
        "chosen_drift": drift.chosen,
        "rejected_drift": drift.rejected,
        "displaced": drift.displaced,
        "ranking_accuracy": ranking_accuracy(*now),
        "ranking_accuracy_averaged": ranking_accuracy(
            *(
                logps / torch.tensor([float(len(y)) for y in side])
                for logps, side in zip(now, (data.chosen, data.rejected), strict=True)
            )
        ),
        "reward_accuracy": reward_accuracy(*now, *ref),
    }
    assert {name: last[name] for name in expected} == pytest.approx(
        {name: float(value) for name, value in expected.items()}, abs=1e-9
    )
    assert last["chosen_drift"] != 0
    without = fit(policy, dpo, data, reference=None, diagnostics=["accuracy"], **OPTIONS)
    assert "reward_accuracy" not in without.metrics[0]


@pytest.mark.parametrize("prob", [None, [0.7, 1.0, 0.2, 0.5, 0.9]], ids=["hard", "soft"])
def test_idealised(policy, reference, prob):
    data = pairs(prob=prob)
    found = fit(
        policy, dpo, data, reference=reference, diagnostics=["idealised"], **OPTIONS
    ).metrics[0]
    now, refs = (
        [each.log_prob(data.prompt, side).numpy() for side in (data.chosen, data.rejected)]
        for each in (policy, reference)
    )
    # Each pair by itself, the response that most voted for first.
    best, ranked, hardness = [], [], []
    for i, share in enumerate(data.prob):
        first, second = (0, 1) if share >= 0.5 else (1, 0)
        against = refs[second][i] - refs[first][i]
        for_it = max(share, 1 - share)
        odds = for_it / (1 - for_it) if for_it < 1 else 1e3
        best.append(np.log(odds) / 0.5 > against)
        ranked.append(now[first][i] >= now[second][i])
        hardness.append(np.log1p(np.exp(-0.5 * against)))
    assert found["idealised_ranking_accuracy"] == pytest.approx(np.mean(best))
    assert found["alignment_gap"] == pytest.approx(np.mean(best) - np.mean(ranked))
    assert found["ranking_loss"] == pytest.approx(np.mean(hardness), rel=1e-6)


def test_idealised_needs_a_penalty_and_a_reference(policy):
    options = OPTIONS | {"diagnostics": ["idealised"]}
    with pytest.raises(ValueError, match="'idealised' need a loss with a number beta"):
        fit(policy, losses.sft, pairs(), reference=None, **options)
    with pytest.raises(ValueError, match="'idealised' need a reference, got none"):
        fit(policy, dpo, pairs(), reference=None, **options)


def test_ches(policy):
    data = pairs()
    found = fit(policy, dpo, data, reference=policy, diagnostics=["ches"], **OPTIONS).metrics[0]
    scores = []
    for x, *sides in zip(data.prompt, data.chosen, data.rejected, strict=True):
        states = []
        for y in sides:
            output = policy.model(input_ids=torch.tensor([x + y]), output_hidden_states=True)
            # From the last token of the prompt to the last but one of the response.
            states.append(output.hidden_states[-1][0, len(x) - 1 : -1].detach())
        masks = [torch.ones(len(each), dtype=torch.bool) for each in states]
        scores.append(
            [
                float(ches_score(*states, *masks, normalised=normalised))
                for normalised in (False, True)
            ]
        )
    assert [found["ches"], found["ches_normalised"]] == pytest.approx(
        np.mean(scores, axis=0), rel=1e-9
    )


@pytest.mark.parametrize("prob", [None, [0.7, 1.0, 0.2, 0.5, 0.9]], ids=["hard", "soft"])
def test_entanglement(policy, reference, prob):
    data = pairs(prob=prob)
    found = fit(
        policy,
        dpo,
        data,
        reference=reference,
        diagnostics=Diagnostics(("entanglement",), gradient_examples=3),
        **OPTIONS,
    ).metrics[0]
    rows = []
    parameters = list(policy.model.parameters())

    def log_prob(x, y):
        logs = torch.log_softmax(policy.model(input_ids=torch.tensor([x + y])).logits[0], dim=-1)
        return sum(logs[len(x) + t - 1, token] for t, token in enumerate(y))

    for i in range(3):
        x, sides = data.prompt[i], (data.chosen[i], data.rejected[i])
        logps = [log_prob(x, y) for y in sides]
        up, down = (
            [g.reshape(-1) for g in torch.autograd.grad(each, parameters)] for each in logps
        )
        up, down = torch.cat(up), torch.cat(down)
        refs = reference.log_prob([x, x], list(sides))
        h = float((logps[0] - logps[1]).detach() - refs[0] + refs[1])
        p = data.prob[i]
        slope = 0.5 * (
            p - 1 / (1 + np.exp(-0.5 * h))
        )  # minus the derivative of the cross-entropy of σ(βh) in h, times β outside
        rows.append([float(up @ up), float(down @ down), float(up @ down), slope])
    columns = np.asarray(rows).T
    expected = entanglement(*columns[:3], chosen_slope=columns[3], rejected_slope=columns[3])
    assert found["gradient_inner"] == pytest.approx(expected.inner.mean(), rel=1e-8)
    assert found["gradient_cosine"] == pytest.approx(expected.cosine.mean(), rel=1e-8)
    assert found["gradient_ratio"] == pytest.approx(expected.ratio.mean(), rel=1e-8)
    assert found["gradient_condition"] == expected.wanted.mean()


def enumerated_kl(policy, reference, prompt, depth):
    """KL of completions cut off at ``depth`` tokens, from the probabilities of all of them."""
    ids = range(6)
    every = [list(y) for n in range(1, depth + 1) for y in itertools.product(ids, repeat=n)]
    every = [y for y in every if 2 not in y[:-1] and (len(y) == depth or y[-1] == 2)]
    logs, refs = (
        each.log_prob([prompt] * len(every), every, batch_size=64) for each in (policy, reference)
    )
    assert float(logs.exp().sum()) == pytest.approx(1.0, abs=1e-9)
    return float((logs.exp() * (logs - refs)).sum())


@pytest.mark.parametrize("adapters", [False, True], ids=["model", "adapters off"])
def test_kl_against_enumeration(adapters):
    from peft import LoraConfig

    config = small_llama(6, initializer_range=0.5)
    lora = (
        LoraConfig(
            task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False
        )
        if adapters
        else None
    )
    policy = CausalLM.from_config(config, seed=0, adapter=lora, dtype="float64")
    reference = (
        policy.without_adapters()
        if adapters
        else CausalLM.from_config(config, seed=1, dtype="float64")
    )
    data = pairs(2, vocabulary=6)

    def measured(name="kl", number="kl", **settings):
        options = OPTIONS | {"steps": 1}
        return fit(
            policy,
            dpo,
            data,
            reference=reference,
            diagnostics=Diagnostics((name,), **settings),
            **options,
        ).metrics[0][number]

    exact = [
        np.mean([enumerated_kl(policy, reference, x, depth) for x in data.prompt])
        for depth in (1, 3)
    ]
    # With one token there is nothing left to draw: the estimate is exact.
    assert measured(max_new_tokens=1) == pytest.approx(exact[0], rel=1e-6)
    assert measured(max_new_tokens=3, samples=150) == pytest.approx(exact[1], rel=0.1)
    # Of 800 draws of one token every one of the six that is likely is among them.
    ratios = []
    for x in data.prompt:
        logs, refs = (
            each.log_prob([x] * 6, [[y] for y in range(6)]) for each in (policy, reference)
        )
        ratios.append((logs, logs - refs))
    largest = max(float(ratio[logs > -4].max()) for logs, ratio in ratios)
    mean = np.log(np.mean([float((logs.exp() * ratio.exp()).sum()) for logs, ratio in ratios]))
    draws = {"max_new_tokens": 1, "samples": 400}
    assert measured("coverage", "log_largest_ratio", **draws) >= largest - 1e-6
    assert measured("coverage", "log_mean_ratio", **draws) == pytest.approx(mean, abs=0.1)


def test_dispersion_is_of_what_the_start_drew(tmp_path):
    config = small_llama(6, initializer_range=0.5)
    start = CausalLM.from_config(config, seed=0, dtype="float64")
    data = pairs(2, vocabulary=6)
    options = OPTIONS | {
        "steps": 4,
        "learning_rate": 3e-2,
        "batch_size": 2,
        "reference": None,
        "diagnostics": Diagnostics(("dispersion",), samples=400, max_new_tokens=1),
    }
    found = fit(start, losses.sft, data, **options)
    first, *_, last = found.metrics
    assert first["unseen_drift"] == first["unseen_spread"] == first["unseen_rises"] == 0
    # All completions of one token, as likely as the start draws them.
    probs, change = [], []
    for x in data.prompt:
        then, now = (
            each.log_prob([x] * 6, [[y] for y in range(6)]) for each in (start, found.policy)
        )
        probs.append(then.exp() / len(data))
        change.append(now - then)
    probs, change = torch.cat(probs), torch.cat(change)
    mean = float((probs * change).sum())
    spread = float((probs * (change - mean) ** 2).sum().sqrt())
    assert mean < -0.1 and spread > 0.1
    assert last["unseen_drift"] == pytest.approx(mean, abs=5 * spread / np.sqrt(800))
    assert last["unseen_spread"] == pytest.approx(spread, rel=0.3)
    assert last["unseen_rises"] == pytest.approx(float(probs[change > 0].sum()), abs=0.1)
    # A training that goes on measures the same completions, which the start alone could draw.
    with pytest.raises(KeyboardInterrupt):
        fit(start, Interrupted(4), data, **options, out=tmp_path, save_every=1)
    assert any(path.name > "step-00000000" for path in (tmp_path / "checkpoints").iterdir())
    resumed = fit(start, Interrupted(99), data, **options, out=tmp_path, save_every=1, resume=True)
    assert resumed.metrics[0]["step"] == 0 and len(resumed.metrics) == len(found.metrics)
    for line, expected in zip(resumed.metrics, found.metrics, strict=True):
        for name in ("unseen_drift", "unseen_spread", "unseen_rises"):
            assert line[name] == expected[name]


class Interrupted:
    """Maximum likelihood that somebody stops after so many calls."""

    container = PairLogps

    def __init__(self, calls):
        self.left = calls

    def __call__(self, logps):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return losses.sft(logps)


def test_measuring_changes_nothing(policy, reference):
    names = DIAGNOSTICS
    quiet, loud = (
        fit(policy, dpo, pairs(), reference=reference, diagnostics=these, **OPTIONS)
        for these in ((), names)
    )
    np.testing.assert_array_equal(quiet.history, loud.history)
    for a, b in zip(
        quiet.policy.log_prob_model.parameters(),
        loud.policy.log_prob_model.parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_rows_are_spread_over_the_data(policy):
    found = fit(
        policy,
        dpo,
        pairs(),
        reference=policy,
        diagnostics=Diagnostics(("accuracy",), examples=2),
        **OPTIONS,
    ).metrics[0]
    data = pairs().take([0, 4])
    assert found["chosen_logp"] == pytest.approx(
        float(policy.log_prob(data.prompt, data.chosen).mean()), abs=1e-9
    )


def test_token_losses_and_completions(policy, reference):
    found = fit(
        policy,
        losses.ld_dpo,
        pairs(),
        reference=reference,
        diagnostics=["displacement", "entanglement"],
        **OPTIONS,
    )
    assert np.isfinite([value for line in found.metrics for value in line.values()]).all()
    data = TextFeedback(pairs().prompt, pairs().chosen, np.arange(5) % 2)
    assert (
        fit(policy, losses.kto, data, reference=reference, diagnostics=["kl"], **OPTIONS).metrics[
            0
        ]["kl"]
        > 0
    )
    with pytest.raises(
        ValueError, match="diagnostics 'ches' are of TextComparisons, got TextFeedback"
    ):
        fit(policy, losses.kto, data, reference=reference, diagnostics=["ches"], **OPTIONS)
    with pytest.raises(ValueError, match="gradient_examples must be an integer >= 1"):
        Diagnostics(("ches",), gradient_examples=0)
