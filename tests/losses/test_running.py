"""Losses with a running state: the state by hand, its path in training, and where a fit ends."""

import functools
import itertools
import pickle
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.data import Comparisons, Feedback
from prefsim.losses import PairLogps, RunningLoss, UnpairedLogps
from prefsim.losses.catalogue import properties_of
from prefsim.losses.running import after_batch, running_losses, settled_on
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, gradient_descent, objective
from prefsim.testing.bandits import margins
from prefsim.worlds import ContextualBandit

ZERO = np.zeros(3)
FIRST = PairLogps(np.asarray([1.0, -2.75, 4.0]), ZERO, ZERO, ZERO)
SECOND = PairLogps(np.asarray([2.0, 2.0, 5.0]), ZERO, ZERO, ZERO)


# --- β-DPO ---


def test_the_moving_mean_by_hand():
    """Means .75 and 3, deviations √11.4375 and √3 (with n − 1)."""
    loss = losses.running_beta_dpo(keep=1.0)
    assert loss.state.mean == loss.state.deviation == loss.state.batches == 0
    loss = loss.after(FIRST)
    assert loss.state.mean == pytest.approx(0.075, rel=1e-15)
    assert loss.state.deviation == pytest.approx(0.1 * 11.4375**0.5, rel=1e-15)
    # β = .1 (1 + .6 (.75 − .075))
    np.testing.assert_allclose(loss(FIRST), np.log1p(np.exp(-0.1405 * FIRST.chosen)), rtol=1e-14)
    loss = loss.after(SECOND)
    assert loss.state.mean == pytest.approx(0.9 * 0.075 + 0.3, rel=1e-15)
    assert loss.state.deviation == pytest.approx(0.09 * 11.4375**0.5 + 0.1 * 3**0.5, rel=1e-15)
    assert loss.state.batches == 2
    # β = .1 (1 + .6 (3 − .3675))
    np.testing.assert_allclose(loss(SECOND), np.log1p(np.exp(-0.25795 * SECOND.chosen)), rtol=1e-14)


def test_a_margin_that_stands_still_leaves_beta_as_it_is():
    """Within .9^k of it: the margin is ten nats, at which β would be .7 for a mean of zero."""
    ten = PairLogps(np.full(4, 10.0), *[np.zeros(4)] * 3)
    frozen = losses.beta_dpo(ten)
    np.testing.assert_allclose(frozen, losses.dpo(ten, beta=0.7), rtol=1e-14)
    loss = losses.running_beta_dpo(keep=1.0)
    for k in range(1, 100):
        loss = loss.after(ten)
        assert loss.state.mean == pytest.approx(10 * (1 - 0.9**k), rel=1e-12)
    np.testing.assert_allclose(loss(ten), losses.dpo(ten, beta=0.1), rtol=2e-3)
    np.testing.assert_allclose(loss.settled(ten)(ten), losses.dpo(ten, beta=0.1), rtol=1e-14)


def test_what_is_not_kept_neither_counts_nor_moves_beta():
    kept = np.asarray([True, False, True])
    value = losses.beta_dpo(FIRST, margin_mean=1.0, kept=kept)
    # Mean of what is kept 2.5: β = .1 (1 + .6 · 1.5); two of three, scaled by 3/2.
    expected = 1.5 * np.log1p(np.exp(-0.19 * FIRST.chosen)) * kept
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    few = PairLogps(*(field[kept] for field in FIRST[:4]))
    assert value.mean() == pytest.approx(losses.beta_dpo(few, margin_mean=1.0).mean(), rel=1e-14)
    moved = torch.tensor(FIRST.chosen, requires_grad=True)
    batch = PairLogps(moved, *[torch.zeros(3, dtype=torch.float64)] * 3)
    losses.beta_dpo(batch, kept=torch.tensor(kept)).sum().backward()
    assert moved.grad[1] == 0
    assert (moved.grad[[0, 2]] != 0).all()


