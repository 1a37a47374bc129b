"""Golden values of the paper's page, gradients that must not flow, and its reproduction."""

import functools

import numpy as np
import pytest

from paper_repros._egpo_checks import (
    GOLDEN,
    REFERENCE,
    Play,
    against,
    against_each_other,
    drawn_games,
    unstable,
    value_and_gradient,
)
from paper_repros._egpo_experiments import ALGORITHMS, SETTINGS, play
from paper_repros.egpo import reproduce
from prefsim import losses
from prefsim.losses import PairLogps
from prefsim.numerics import categorical_kl
from prefsim.papers import Run
from prefsim.solvers import solve_nash
from prefsim.solvers.games.certificates import regularised_gap

HERE = np.array([0.2, 0.5, 0.3])
UNIFORM = np.full(3, 1 / 3)
PLAY = Play(GOLDEN, REFERENCE, HERE, UNIFORM, 0.1, 0.5, "")


def iterate(steps):
    return solve_nash(
        GOLDEN,
        method="egpo",
        reference=REFERENCE,
        tau=0.1,
        step=0.5,
        max_iterations=steps,
        tolerance=0.0,
    ).policy


@pytest.mark.filterwarnings("ignore::prefsim.solvers.games.nash.StepSizeWarning")
@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (1, (0.5121395539, 0.2891208929, 0.1987395532)),
        (10, (0.5739678066, 0.2147377471, 0.2112944463)),
        (100, (0.5307283289, 0.1923133701, 0.2769583010)),
    ],
)
def test_iterates(steps, expected):
    np.testing.assert_allclose(iterate(steps), expected, atol=1e-10)


def test_certificates():
    found = iterate(100)
    target = solve_nash(GOLDEN, method="regularised", reference=REFERENCE, tau=0.1).policy
    assert categorical_kl(np.log(target), np.log(found)) == pytest.approx(7.125971e-7, rel=1e-6)
    assert regularised_gap(GOLDEN, found, reference=REFERENCE, tau=0.1) == pytest.approx(
        4.687094e-7, rel=1e-6
    )


def test_online_ipo_1():
    value, gradient = value_and_gradient(PLAY, HERE, against(PLAY, HERE, UNIFORM))
    assert value == pytest.approx(4.8836140390, abs=1e-10)
    np.testing.assert_allclose(gradient, [-2.4661654203, -0.1633436128, 2.6295090330], atol=1e-9)


def test_online_ipo_2():
    value, gradient = value_and_gradient(PLAY, HERE, against_each_other(PLAY, HERE))
    assert value == pytest.approx(8.5255386760, abs=1e-10)
    np.testing.assert_allclose(gradient, [-1.6080679439, -0.5659371483, 2.1740050922], atol=1e-9)


def test_one_draw_of_the_opponent_changes_the_value_but_not_the_gradient():
    exact = value_and_gradient(PLAY, HERE, against(PLAY, HERE, UNIFORM))
    single = [value_and_gradient(PLAY, HERE, against(PLAY, pure, UNIFORM)) for pure in np.eye(3)]
    np.testing.assert_allclose(
        sum(p * g for p, (_, g) in zip(HERE, single, strict=True)), exact[1], atol=1e-12
    )
    assert sum(p * v for p, (v, _) in zip(HERE, single, strict=True)) > exact[0] + 0.1


def test_the_opponent_is_a_constant():
    import torch

    logps = [torch.tensor(np.log(x), requires_grad=True) for x in ([0.6], [0.4])]
    wins = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([0.7], [0.2])]
    start = torch.log(torch.tensor([0.5], dtype=torch.float64))
    pair = PairLogps(*logps, start, start, chosen_score=wins[0], rejected_score=wins[1])
    losses.online_ipo(pair, tau=0.1).sum().backward()
    assert all(x.grad is not None for x in logps)
    assert all(x.grad is None or not x.grad.any() for x in wins)


def test_the_condition_of_local_stability():
    """Mirror descent near the equilibrium.

    It comes closer just within the condition, and not just beyond it.
    """
    games, reference = drawn_games(0)
    condition = np.array(
        [
            not unstable(games[i : i + 1], reference[i : i + 1], beta=0.1, step=1.0)[0]
            for i in range(10)
        ]
    )
    near = solve_nash(games, method="regularised", reference=reference, tau=0.1).policy
    shifted = near * np.exp(1e-6 * np.random.default_rng(0).standard_normal(near.shape))
    play_on = functools.partial(
        solve_nash,
        games,
        method="inpo",
        reference=reference,
        initial=shifted / shifted.sum(-1, keepdims=True),
        tau=0.1,
    )
    with pytest.warns(UserWarning, match="exceeds"):
        ends = [play_on(step=1.0, max_iterations=t, tolerance=0.0).policy for t in (200, 2000)]
    far = [np.abs(end - near).max(axis=-1) for end in ends]
    np.testing.assert_array_equal(far[1] < far[0], condition)


def test_gaps_found_before():
    """To the one digit that is known of them, from the same draws."""
    games, reference = drawn_games(0)
    for name in ALGORITHMS:
        ends = play(name, games, reference, SETTINGS[0]).gap[-1]
        known = [float(text.strip("[]")) for text in SETTINGS[0].found[name].split()]
        assert [float(f"{x:.0e}") for x in (np.median(ends), ends.max())] == pytest.approx(
            known, rel=1e-9, abs=1e-15
        )


def test_reproduction():
    result = reproduce(Run(quick=True, seed=0))
    assert {c.name: c.measured for c in result.criteria if not c.passed} == {}
    assert len(result.figure.axes) == 3
