"""Golden values of arXiv:2406.01660.

The closed form, the loss, the revisions, IPO's dependence on the sampler.
"""

import functools

import numpy as np
import pytest

from paper_repros import _srpo_experiments as experiments
from paper_repros.srpo import SAMPLERS, reproduce
from prefsim import losses
from prefsim.data import Comparisons, Revisions
from prefsim.papers import Run
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective, solve_self_improvement
from prefsim.worlds import ContextualBandit

GAME, REFERENCE = experiments.GOLDEN, experiments.GOLDEN_REFERENCE


def golden_pair(**changes):
    ratios = {
        "chosen": 0.3,
        "rejected": -0.1,
        "chosen_from_rejected": 0.5,
        "rejected_from_chosen": -0.4,
        "chosen_from_chosen": 0.2,
        "rejected_from_rejected": 0.1,
    }
    columns = {name: np.array([x]) for name, x in ratios.items()} | {
        f"ref_{name}": np.zeros(1) for name in ratios
    }
    return losses.SelfImprovementLogps(**(columns | changes))


@pytest.mark.parametrize(("alpha", "value"), [(0, 0.1832), (1, 0.0576), (0.5, 0.1204)])
def test_golden_loss(alpha, value):
    assert losses.srpo(golden_pair(), beta=0.4, alpha=alpha)[0] == pytest.approx(value, rel=1e-14)


def test_golden_closed_form():
    solution = solve_self_improvement(GAME, REFERENCE, beta=0.4)
    np.testing.assert_allclose(
        solution.gain, (0.4884155463, 0.6436500270, 0.6106736904), atol=1e-10
    )
    rows = (
        (0.5146922930, 0.1458740545, 0.3394336525),
        (0.7391368089, 0.2094861039, 0.0513770872),
        (0.2299642524, 0.6183769659, 0.1516587818),
    )
    np.testing.assert_allclose(solution.improver, rows, atol=1e-10)
    np.testing.assert_allclose(
        solution.generator, (0.5876575071, 0.2391838449, 0.1731586480), atol=1e-10
    )
    assert solution.value == pytest.approx(0.5530300298, abs=1e-10)


def test_ipo_moves_with_the_sampler():
    behind = np.broadcast_to(REFERENCE, (3, 3))
    found = experiments.fit_ipo(
        experiments.pairs_of(np.broadcast_to(GAME, (3, 3, 3)), SAMPLERS), behind, beta=0.4
    )
    np.testing.assert_allclose(
        found, [(0.531, 0.189, 0.280), (0.683, 0.242, 0.074), (0.309, 0.529, 0.162)], atol=6e-4
    )


def test_the_golden_loss_ends_at_the_closed_form_from_every_sampler():
    exact = solve_self_improvement(GAME, REFERENCE, beta=0.4)
    generators, improvers = experiments.fit_srpo(
        experiments.pairs_of(np.broadcast_to(GAME, (3, 3, 3)), SAMPLERS),
        np.broadcast_to(REFERENCE, (3, 3)),
        beta=0.4,
    )
    np.testing.assert_allclose(generators, np.broadcast_to(exact.generator, (3, 3)), atol=1e-12)
    np.testing.assert_allclose(improvers, np.broadcast_to(exact.improver, (3, 3, 3)), atol=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.9])
def test_every_mixture_of_the_terms_has_one_solution(alpha):
    exact = solve_self_improvement(GAME, REFERENCE, beta=0.4)
    generator, improver = experiments.fit_srpo(
        experiments.pairs_of(GAME, REFERENCE), REFERENCE, beta=0.4, alpha=alpha
    )
    np.testing.assert_allclose(generator, exact.generator, atol=1e-11)
    np.testing.assert_allclose(improver, exact.improver, atol=1e-11)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_one_term_alone_leaves_policies_undetermined(alpha):
    exact = solve_self_improvement(GAME, REFERENCE, beta=0.4)
    start = np.array([0.2, 0.2, 0.6])
    generator, improver = experiments.fit_srpo(
        experiments.pairs_of(GAME, REFERENCE), REFERENCE, beta=0.4, alpha=alpha, start=start
    )
    assert np.abs(generator - exact.generator).max() > 0.05
    if alpha == 0:
        np.testing.assert_allclose(generator, start, atol=1e-15)
        np.testing.assert_allclose(improver, exact.improver, atol=1e-11)


def test_revisions():
    transitive = experiments.revise(*experiments.transitive_world(), beta=0.1)
    np.testing.assert_allclose(
        transitive.from_reference, (0.5, 0.690, 0.700, 0.698, 0.698, 0.698), atol=6e-4
    )
    assert transitive.from_generator[0] == pytest.approx(0.7001, abs=6e-5)
    assert transitive.ipo == pytest.approx(0.6909, abs=6e-5)
    cyclic = experiments.revise(GAME, REFERENCE, beta=0.1)
    np.testing.assert_allclose(
        cyclic.from_generator[:5], (0.535, 0.499, 0.458, 0.513, 0.503), atol=6e-4
    )


def test_label_noise_of_the_data_is_a_constant_of_the_objective():
    """Hard labels with their probability, and the same pairs reversed, have one objective."""
    world = ContextualBandit(preference=GAME[None])
    pairs = Comparisons.population(world, TabularPolicy.from_probs(REFERENCE[None]))
    reverse = Comparisons(pairs.prompt, pairs.rejected, pairs.chosen, 1 - pairs.prob, pairs.weight)
    data = [Revisions(rows, n_contexts=1, n_responses=3) for rows in (pairs, reverse)]
    policy = data[0].joint_policy([[0.2, 0.3, 0.5]])
    values = [
        float(objective(policy, functools.partial(losses.srpo, beta=0.3), rows)) for rows in data
    ]
    assert values[0] == pytest.approx(values[1], rel=1e-14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.srpo(golden_pair(), beta=0.0), "beta must be a finite number > 0"),
        (lambda: losses.srpo(golden_pair(), alpha=1.5), r"alpha must lie in \[0.0, 1.0\]"),
        (lambda: losses.srpo(golden_pair(ref_chosen=np.zeros(2))), "one shape"),
        (
            lambda: solve_self_improvement(GAME, REFERENCE, beta=-1.0),
            "beta must be a finite number > 0",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_comparisons_do_not_feed_the_loss():
    pairs = experiments.pairs_of(GAME, REFERENCE)
    with pytest.raises(
        ValueError, match="Comparisons feed losses of PairLogps, got a loss of SelfImprovementLogps"
    ):
        fit(TabularPolicy.uniform(1, 3), losses.srpo, pairs)


@pytest.mark.slow
def test_reproduction():
    result = reproduce(Run(quick=True))
    assert [c for c in result.criteria if not c.passed] == []
    assert len(result.figure.axes) == 4
