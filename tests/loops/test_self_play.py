"""Sampled self-play.

The judge's table, win rates, pairs, and rounds that approach the exact step.
"""

import functools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses
from prefsim.loops import descent, judged_samples, sampled_pairs, self_play, table_judge
from prefsim.policies import TabularPolicy
from prefsim.solvers import solve_nash
from prefsim.worlds import PreferenceGame, textbook_game

GAME = textbook_game().preference
LAST = np.array([0.4, 0.4, 0.2])
POLICY = TabularPolicy.from_probs(LAST[None])
JUDGE = table_judge(GAME[None])


@given(st.integers(0, 99), st.booleans())
def test_the_judge_looks_up(seed, batched):
    rng = np.random.default_rng(seed)
    table = PreferenceGame.random(4, seed=seed, batch_shape=(3, 2) if batched else (2,)).preference
    prompt, first, second = (
        np.array([1, 0, 1]),
        rng.integers(0, 4, (3, 3, 2)),
        rng.integers(0, 4, (3, 3, 5)),
    )
    found = table_judge(table)(prompt, first, second)
    assert found.shape == (3, 3, 2, 5)
    for b, m, i, j in np.ndindex(found.shape):
        assert (
            found[b, m, i, j]
            == table[(b,) if batched else ()][prompt[m], first[b, m, i], second[b, m, j]]
        )


def test_a_batch_of_policies_draws_each_for_itself():
    batch = TabularPolicy.from_probs([[[1.0, 0.0, 0.0]], [[0.0, 0.2, 0.8]]])
    drawn = judged_samples(batch, JUDGE, np.zeros(2000, dtype=int), n_samples=2, seed=0).responses
    assert drawn.shape == (2, 2000, 2)
    assert set(np.unique(drawn[0])) == {0}
    assert np.bincount(drawn[1].ravel(), minlength=3) / 4000 == pytest.approx(
        [0.0, 0.2, 0.8], abs=0.03
    )


def test_win_rates():
    """Against itself a response wins ½, which draws the estimate towards ½ by (K − 1)/K."""
    prompt = np.zeros(20_000, dtype=int)
    plain, drawn = (
        judged_samples(POLICY, JUDGE, prompt, n_samples=5, include_self=flag, seed=0)
        for flag in (False, True)
    )
    np.testing.assert_array_equal(plain.responses, drawn.responses)
    np.testing.assert_allclose(drawn.win_rate - 0.5, (plain.win_rate - 0.5) * 4 / 5, atol=1e-15)
    opposed = judged_samples(
        POLICY,
        JUDGE,
        prompt,
        n_samples=5,
        opponent=TabularPolicy.from_probs([[0.0, 0.0, 1.0]]),
        seed=0,
    )
    np.testing.assert_array_equal(opposed.win_rate, GAME[opposed.responses, 2])
    for y, expected in enumerate(GAME @ LAST):
        assert plain.win_rate[plain.responses == y].mean() == pytest.approx(expected, abs=0.01)


def test_pairs():
    samples = judged_samples(POLICY, JUDGE, np.zeros(500, dtype=int), n_samples=5, seed=0)
    best = sampled_pairs(samples, POLICY)
    assert len(best) == 500
    np.testing.assert_array_equal(best.chosen_score, samples.win_rate.max(axis=-1))
    np.testing.assert_array_equal(best.rejected_score, samples.win_rate.min(axis=-1))
    np.testing.assert_allclose(np.exp(best.old_chosen), LAST[best.chosen], rtol=1e-14)
    assert (best.prob == 1).all()
    np.testing.assert_array_equal(
        sampled_pairs(samples, POLICY, labels="soft").prob, GAME[best.chosen, best.rejected]
    )
    every = judged_samples(POLICY, JUDGE, np.zeros(20_000, dtype=int), n_samples=2, seed=1)
    lots = sampled_pairs(every, POLICY, pairing="all", labels="sampled", seed=2)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        won, lost = (((lots.chosen == a) & (lots.rejected == b)).sum() for a, b in ((i, j), (j, i)))
        assert won / (won + lost) == pytest.approx(GAME[i, j], abs=0.03)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (functools.partial(losses.dno, step=0.5), "rank"),
        (functools.partial(losses.mirror_descent, step=0.5, tau=0.0), "rank"),
        (functools.partial(losses.inpo, step=0.5, tau=0.0), "sampled"),
        (functools.partial(losses.sppo, beta=2.0), "soft"),
    ],
)
def test_many_samples_make_the_exact_steps(loss, labels):
    found = self_play(
        POLICY,
        loss,
        JUDGE,
        rounds=2,
        n_samples=20,
        draws=2000,
        pairing="all",
        labels=labels,
        include_self=False,
        seed=0,
    )[-1].policy
    exact = solve_nash(
        GAME, method="mwu", initial=LAST, step=0.5, max_iterations=2, tolerance=0.0
    ).policy
    np.testing.assert_allclose(found.probs[0], exact, atol=0.006)


