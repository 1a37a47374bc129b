"""arXiv:2410.08847: five words, drawn pairs, and training where hidden states are parameters."""

import functools

import numpy as np
import pytest

from paper_repros.theory.likelihood_displacement.drawn_pairs import (
    DPO,
    apart_from_others,
    drawn,
    drift,
    edit_distance,
    edit_distances,
    thirds,
)
from paper_repros.theory.likelihood_displacement.unconstrained import (
    BETA,
    NEVER,
    NO,
    Model,
    five_words,
    over,
    probabilities,
    step,
    trained,
)
from prefsim import losses
from prefsim.gradients import gradient
from prefsim.losses import PairLogps
from prefsim.numerics import log_softmax

RNG = np.random.default_rng


def test_five_words_at_the_start():
    known = [0.30142194, 0.35020233, 0.22329886, 0.10033465, 0.02474222]
    np.testing.assert_allclose(probabilities(five_words()), known, atol=5e-9)


@pytest.mark.parametrize(
    ("steps", "known"),
    [
        (50, [0.23586327, 0.11140509, 0.44264272, 0.18969917, 0.02038975]),
        (200, [0.07364771, 0.0001112, 0.75592343, 0.16987931, 0.00043834]),
        (400, [0.42202083, 0.0, 0.53559273, 0.0423856, 0.0]),
    ],
)
def test_no_over_never_by_dpo(steps, known):
    *_, end = trained(five_words(), over(NO, NEVER), DPO, rate=0.1, steps=steps)
    np.testing.assert_allclose(probabilities(end), known, atol=1e-6)


def test_a_frozen_state_and_ipo():
    *_, end = trained(five_words(), over(NO, NEVER), DPO, rate=0.1, steps=400, states=0.0)
    assert probabilities(end)[NO] == pytest.approx(0.693, abs=5e-4)
    np.testing.assert_array_equal(end.chosen_states, five_words().chosen_states)
    ipo = functools.partial(losses.ipo, tau=BETA)
    *_, end = trained(five_words(), over(NO, NEVER), ipo, rate=0.005, steps=200)
    assert probabilities(end)[2] == pytest.approx(0.728, abs=1e-3)


def test_a_step_descends_the_summed_loss():
    model, pairs = drawn(RNG(0), 3, shortest=2)
    start = pairs.log_probs(drawn(RNG(1), 3, shortest=2)[0])

    def loss(weights, prompt, chosen_rest, rejected_rest):
        sides = []
        for tokens, mask, rest in (
            (pairs.chosen, pairs.chosen_mask, chosen_rest),
            (pairs.rejected, pairs.rejected_mask, rejected_rest),
        ):
            # The state of the prompt is one parameter of both.
            states = prompt.new_zeros(3, 5, 16)
            states[:, 0], states[:, 1:] = prompt, rest
            logs = log_softmax(states @ weights.T)
            own = logs.gather(-1, prompt.new_tensor(tokens).long()[..., None])[..., 0]
            sides.append((own * prompt.new_tensor(mask)).sum(-1))
        return DPO(PairLogps(*sides, *map(prompt.new_tensor, start)))

    weights, chosen, rejected = model
    parts = weights, chosen[:, 0], chosen[:, 1:], rejected[:, 1:]
    moved = step(model, pairs, start, DPO, rate=-1.0)
    found = (
        moved.unembedding - weights,
        moved.chosen_states[:, 0] - chosen[:, 0],
        moved.chosen_states[:, 1:] - chosen[:, 1:],
        moved.rejected_states[:, 1:] - rejected[:, 1:],
    )
    for ours, theirs in zip(found, gradient(loss, *parts), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)
    np.testing.assert_array_equal(moved.chosen_states[:, 0], moved.rejected_states[:, 0])


def test_drawn_pairs_differ_in_the_first_token_and_share_the_prompt():
    model, pairs = drawn(RNG(3), 200, shortest=2)
    assert (pairs.chosen[:, 0] != pairs.rejected[:, 0]).all()
    np.testing.assert_array_equal(model.chosen_states[:, 0], model.rejected_states[:, 0])
    same = (pairs.chosen == pairs.rejected)[:, 1:].mean()
    assert same == pytest.approx(0.81, abs=0.04)
    assert set(pairs.chosen_mask.sum(axis=-1)) == {2, 3, 4, 5}
    assert drawn(RNG(3), 4)[1].chosen_mask.all()


@pytest.mark.parametrize(
    ("first", "second", "distance"),
    [([1, 2, 3], [1, 2, 3], 0.0), ([1, 2], [3], 1.0), ([1, 2, 3, 4], [1, 3, 4, 5], 0.5)],
)
def test_edit_distance(first, second, distance):
    assert edit_distance(first, second) == pytest.approx(distance)
    assert edit_distance(second, first) == pytest.approx(distance)


def test_edit_distances_leave_out_what_is_no_token():
    pairs = over(NO, NEVER)
    padded = type(pairs)(*(np.concatenate([x, np.zeros_like(x)], axis=-1) for x in pairs))
    np.testing.assert_array_equal(edit_distances(padded), [1.0])


def test_groups_are_those_of_lowest_median_and_highest_score():
    model, pairs = drawn(RNG(5), 20)
    score = RNG(6).permutation(20)
    group, _ = thirds(model, pairs, score, 4)
    order = np.argsort(score)
    np.testing.assert_array_equal(group.chosen_states[1], model.chosen_states[order[8:12]])
    np.testing.assert_array_equal(group.chosen_states[2], model.chosen_states[order[16:]])
    assert group.unembedding.shape == (3, 20, 16)


def test_groups_and_pairs_apart_are_trained_by_themselves():
    model, pairs = drawn(RNG(7), 12, shortest=2)
    together = drift(*thirds(model, pairs, pairs.ches(model), 4), 5)
    order = np.argsort(pairs.ches(model))[-4:]
    own = Model(model.unembedding, *(states[order] for states in model[1:]))
    highest = drift(own, type(pairs)(*(part[order] for part in pairs)), 5)
    np.testing.assert_allclose(together.chosen[2], highest.chosen, rtol=1e-12)
    alone = drift(*apart_from_others(model, pairs), 5)
    one = Model(model.unembedding, *(states[3:4] for states in model[1:]))
    single = drift(one, type(pairs)(*(part[3:4] for part in pairs)), 5)
    np.testing.assert_allclose(alone.chosen[3], single.chosen, rtol=1e-12)
