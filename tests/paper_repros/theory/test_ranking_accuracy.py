"""arXiv:2405.19534: pairs turned at a loss, tables, features, and what IPO ends at."""

import functools

import numpy as np
import pytest

from paper_repros.theory.ranking_accuracy.pairs import (
    BETA,
    Features,
    Table,
    mid_quantiles,
    pair_logps,
    train_alone,
    train_ipo,
)
from prefsim import losses
from prefsim.gradients import gradient
from prefsim.numerics import log_softmax


def test_pairs_turned_at_a_loss():
    against = mid_quantiles(1000)
    assert (against.mean(), against.std()) == pytest.approx((5.0, 30.0), abs=0.1)
    trained = train_alone(against, (0.5, 0.01))
    reach = [each.margins[0] + against[0] for each in trained]
    assert reach == pytest.approx([4.328, 46.002], abs=1e-3)
    assert [each.turned(against) for each in trained] == pytest.approx([0.1011, 0.8484], abs=2e-3)
    assert [each.accuracy for each in trained] == pytest.approx([0.4911, 0.9141], abs=2e-3)
    assert trained[0].losses == pytest.approx(np.full(1000, 0.5), abs=1e-9)


@pytest.mark.parametrize(("against", "ends"), [(7.0, -2.0), (3.0, 2.0), (-2.0, 7.0)])
def test_where_ipo_ends(against, ends):
    assert train_ipo(np.array([against]), tau=0.1) == pytest.approx([ends], abs=1e-5)


def test_the_alignment_gap_of_tables():
    table = Table.draw(range(5))
    policies = table.descend((0, 100, 1000))
    known = [
        [0.529, 0.493, 0.514, 0.514, 0.564],
        [0.800, 0.775, 0.743, 0.779, 0.754],
        [0.882, 0.879, 0.832, 0.861, 0.804],
    ]
    found = [table.accuracy(policy) for policy in policies]
    np.testing.assert_allclose(found, known, atol=5e-4)
    ideal = table.accuracy(table.optimum)
    np.testing.assert_allclose(ideal, [0.957, 0.982, 0.975, 0.964, 0.975], atol=5e-4)


def test_the_optimum_of_a_table_has_no_slope():
    table = Table.draw((3, 4))
    assert np.abs(table.slope(table.optimum)).max() < 1e-15
    assert table.weights.sum(axis=(-2, -1)) == pytest.approx(2 * np.full((2, 10), 0.5) * 2 * 0.5)
    logits = table.log_reference + 0.3 * np.random.default_rng(0).normal(size=(2, 10, 8))

    def loss(z):
        at, ref = log_softmax(z), z.new_tensor(table.log_reference)
        gap = at[..., :, None] - at[..., None, :] - ref[..., :, None] + ref[..., None, :]
        value = losses.dpo(pair_logps(gap, 0 * gap), beta=BETA)
        return z.new_tensor(table.weights) * value

    slope = table.slope(log_softmax(logits))
    np.testing.assert_allclose(slope, gradient(loss, logits), atol=1e-14)


def test_features_descend_their_loss():
    pairs = Features.draw(np.random.default_rng(2), prompts=5)
    assert pairs.differences.shape == (15, 24)
    loss = functools.partial(losses.dpo, beta=BETA)

    def mean(theta):
        margins = theta.new_tensor(pairs.differences) @ theta
        return loss(pair_logps(margins, theta.new_tensor(pairs.against))).mean()

    stepped = pairs.descend(rate=2.0, steps=1)
    expected = pairs.differences @ (pairs.start - 2.0 * gradient(mean, pairs.start))
    np.testing.assert_allclose(stepped, expected, atol=1e-12)
    assert pairs.loss(stepped) < pairs.loss(-pairs.against) == pytest.approx(np.log(2))