def test_a_trainer_may_stop_early():
    loss = functools.partial(losses.sppo, beta=2.0)
    one = self_play(
        POLICY, loss, JUDGE, rounds=1, draws=50, train=descent(step=0.1, iterations=1), seed=0
    )[0]
    full = self_play(POLICY, loss, JUDGE, rounds=1, draws=50, seed=0)[0]
    np.testing.assert_array_equal(one.pairs.chosen, full.pairs.chosen)
    near, far = (np.abs(r.policy.probs[0] - LAST).max() for r in (one, full))
    assert 0 < near < far


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds must be"),
        ({"draws": 0}, "draws must be"),
        ({"n_samples": 1}, "n_samples must be"),
        ({"pairing": "some"}, "pairing must be"),
        ({"labels": "none"}, "labels must be"),
        ({"train": 3}, "train"),
        (
            {"judge": lambda prompt, first, second: np.full((*first.shape, 1), 0.5)},
            "preferences of the judge",
        ),
        (
            {"judge": lambda prompt, first, second: np.full((*first.shape, first.shape[-1]), 0.7)},
            "preferences of the judge",
        ),
    ],
)
def test_bad_input(change, message):
    options = {"judge": JUDGE, "rounds": 1, "n_samples": 2, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        self_play(POLICY, losses.sppo, options.pop("judge"), **options)


def test_bad_table():
    with pytest.raises(ValueError, match="preference"):
        table_judge([[[0.5, 0.9], [0.2, 0.5]]])


def abstaining(first, second):
    """Return the judge of the game that says nothing of two of its responses."""

    def judge(prompt, these, those):
        silent = (these[..., :, None] == first) & (those[..., None, :] == second)
        silent |= (these[..., :, None] == second) & (those[..., None, :] == first)
        return np.where(silent, np.nan, JUDGE(prompt, these, those))

    return judge


class TestAnAbstainingJudge:
    @pytest.mark.parametrize("labels", ["rank", "soft", "sampled"])
    @pytest.mark.parametrize("pairing", ["best_worst", "all", "tournament"])
    def test_its_pairs_are_left_out(self, pairing, labels):
        prompt = np.zeros(200, dtype=int)
        samples = judged_samples(POLICY, abstaining(0, 2), prompt, n_samples=3, seed=0)
        assert np.isnan(samples.preference).any()
        pairs = sampled_pairs(samples, POLICY, pairing=pairing, labels=labels)
        asked = {frozenset(pair) for pair in zip(pairs.chosen, pairs.rejected, strict=True)}
        assert frozenset({0, 2}) not in asked and frozenset({0, 1}) in asked
        assert pairs.weight.sum() == pytest.approx(1)

    def test_those_of_a_batch_have_no_weight(self):
        batch = TabularPolicy.from_probs([LAST[None], [[0.1, 0.8, 0.1]]])
        prompt = np.zeros(50, dtype=int)
        samples = judged_samples(batch, abstaining(0, 2), prompt, n_samples=2, seed=0)
        pairs = sampled_pairs(samples, batch)
        silent = (pairs.chosen + pairs.rejected == 2) & (pairs.chosen != pairs.rejected)
        assert silent.any(axis=-1).all()
        np.testing.assert_array_equal(pairs.weight == 0, silent)
        np.testing.assert_allclose(pairs.weight.sum(axis=-1), 1)

    @pytest.mark.parametrize("batched", [False, True])
    def test_self_play_learns_from_the_rest(self, batched):
        """What is never compared moves by what it wins against the third."""
        start = TabularPolicy.from_probs([LAST[None]] * 2 if batched else LAST[None])
        rounds = self_play(
            start,
            functools.partial(losses.sppo, beta=2.0),
            abstaining(0, 2),
            rounds=2,
            draws=500,
            seed=0,
        )
        probs = rounds[-1].policy.probs[..., 0, :]
        # 0 beats 1 and 1 beats 2: without 2 against 0 the cycle is an order.
        assert (np.diff(np.log(probs) - np.log(LAST), axis=-1) < 0).all()

    def test_against_an_opponent(self):
        found = judged_samples(
            POLICY,
            abstaining(0, 2),
            np.zeros(100, dtype=int),
            n_samples=2,
            opponent=TabularPolicy.from_probs([[0.0, 0.0, 1.0]]),
            seed=0,
        )
        np.testing.assert_array_equal(np.isnan(found.win_rate), found.responses == 0)

    def test_silence_and_nonsense(self):
        def asked(answer):
            return judged_samples(
                POLICY, lambda *_: np.full((2, 2, 2), answer), [0, 0], n_samples=2, seed=0
            )

        with pytest.raises(ValueError, match="abstained from every one of 2 pairs"):
            sampled_pairs(asked(np.nan), POLICY)
        for answer, message in ((0.7, "P \\+ Pᵀ = 1"), (np.inf, "must be finite, got inf")):
            with pytest.raises(ValueError, match=f"preferences of the judge.*{message}"):
                asked(answer)


def test_a_judge_in_single_precision():
    """Its logistic of a margin and of minus the margin sum to one in single precision alone."""

    def judge(prompt, these, those):
        margins = np.float32(0.37) * (these[..., :, None] - those[..., None, :])
        return 1 / (1 + np.exp(-margins.astype(np.float32)))

    found = judged_samples(POLICY, judge, np.zeros(20, dtype=int), n_samples=4, seed=0).preference
    np.testing.assert_array_equal(found + np.swapaxes(found, -1, -2), 1)
