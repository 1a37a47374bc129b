"""KTO's reference point from other prompts, and BCO's matched prompts, for language models."""

import functools

import numpy as np
import pytest
import torch
from lm_made import random_ids

from prefsim import losses
from prefsim.lm import TextFeedback, match_prompts, prompt_features, references_of
from prefsim.solvers import fit
from prefsim.solvers.likelihood.prompt_classifier import fit_prompt_classifier

RNG = np.random.default_rng(0)
DATA = TextFeedback(random_ids(RNG, 8), random_ids(RNG, 8), [1, 0, 0, 1, 0, 1, 1, 0])
STEP = {"steps": 1, "batch_size": 8, "learning_rate": 1e-3, "order": "given", "progress": False}


@pytest.fixture(scope="module")
def reference():
    from lm_made import small_llama

    from prefsim.lm import CausalLM

    return CausalLM.from_config(small_llama(64), seed=7, dtype="float64")


def test_kto_sees_completions_of_other_prompts(tiny64, reference):
    data = DATA.with_mismatched(seed=2)
    for row, other in enumerate(data.mismatched):
        assert any(
            other == data.completion[j] and data.prompt[j] != data.prompt[row] for j in range(8)
        )
    result = fit(tiny64, losses.kto, data, reference=reference, **STEP)

    def log_ratio(completions):
        ours, theirs = (m.log_prob(data.prompt, completions) for m in (tiny64, reference))
        return (ours - theirs).detach().numpy()

    point = max(0.0, log_ratio(data.mismatched).mean())
    assert point > 0
    gain = 0.1 * (log_ratio(data.completion) - point)
    expected = np.where(data.label == 1, 1 / (1 + np.exp(gain)), 1 / (1 + np.exp(-gain))).mean()
    assert result.value == pytest.approx(expected, rel=1e-9)
    own = fit(tiny64, losses.kto, DATA, reference=reference, **STEP)
    # Far more than the rounding of either.
    assert abs(own.value - result.value) > 1e-5
    # No gradient goes through them: the step is that of the same point given.
    given = functools.partial(losses.kto, reference_point=float(point))
    same = fit(tiny64, given, DATA, reference=reference, **STEP)
    assert same.grad_norm == pytest.approx(result.grad_norm, rel=1e-9)


def test_stored_references_hold_both_completions(tiny64, reference):
    data = DATA.with_mismatched(seed=2)
    stored = references_of(reference, data, losses.kto)
    assert len(stored.offsets) == 17
    by_model = fit(tiny64, losses.kto, data, reference=reference, **STEP)
    by_disk = fit(tiny64, losses.kto, data, reference=stored, **STEP)
    assert by_disk.value == pytest.approx(by_model.value, rel=1e-9)
    # Token losses of judged completions do not ask for them.
    assert len(data.sequences(losses.JudgedLogps)[0]) == 1


def test_columns_go_along_with_their_rows():
    data = DATA.with_mismatched(seed=1)
    full = TextFeedback(
        data.prompt,
        data.completion,
        data.label,
        mismatched=data.mismatched,
        density_ratio=np.arange(8.0),
    )
    part = full.take([5, 2])
    assert part.mismatched == [full.mismatched[5], full.mismatched[2]]
    np.testing.assert_array_equal(part.density_ratio, [5.0, 2.0])
    assert DATA.take([1]).mismatched is None
    np.testing.assert_array_equal(full.with_mismatched(seed=0).density_ratio, np.arange(8.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mismatched": [[1]]}, "mismatched must have as many rows as prompt, 8, got 1"),
        ({"density_ratio": np.ones(3)}, "density_ratio must have n = 8 entries"),
        ({"density_ratio": -np.ones(8)}, "density_ratio must be >= 0"),
    ],
)
def test_bad_columns(options, message):
    with pytest.raises(ValueError, match=message):
        TextFeedback(DATA.prompt, DATA.completion, DATA.label, **options)


def test_features_of_prompts(tiny64):
    """The mean of the states at the prompt's tokens, however many are computed together."""
    found = prompt_features(tiny64, DATA.prompt)
    assert found.shape == (8, 32)
    model = tiny64.log_prob_model.plain.base_model
    for row, prompt in enumerate(DATA.prompt):
        states = model(input_ids=torch.tensor([prompt])).last_hidden_state[0]
        np.testing.assert_allclose(found[row], states.mean(0).detach(), rtol=1e-9, atol=1e-12)
    one = prompt_features(tiny64, DATA.prompt, batch_size=1)
    np.testing.assert_allclose(one, found, rtol=1e-9, atol=1e-12)


def test_matched_prompts_weigh_undesirable_completions(tiny64, reference):
    data = match_prompts(tiny64, DATA, ridge=0.5)
    features = prompt_features(tiny64, DATA.prompt)
    prob = fit_prompt_classifier(features, DATA.label == 1, ridge=0.5).prob(features)
    np.testing.assert_allclose(data.density_ratio, np.clip(prob / (1 - prob), 0.5, 10))
    assert np.ptp(data.density_ratio) > 0.1
    loss = functools.partial(losses.bco_unpaired, beta=0.3, shift=0.1)
    result = fit(tiny64, loss, data, reference=reference, **STEP)
    ours, theirs = (m.log_prob(data.prompt, data.completion) for m in (tiny64, reference))
    z = 0.3 * (ours - theirs).detach().numpy() - 0.1
    down = data.density_ratio * np.logaddexp(0, z)
    expected = np.where(data.label == 1, np.logaddexp(0, -z), down).mean()
    assert result.value == pytest.approx(expected, rel=1e-9)


def test_prompts_of_one_class_or_soft_labels_are_refused(tiny64):
    soft = TextFeedback(DATA.prompt, DATA.completion, np.full(8, 0.3))
    with pytest.raises(ValueError, match="prompts are matched by hard labels"):
        match_prompts(tiny64, soft)
    up = TextFeedback(DATA.prompt, DATA.completion, np.ones(8))
    with pytest.raises(ValueError, match="both classes, got 8 true of 8"):
        match_prompts(tiny64, up)