def test_kept_is_checked():
    with pytest.raises(ValueError, match="kept must hold booleans, got dtype float64"):
        losses.beta_dpo(FIRST, kept=np.ones(3))
    with pytest.raises(ValueError, match=r"must broadcast, got kept \(2,\), values \(3,\)"):
        losses.beta_dpo(FIRST, kept=np.ones(2, dtype=bool))
    nothing = losses.beta_dpo(FIRST, kept=np.zeros(3, dtype=bool))
    np.testing.assert_array_equal(nothing, np.zeros(3))


# --- the filter ---


@given(margins(50.0), st.floats(0.05, 1.0), st.integers(0, 99))
def test_the_filter_keeps_a_share_of_the_batch(margin, keep, seed):
    kept = losses.guided_filter(margin, mean=0.0, deviation=2.0, keep=keep, seed=seed)
    assert kept.dtype == bool
    assert kept.sum() == max(1, int(keep * margin.size + 1e-9))


def test_the_filter_draws_as_said():
    """Two of three without replacement: the law of ordered draws, by enumeration."""
    margin, mean, deviation = np.asarray([0.0, 1.0, 2.5]), 0.5, 1.2
    weight = np.exp(-0.5 * ((margin - mean) / deviation) ** 2)
    expected = np.zeros(3)
    for first, second in itertools.permutations(range(3), 2):
        chance = weight[first] / weight.sum()
        chance *= weight[second] / (weight.sum() - weight[first])
        expected[[first, second]] += chance
    rng = np.random.default_rng(0)
    draws = np.asarray(
        [
            losses.guided_filter(margin, mean=mean, deviation=deviation, keep=2 / 3, seed=rng)
            for _ in range(20_000)
        ]
    )
    # Four standard errors of a share.
    assert np.abs(draws.mean(axis=0) - expected).max() < 4 * 0.5 / 20_000**0.5


def test_the_filter_without_a_deviation_and_far_out():
    same = losses.guided_filter(np.ones(5), mean=0.0, deviation=0.0, seed=1)
    assert same.sum() == 4
    # Weights of exp(−10⁹): none is larger than zero in float64, and still two are drawn.
    far = losses.guided_filter([1e5, 1e5 + 1, 2e5], mean=0.0, deviation=2.0, keep=2 / 3, seed=0)
    np.testing.assert_array_equal(far, [True, True, False])
    assert losses.guided_filter(np.zeros(0), mean=0.0, deviation=1.0, seed=0).shape == (0,)


def test_the_filter_measures_by_the_deviation_however_small():
    margins = [0.0, 0.01, 50.0, -0.01]
    kept = losses.guided_filter(margins, mean=0.0, deviation=0.5, keep=0.75, seed=0)
    np.testing.assert_array_equal(kept, [True, True, False, True])
    with np.errstate(all="raise"):
        kept = losses.guided_filter(np.zeros(4), mean=0.0, deviation=0.0, keep=0.75, seed=0)
    assert kept.sum() == 3


def test_two_pairs_have_a_deviation():
    two = PairLogps(*(part[:2] for part in FIRST[:4]))
    margin = (two.chosen - two.ref_chosen) - (two.rejected - two.ref_rejected)
    state = losses.running_beta_dpo().settled(two).state
    assert state.deviation == pytest.approx(abs(margin[0] - margin[1]) / np.sqrt(2))


def test_of_no_pairs_there_are_no_robust_losses():
    assert losses.drdpo(PairLogps(*[np.zeros(0)] * 4)).shape == (0,)


