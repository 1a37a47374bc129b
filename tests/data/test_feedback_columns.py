"""Feedback that knows completions of other prompts, and how its prompts are distributed."""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.containers import UnpairedLogps
from prefsim.data import Feedback
from prefsim.data.mismatched import rows_of_other_prompts
from prefsim.policies import TabularPolicy
from prefsim.solvers import objective

POLICY, REFERENCE = TabularPolicy.random(3, 4, seed=0), TabularPolicy.random(3, 4, seed=1)
DATA = Feedback([0, 0, 1, 2, 1], [3, 1, 0, 2, 2], [1.0, 0.0, 1.0, 0.0, 0.0])


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30), st.integers(0, 99))
def test_every_row_meets_another_prompt(prompts, seed):
    prompts = [*prompts, 5]
    other = rows_of_other_prompts(prompts, seed=seed)
    assert all(prompts[i] != prompts[j] for i, j in enumerate(other))
    np.testing.assert_array_equal(other, rows_of_other_prompts(prompts, seed=seed))


def test_each_of_the_others_has_the_same_chance():
    prompts, rng = ["a", "b", "a", "c", "b"], np.random.default_rng(0)
    draws = np.stack([rows_of_other_prompts(prompts, seed=rng) for _ in range(6000)])
    for row, prompt in enumerate(prompts):
        others = [j for j, there in enumerate(prompts) if there != prompt]
        shares = [(draws[:, row] == j).mean() for j in others]
        # Four standard errors.
        np.testing.assert_allclose(shares, 1 / len(others), atol=4 * 0.5 / 6000**0.5)


def test_one_prompt_alone_is_refused():
    for n in (1, 3):
        with pytest.raises(ValueError, match=f"two different prompts, got one in {n} rows"):
            rows_of_other_prompts([7] * n, seed=0)
    none = rows_of_other_prompts([], seed=0)
    assert none.shape == (0,) and none.dtype == np.int64


def test_what_a_loss_sees():
    data = DATA.with_mismatched(seed=3)
    ratio = [0.5, 2.0, 1.0, 3.0, 1.5]
    data = Feedback(
        data.prompt,
        data.completion,
        data.label,
        data.weight,
        mismatched=data.mismatched,
        density_ratio=ratio,
    )
    seen, weight = data.examples(POLICY, data.log_probs(REFERENCE), UnpairedLogps)
    log_ratio = np.log(POLICY.probs) - np.log(REFERENCE.probs)
    np.testing.assert_allclose(
        seen.mismatched - seen.ref_mismatched, log_ratio[data.prompt, data.mismatched]
    )
    np.testing.assert_allclose(seen.logp - seen.ref_logp, log_ratio[data.prompt, data.completion])
    np.testing.assert_array_equal(seen.density_ratio, ratio)
    # A completion of the data, from a row of another prompt.
    for prompt, completion in zip(data.prompt, data.mismatched, strict=True):
        rows = data.completion == completion
        assert (data.prompt[rows] != prompt).any()
    assert weight.sum() == pytest.approx(1)
    # Nothing of it without.
    plain, _ = DATA.examples(POLICY, DATA.log_probs(REFERENCE), UnpairedLogps)
    assert plain.mismatched is plain.ref_mismatched is plain.density_ratio is None


def test_kto_takes_its_reference_point_from_other_prompts():
    data = DATA.with_mismatched(seed=3)
    log_ratio = np.log(REFERENCE.probs) - np.log(POLICY.probs)
    point = max(0.0, log_ratio[data.prompt, data.mismatched].mean())
    beta = 0.7
    gain = beta * (log_ratio[data.prompt, data.completion] - point)
    expected = np.where(data.label == 1, 1 / (1 + np.exp(gain)), 1 / (1 + np.exp(-gain))).mean()
    loss = functools.partial(losses.kto, beta=beta)
    assert objective(REFERENCE, loss, data, reference=POLICY) == pytest.approx(expected, rel=1e-13)
    assert point > 1 + max(0.0, log_ratio[data.prompt, data.completion].mean())
    # Without a reference log-ratios are log-probabilities.
    absent = objective(POLICY, loss, data, reference=None)
    gain = beta * np.log(POLICY.probs)[data.prompt, data.completion]
    expected = np.where(data.label == 1, 1 / (1 + np.exp(gain)), 1 / (1 + np.exp(-gain))).mean()
    assert absent == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("soft", [False, True])
def test_bco_weighs_by_the_column_as_by_the_option(soft):
    label = [0.8, 0.3, 1.0, 0.0, 0.5] if soft else DATA.label
    ratio = np.asarray([0.5, 2.0, 1.0, 3.0, 1.5])
    data = Feedback(DATA.prompt, DATA.completion, label, density_ratio=ratio)
    plain = Feedback(DATA.prompt, DATA.completion, label)
    option = np.tile(ratio, 2) if soft else ratio
    loss = functools.partial(losses.bco_unpaired, beta=0.5, shift=0.2)
    by_column = objective(POLICY, loss, data, reference=REFERENCE)
    weighted = functools.partial(loss, density_ratio=option)
    by_option = objective(POLICY, weighted, plain, reference=REFERENCE)
    assert by_column == pytest.approx(by_option, rel=1e-14)
    assert abs(objective(POLICY, loss, plain, reference=REFERENCE) - by_column) > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mismatched": [0, 1]}, "mismatched must have n = 5 entries"),
        ({"mismatched": [0, 1, 2, 3, -1]}, "mismatched"),
        ({"density_ratio": [1.0]}, "density_ratio must have n = 5 entries"),
        ({"density_ratio": [1, 1, -0.5, 1, 1]}, r"density_ratio must be >= 0, got -0\.5"),
        ({"density_ratio": [1, 1, np.nan, 1, 1]}, "density_ratio must be finite"),
    ],
)
def test_bad_columns(options, message):
    with pytest.raises(ValueError, match=message):
        Feedback(DATA.prompt, DATA.completion, DATA.label, **options)


def test_a_batch_is_not_mismatched():
    one, two = np.arange(3), np.zeros((2, 3), dtype=int)
    for prompt, completion in ((two, two), (two, one), (one, two)):
        batch = Feedback(prompt, completion, np.ones(3))
        with pytest.raises(ValueError, match=r"prompt must have shape \(n,\) to be mismatched"):
            batch.with_mismatched(seed=0)
