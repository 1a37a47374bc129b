"""arXiv:2410.02236: archives of drawn processes, walks along finite fronts, the released step."""

import numpy as np
import pytest

from paper_repros.mdp.c_morl.fronts import (
    barrier_trainer,
    below_front,
    draw_process,
    exact_trainer,
    fill_front,
    followed,
    front_area,
)
from paper_repros.mdp.c_morl.instances import (
    by_floats,
    by_level,
    by_weights,
    finite_front,
    scaled_apart,
    walk,
)
from prefsim.analysis import expected_utility, hypervolume, sparsity
from prefsim.solvers import convex_front, weight_grid
from prefsim.solvers.optimisers.trust_region import constrained_step
from prefsim.solvers.planning import constrained_program, log_barrier_optimum

ZERO, TESTS = np.zeros(2), weight_grid(2, 10)


@pytest.mark.parametrize(
    ("seed", "size", "volume", "gap", "utility", "corners"),
    [
        (0, 55, (0.4427, 0.4934), (0.1416, 0.0011), (0.6541, 0.6631), 0.4890),
        (1, 50, (0.5476, 0.5508), (0.0083, 0.00004), (0.7232, 0.7232), 0.5487),
    ],
)
def test_archives(seed, size, volume, gap, utility, corners):
    mdp = draw_process(seed)
    path = fill_front(exact_trainer(mdp), rounds=6)
    first, last = path[0].archive.returns, path[-1].archive.returns
    assert (len(first), len(last)) == (3, size) and not any(step.failed for step in path)
    for returns, place in ((first, 0), (last, 1)):
        assert hypervolume(returns, ZERO) == pytest.approx(volume[place], abs=5e-5)
        assert sparsity(returns) == pytest.approx(gap[place], abs=6e-5)
        assert expected_utility(returns, TESTS) == pytest.approx(utility[place], abs=5e-5)
    front = convex_front(mdp).returns
    assert hypervolume(front, ZERO) == pytest.approx(corners, abs=5e-5)
    assert front_area(front) > hypervolume(last, ZERO) > hypervolume(front, ZERO)
    np.testing.assert_allclose(below_front(front, last), 0.0, atol=1e-9)


def test_barriers_fill_the_front_too():
    mdp = draw_process(1)
    path = fill_front(barrier_trainer(mdp, 20.0), rounds=2)
    front = convex_front(mdp).returns
    last = path[-1].archive.returns
    assert len(last) > 5
    np.testing.assert_allclose(below_front(front, last), 0.0, atol=1e-9)


def test_the_gap_of_barriers():
    mdp = draw_process(101)
    level = 0.97 * constrained_program(mdp, [0.5, 0.5]).returns
    level[0] = -np.inf
    best = constrained_program(mdp, [1.0, 0.0], level).value
    for sharpness in (500.0, 2000.0):
        found = log_barrier_optimum(mdp, [1.0, 0.0], level, sharpness=sharpness)
        assert best - found.value == pytest.approx(1 / sharpness, rel=1e-6)


def test_constraints_find_what_weights_do_not():
    points = np.array([[0.0, 1.0], [0.4, 0.4], [1.0, 0.0]])
    assert by_weights(points).tolist() == [True, False, True]
    assert by_level(points).all()


def test_walks_along_finite_fronts():
    front = finite_front(0, 8)
    assert [walk(front, share=share, rounds=8) for share in (0.9, 0.67, 0.1)] == [2, 8, 2]


def test_levels_of_the_last_step_fall_on():
    held, moving = (followed(draw_process(0), steps=4, share=0.9, last=k) for k in (False, True))
    np.testing.assert_allclose(held / held[0], [1.0, 0.9, 0.9, 0.9, 0.9], atol=1e-9)
    np.testing.assert_allclose(moving / moving[0], 0.9 ** np.arange(5), atol=1e-9)


def test_the_step_as_released():
    g, b = np.array([1.0, 2.0]), np.array([2.0, -1.0])
    # With a curvature that is the same in all directions only the length is another.
    plain = constrained_step(g, b, -0.1, np.eye(2), radius=0.1)
    other = scaled_apart(g, b, -0.1, np.eye(2), radius=0.1)
    assert plain.step @ other.step > 0.99 * np.linalg.norm(plain.step) * np.linalg.norm(other.step)
    curvature = np.diag([10.0, 0.1])
    used = scaled_apart(g, b, -0.1, curvature, radius=0.1).step
    assert abs(0.5 * used @ curvature @ used - 0.1) > 0.05


def test_grids_of_floats_lose_weights():
    assert len(weight_grid(3, 10)) == 66 > len(by_floats(3, 10))