def test_every_batch_is_filtered_by_a_draw_of_its_own():
    batch = PairLogps(np.linspace(-1, 1, 20), *[np.zeros(20)] * 3)
    # At the start σ₀ is a tenth of the deviation, and the draw nearly certain.
    loss = losses.running_beta_dpo(keep=0.5, seed=3).settled(batch)
    masks = []
    for _ in range(3):
        loss = loss.after(batch)
        masks.append(loss.state.options(batch)["kept"])
        np.testing.assert_array_equal(masks[-1], loss.state.options(batch)["kept"])
    assert not np.array_equal(masks[0], masks[1])
    assert not np.array_equal(masks[1], masks[2])
    other = losses.running_beta_dpo(keep=0.5, seed=4).settled(batch).after(batch)
    assert not np.array_equal(masks[0], other.state.options(batch)["kept"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, r"momentum must lie in \[0.0, 1.0\), got 1.0"),
        ({"keep": 0.0}, r"keep must lie in \(0.0, 1.0\], got 0.0"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"beta": 0.0}, "beta must be a finite number > 0, got 0.0"),
        ({"alpha": -1.0}, "alpha must be a finite number >= 0, got -1.0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        losses.running_beta_dpo(**options)


def test_bad_batches_and_states():
    empty = PairLogps(*[np.zeros(0)] * 4)
    with pytest.raises(ValueError, match="margin must hold at least one value, got 0"):
        losses.running_beta_dpo().after(empty)
    with pytest.raises(ValueError, match=r"^margin must have 1 axes, got shape \(2, 3\)"):
        losses.running_beta_dpo().after(PairLogps(*[np.zeros((2, 3))] * 4))
    with pytest.raises(ValueError, match="chosen must hold no NaN"):
        losses.running_beta_dpo().after(FIRST._replace(chosen=np.asarray([1.0, np.nan, 0.0])))
    with pytest.raises(ValueError, match="state must be a NamedTuple with the methods after"):
        RunningLoss(losses.dpo, 0.1)
    with pytest.raises(ValueError, match="must be annotated with one of"):
        RunningLoss(len, losses.MovingMargin())
    with pytest.raises(ValueError, match="deviation must be a finite number >= 0"):
        losses.guided_filter(np.ones(2), mean=0.0, deviation=-1.0, seed=0)
    with pytest.raises(ValueError, match="beta must be a finite number > 0"):
        losses.running_bco(beta=0.0)


# --- BCO ---


def thumbs(log_ratio):
    return UnpairedLogps(
        np.asarray(log_ratio), np.zeros(len(log_ratio)), np.arange(len(log_ratio)) % 2 == 0
    )


@given(st.lists(st.lists(st.floats(-50, 50), min_size=1, max_size=5), min_size=1, max_size=4))
def test_the_running_shift_is_the_mean_of_all_rewards(batches):
    loss = losses.running_bco(beta=0.3)
    for batch in batches:
        loss = loss.after(thumbs(batch))
    seen = np.concatenate(batches)
    assert loss.state.seen == seen.size
    assert loss.state.mean == pytest.approx(0.3 * seen.mean(), abs=1e-12)
    np.testing.assert_array_equal(
        loss(thumbs(batch)),
        losses.bco_unpaired(thumbs(batch), beta=0.3, shift=loss.state.mean),
    )


def test_weights_count_in_the_shift():
    batch = thumbs([1.0, 2.0, 6.0])
    weighted = losses.running_bco(beta=0.5).after(batch, np.asarray([1.0, 0.0, 0.5]))
    assert weighted.state == (0.5, pytest.approx(0.5 * (1 + 3) / 1.5, rel=1e-15), 1.5)
    twice = weighted.after(thumbs([4.0]), np.asarray([1.5]))
    assert twice.state.mean == pytest.approx(0.5 * (1 + 3 + 6) / 3, rel=1e-15)
    for weight in ([0.0, 0.0, 0.0], [1.0, -1.0, 1.0]):
        with pytest.raises(ValueError, match="weight must be >= 0 and not zero everywhere"):
            weighted.after(batch, np.asarray(weight))
    with pytest.raises(ValueError, match="one shape"):
        weighted.after(batch, np.ones(2))


def test_weights_count_where_a_loss_comes_to_rest():
    batch, weight = thumbs([1.0, 2.0, 6.0]), np.asarray([1.0, 0.0, 0.5])
    loss = losses.running_bco(beta=0.5)
    assert settled_on(loss, batch, weight).state == loss.settled(batch, weight).state
    assert settled_on(loss, batch, weight).state.mean == pytest.approx(0.5 * 4 / 1.5, rel=1e-15)
    assert after_batch(loss, batch, weight).state == loss.after(batch, weight).state
    assert settled_on(losses.dpo, batch, weight) is losses.dpo


def test_a_batch_of_one_pair_has_no_deviation():
    alone = PairLogps(*(field[:1] for field in FIRST[:4]))
    with np.errstate(all="raise"):
        state = losses.running_beta_dpo().after(alone).state
    assert state.deviation == 0.0
    assert state.mean == pytest.approx(0.1, rel=1e-15)


# --- as a loss ---


RUNNING = {
    "beta_dpo": (losses.running_beta_dpo(), FIRST),
    "bco": (losses.running_bco(), thumbs([1.0, -2.0, 0.5])),
}


@pytest.mark.parametrize("name", RUNNING)
def test_a_running_loss_is_a_loss_with_its_state_in_sight(name):
    loss, batch = RUNNING[name]
    assert losses.container_of(loss) is type(batch)
    before = loss.state
    moved = after_batch(loss, batch)
    assert loss.state is before
    assert moved.state != before
    again = pickle.loads(pickle.dumps(moved))
    assert again.state == moved.state
    np.testing.assert_array_equal(again(batch), moved(batch))
    # What a checkpoint does.
    assert type(moved.state)(**moved.state._asdict()) == moved.state
    as_torch = type(batch)(*(None if f is None else torch.tensor(f) for f in batch))
    assert after_batch(loss, as_torch).state == moved.state
    np.testing.assert_allclose(moved(as_torch).numpy(), moved(batch), rtol=1e-14)
    # Endless repetition.
    for _ in range(400):
        moved = moved.after(batch)
    assert moved.state.mean == pytest.approx(settled_on(loss, batch).state.mean, rel=1e-10)


def test_a_loss_without_state_stays_as_it_is():
    assert after_batch(losses.dpo, FIRST) is losses.dpo
    assert settled_on(losses.dpo, FIRST) is losses.dpo


class Counted(NamedTuple):
    """A state of somebody's own: β falls with the number of batches."""

    batches: int = 0

    def after(self, logps, weight=None):
        return Counted(self.batches + 1)

    def settled(self, logps, weight=None):
        return self

    def options(self, logps):
        return {"beta": 1 / (1 + self.batches)}


def test_a_state_of_ones_own():
    loss = RunningLoss(losses.dpo, Counted()).after(FIRST).after(FIRST)
    np.testing.assert_array_equal(loss(FIRST), losses.dpo(FIRST, beta=1 / 3))


# --- in training ---

WORLD, REFERENCE = ContextualBandit.random(2, 3, seed=0), TabularPolicy.uniform(2, 3)
PAIRS = Comparisons.sample(WORLD, 30, seed=1, policy=REFERENCE)
THUMBS = Feedback.population([[0.2, 0.5, 0.9], [0.6, 0.4, 0.1]], REFERENCE)


def test_gradient_descent_moves_the_state_and_then_the_policy():
    start = TabularPolicy.random(2, 3, seed=5)
    loss = losses.running_beta_dpo(beta=0.5, keep=0.8, seed=2)
    result, _ = gradient_descent(start, loss, PAIRS, reference=REFERENCE, step=0.3, iterations=4)
    policy, state = start, loss
    for k in range(4):
        logps, weight = PAIRS.examples(policy, PAIRS.log_probs(REFERENCE), PairLogps)
        state = state.after(logps, weight)
        constants = state.state.options(logps)
        h = logps.chosen - logps.ref_chosen - logps.rejected + logps.ref_rejected
        kept = constants["kept"]
        strength = 0.5 * (1 + 0.6 * (h[kept].mean() - state.state.mean))
        assert result.history[k, 0] == pytest.approx(
            np.log1p(np.exp(-strength * h[kept])).mean(), rel=1e-12
        )
        frozen = functools.partial(losses.beta_dpo, beta=0.5, **constants)
        step, _ = gradient_descent(
            policy, frozen, PAIRS, reference=REFERENCE, step=0.3, iterations=1
        )
        policy = step.policy
    np.testing.assert_allclose(result.policy.probs, policy.probs, rtol=1e-12)
    assert result.loss.state.batches == 4
    assert result.loss.state.mean == pytest.approx(state.state.mean, rel=1e-12)
    assert loss.state.batches == 0


def test_a_descent_in_two_parts_is_one():
    whole, _ = gradient_descent(
        REFERENCE, losses.running_bco(), THUMBS, reference=REFERENCE, step=1.0, iterations=6
    )
    first, _ = gradient_descent(
        REFERENCE, losses.running_bco(), THUMBS, reference=REFERENCE, step=1.0, iterations=2
    )
    second, _ = gradient_descent(
        first.policy, first.loss, THUMBS, reference=REFERENCE, step=1.0, iterations=4
    )
    np.testing.assert_allclose(second.policy.probs, whole.policy.probs, rtol=1e-13)
    assert second.loss.state == pytest.approx(whole.loss.state, rel=1e-13)


def test_fit_of_beta_dpo_ends_where_dpo_does():
    """At rest the margin's mean is its moving mean, and β_b is β."""
    running = losses.running_beta_dpo(beta=0.5, keep=1.0)
    result = fit(REFERENCE, running, PAIRS, reference=REFERENCE, max_iterations=200)
    plain = fit(REFERENCE, functools.partial(losses.dpo, beta=0.5), PAIRS, reference=REFERENCE)
    assert result.converged
    np.testing.assert_allclose(result.policy.probs, plain.policy.probs, atol=1e-9)
    logps, _ = PAIRS.examples(result.policy, PAIRS.log_probs(REFERENCE), PairLogps)
    margin = losses.reward_margin(logps)
    assert result.loss.state.mean == pytest.approx(margin.mean(), rel=1e-12)


def test_fit_of_running_bco_ends_at_the_mean_reward():
    """On a population of soft labels and unequal weights: the shift is the mean that they say."""
    beta = 0.5
    loss = losses.running_bco(beta=beta)
    result = fit(REFERENCE, loss, THUMBS, reference=REFERENCE)
    assert result.converged
    log_ratio = np.log(result.policy.probs) - np.log(REFERENCE.probs)
    mean = beta * (0.5 * REFERENCE.probs * log_ratio).sum()
    assert result.loss.state.mean == pytest.approx(mean, rel=1e-9)
    # A stationary point of the loss at that shift.
    at_rest = functools.partial(losses.bco_unpaired, beta=beta, shift=mean)
    fixed = fit(result.policy, at_rest, THUMBS, reference=REFERENCE)
    np.testing.assert_allclose(fixed.policy.probs, result.policy.probs, atol=1e-9)
    assert result.value == pytest.approx(
        float(objective(result.policy, at_rest, THUMBS, reference=REFERENCE)), rel=1e-9
    )


def test_a_batch_of_policies_is_refused():
    start = TabularPolicy(np.zeros((2, 2, 3)))
    with pytest.raises(ValueError, match=r"one policy at a time, got a batch of \(2,\)"):
        fit(start, losses.running_bco(), THUMBS, reference=REFERENCE)


def test_beta_dpo_with_weights_that_it_cannot_see_is_refused():
    soft = Comparisons.population(WORLD, REFERENCE, distinct=True)
    with pytest.raises(ValueError, match="needs hard labels of equal weight"):
        fit(REFERENCE, losses.running_beta_dpo(), soft, reference=REFERENCE)


def test_what_kind_of_function_it_is():
    for name, (loss, _) in RUNNING.items():
        plain = {"beta_dpo": losses.beta_dpo, "bco": losses.bco_unpaired}[name]
        assert properties_of(loss, name) == properties_of(plain, name)


def test_those_that_there_are():
    assert running_losses() == {
        "running_bco": losses.running_bco,
        "running_beta_dpo": losses.running_beta_dpo,
    }
    assert not set(running_losses()) & set(losses.loss_functions())


def test_the_stated_scale_of_running_bco():
    batch = losses.UnpairedLogps.example(5)
    found, stated, other = (
        losses.running_bco(**given)(batch) for given in ({}, {"beta": 0.1}, {"beta": 0.2})
    )
    np.testing.assert_array_equal(found, stated)
    assert not np.allclose(found, other)
