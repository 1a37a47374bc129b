"""arXiv:2410.05102: the loss by hand, scales that grow, and small worlds end to end.

What the loss refuses is in ``tests/losses``.
"""

import functools

import numpy as np
import pytest

from paper_repros.mdp.sparsepo.runs import measured, seeds_of_worlds
from paper_repros.mdp.sparsepo.token_world import Problem, Setting, draw_worlds
from prefsim import losses
from prefsim.losses import TokenPairLogps, sparse_po
from prefsim.papers import Run


def padded(*numbers):
    return np.array([[*numbers, *[7.0] * (3 - len(numbers))]])


PAIR = TokenPairLogps(
    chosen=padded(-0.5, -1.2, -0.3),
    rejected=padded(-1.5, -0.4),
    ref_chosen=padded(-0.8, -1.0, -0.9),
    ref_rejected=padded(-1.1, -0.7),
    chosen_mask=np.array([[True, True, True]]),
    rejected_mask=np.array([[True, True, False]]),
    chosen_kl=padded(0.02, 0.10, 0.05),
    rejected_kl=padded(0.07, 0.01),
    chosen_reward_weight=padded(1.0, 0.0, 0.5),
    rejected_reward_weight=padded(0.3, 1.0),
    chosen_kl_weight=padded(0.2, 0.4, 0.0),
    rejected_kl_weight=padded(0.0, 1.0),
)
ONES = dict.fromkeys(
    (f"{side}_{kind}_weight" for side in ("chosen", "rejected") for kind in ("reward", "kl")),
    np.ones((1, 3)),
)


def test_the_loss_by_hand():
    loss = functools.partial(sparse_po, beta=0.8)
    # u = 0.42, and the divergence of the chosen response less that of the other 0.034.
    assert loss(PAIR) == pytest.approx(np.log1p(np.exp(-0.8 * 0.454)), abs=1e-12)
    assert loss(PAIR) == pytest.approx(0.5279466176, abs=1e-10)
    assert loss(PAIR._replace(**ONES)) == pytest.approx(0.3992202439, abs=1e-10)
    without = ONES | {"chosen_kl_weight": np.zeros((1, 3)), "rejected_kl_weight": np.zeros((1, 3))}
    assert loss(PAIR._replace(**without)) == pytest.approx(0.4234965102, abs=1e-10)
    penalised = loss(PAIR, reward_l1=1e-3, kl_l1=1e-3)
    assert penalised == pytest.approx(0.5323466176, abs=1e-10)


def test_weights_of_one_are_tdpo():
    ones = PAIR._replace(**ONES)
    np.testing.assert_allclose(sparse_po(ones, beta=0.8), losses.tdpo1(ones, beta=0.8), rtol=1e-14)


def test_larger_weights_lower_the_loss_of_a_pair_in_order():
    """Whose gap in units of 1/β is 2.3534 here: the policy has not moved."""
    pair = PAIR._replace(
        **ONES, **{name: getattr(PAIR, name) * 0 for name in ("chosen_kl", "rejected_kl")}
    )
    gap = 2.3534
    pair = pair._replace(chosen=pair.ref_chosen + gap / 3, rejected=pair.ref_rejected)
    found = [
        sparse_po(pair._replace(**{k: c * v for k, v in ONES.items()}), beta=1.0).item()
        for c in (1.0, 2.0, 4.0)
    ]
    np.testing.assert_allclose(found, [0.0908, 0.0090, 8.1e-5], rtol=1e-2)


@pytest.fixture(scope="module")
def trained():
    settings = [Setting("TDPO1", 3.0), Setting("common", 3.0, 1e-2), Setting("MaPO", 3.0)]
    worlds = draw_worlds([5])
    problem = Problem(worlds, settings)
    learnt = problem.train(steps=120, step=0.1)
    return worlds, problem.settings, learnt, measured(worlds, problem.settings, learnt)


def test_methods_with_fixed_weights_come_first(trained):
    assert [setting.method for setting in trained[1]] == ["TDPO1", "MaPO", "common"]


def test_a_mask_keeps_what_carries_reward(trained):
    worlds, _, learnt, found = trained
    weight = learnt.tokens.reward_weight[0, 2]
    assert (weight[~worlds.is_key] == 0).all() and (weight[worlds.is_key] > 0.05).all()
    assert 0 < found.gap[0, 0] < found.gap[0, 2]


def test_masks_of_prefixes_do_not_see_the_token():
    worlds = draw_worlds([0], sees="prefix")
    tokens, kind = worlds.pairs, worlds.kind.reshape(-1, 4)
    assert tokens.shape == (1, 4000, 2)
    # The last token of a text is seen by nothing.
    np.testing.assert_array_equal(kind.reshape(-1, 6, 4)[:, 0], kind.reshape(-1, 6, 4)[:, 5])
    # Before the first there is none.
    assert not worlds.features[kind[:, 0], :6].any()
    assert worlds.features[kind[:, 1], :6].any(axis=1).all()


@pytest.mark.parametrize("quick", [True, False])
def test_other_seeds_are_other_worlds(quick):
    seeds = [seeds_of_worlds(Run(quick=quick, seed=seed)) for seed in range(4)]
    assert seeds[0] == list(range(2 if quick else 5))
    assert len({one for each in seeds for one in each}) == 4 * len(seeds[0])
