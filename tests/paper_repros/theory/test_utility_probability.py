"""arXiv:2305.14859: linear scores that are learned, decisions from noisy references, early ends."""

import numpy as np
import pytest

from paper_repros.theory.utility_probability.decoding import Ending, decide, learned
from paper_repros.theory.utility_probability.linear_scores import (
    Observed,
    Order,
    descend,
    drawn,
    first_improvement,
    likelihood_flow,
    nll,
    pair_losses,
    perceptron_updates,
)
from prefsim.losses import ClassLogits, cross_entropy
from prefsim.numerics import softmax

U = np.array([2.0, 1.0, 0.0, -1.0])


def worlds_of(world):
    return [Observed(*single) for single in zip(world.inputs, world.labels, strict=True)]


def test_the_loss_between_its_pairs():
    loss = float(cross_entropy(ClassLogits(U, np.asarray(0))))
    pairs = pair_losses(U, np.asarray(0))
    assert loss == pytest.approx(0.4401896986, abs=5e-11)
    np.testing.assert_allclose(pairs, [0.3132616875, 0.1269280110, 0.0485873516], atol=5e-11)
    assert pairs.sum() == pytest.approx(0.4887770501, abs=1e-10)
    assert pairs.max() < loss < pairs.sum()


def test_margins_and_first_steps_of_five_worlds():
    world = drawn(range(5))
    margins = world.largest_margin().margin
    np.testing.assert_allclose(margins, [0.3152, 0.1895, 0.2564, 0.3183, 0.2893], atol=5e-5)
    seen = Order.of(world, descend(world, np.arange(11)))
    first = seen.first(seen.right == 1)
    assert first.tolist() == [5, 1, 2, 1, 2]
    observed = seen.observed[first, np.arange(5)]
    np.testing.assert_allclose(observed, [0.598, 0.404, 0.430, 0.466, 0.500], atol=5e-4)
    updates = [perceptron_updates(single, limit=1000) for single in worlds_of(world)]
    assert updates == [4, 9, 11, 9, 9]
    assert (np.array(updates) <= world.perceptron_bound()).all()
    assert world.perceptron_bound().round() == pytest.approx([152, 620, 260, 252, 183])


def test_the_path_of_one_world():
    world = drawn([0])
    path = descend(world, np.array([10, 100, 1000]))
    seen = Order.of(world, path)
    np.testing.assert_allclose(seen.loss[:, 0], [0.414, 0.1129, 0.01678], rtol=2e-3)
    np.testing.assert_allclose(seen.norm[:, 0], [1.757, 4.973, 10.477], atol=5e-4)
    np.testing.assert_allclose((seen.margin / seen.norm)[:, 0], [0.015, 0.122, 0.250], atol=5e-4)
    np.testing.assert_array_equal(path.at(100), path.weights[1])
    np.testing.assert_allclose(first_improvement(world), 1.0, atol=1e-5)


def test_what_was_never_reached_is_the_last_step():
    world = drawn([1])
    seen = Order.of(world, descend(world, np.arange(3)))
    assert seen.first(seen.right > 1).tolist() == [2]
    assert seen.first(seen.right >= 0).tolist() == [0]


def test_worlds_descend_as_if_alone():
    steps = np.array([0, 3])
    together = descend(drawn([3, 4]), steps).weights
    for k, seed in enumerate((3, 4)):
        np.testing.assert_allclose(together[:, k], descend(drawn([seed]), steps).weights[:, 0])


def test_the_flow_is_the_descent_in_small_steps():
    batch = drawn([2])
    (world,) = worlds_of(batch)
    steps = np.array([0, 1000])
    descended = descend(batch, steps, rate=0.01).weights[-1, 0]
    flow = likelihood_flow(world, 0.0, duration=10.0)
    np.testing.assert_allclose(flow.at(10.0), descended, atol=1e-3)


def test_with_noisy_labels_the_flow_ends_at_their_law():
    # One input a label: as many weights as log-odds, so that the law of the labels is reached.
    world = Observed(np.eye(3), np.arange(3))
    flow = likelihood_flow(world, 0.3, duration=1e4)
    law = 0.7 * np.eye(3) + 0.1
    np.testing.assert_allclose(softmax(world.scores(flow.at(1e4))), law, atol=1e-6)
    assert nll(world, flow.at(1e4)) == pytest.approx(np.full(3, -np.log(0.8)), abs=1e-6)


def test_a_perceptron_stops_at_its_limit():
    contradicted = Observed(np.ones((2, 1)), np.array([0, 1]))
    assert perceptron_updates(contradicted, limit=17) == 17


def test_sampling_noisy_references():
    # To the digits in which these worlds agree, 1200 tokens each.
    rng = np.random.default_rng(7)
    rows = {
        1: (0.383, [0.003, 0.042, 0.305, 0.335]),
        3: (0.556, [0.030, 0.276, 0.656, 0.749]),
        10: (0.719, [0.138, 0.677, 0.983, 0.997]),
        100: (0.835, [0.339, 0.930, 1.0, 1.0]),
    }
    for references, (tokens, exact) in rows.items():
        model = learned(references, rng)
        assert model.accuracy(1.0).mean() == pytest.approx(tokens, abs=0.02)
        found = [model.exact_match(tau) for tau in (1.0, 0.5, 0.2, 0.1)]
        np.testing.assert_allclose(found, exact, atol=0.06)


def test_half_a_count_is_added():
    model = learned(1, np.random.default_rng(0), contexts=3)
    np.testing.assert_allclose(np.exp(model.utility).sum(axis=-1), 1.0)
    assert sorted(set(np.exp(model.utility).round(9).ravel())) == [0.142857143, 0.428571429]


def test_candidates_are_drawn_from_the_model_and_decided_for():
    model = learned(3, np.random.default_rng(1), contexts=400)
    found = decide(model, 1.0, np.random.default_rng(2), count=30)
    assert found.sampled.mean() == pytest.approx(model.accuracy(1.0).mean(), abs=0.01)
    assert (found.worth >= found.worth_of_map - 1e-12).all()
    np.testing.assert_allclose(found.worth, found.summed)
    assert found.by_map.mean() > found.sampled.mean() + 0.2


def test_an_output_that_may_end_at_once():
    ending = Ending(0.1, 10, 4)
    log_probs = ending.log_probs()
    assert log_probs.shape == (10_001,)
    np.testing.assert_allclose(log_probs[[0, -1]], [-2.3025850930, -9.3157008876], atol=5e-11)
    assert np.exp(log_probs).sum() == pytest.approx(1.0)
    per_token = ending.utility(1.0)[[0, -1]]
    np.testing.assert_allclose(per_token, [-2.3025850930, -1.8631401775], atol=5e-11)
