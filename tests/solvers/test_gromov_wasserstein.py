"""Gromov–Wasserstein couplings: values, POT as an oracle, certificates, and what is refused."""

import array_api_strict
import numpy as np
import ot
import pytest
import torch

from prefsim.solvers import ConvergenceWarning
from prefsim.solvers.coupled_distances import (
    distance_matrix,
    gromov_wasserstein_cost,
    gromov_wasserstein_gradient,
)
from prefsim.solvers.gromov_wasserstein import (
    entropic_gromov_wasserstein,
    gromov_wasserstein,
    stationarity_gap,
)

SOURCE = np.array([[0, 1, 2], [1, 0, 1.5], [2, 1.5, 0]])
TARGET = np.array([[0.0, 3], [3, 0]])
COUPLING = np.array([[1 / 3, 0], [1 / 6, 1 / 6], [0, 1 / 3]])
RNG = np.random.default_rng(0)
SIX, FIVE = distance_matrix(RNG.standard_normal((6, 3))), distance_matrix(RNG.random((5, 2)))


def test_costs_of_small_couplings():
    product = np.full((3, 2), 1 / 6)
    found = gromov_wasserstein_cost(SOURCE, TARGET, np.stack([COUPLING, product]))
    np.testing.assert_allclose(found, [1.7777777778, 3.1111111111], atol=5e-11)


def test_the_cost_is_that_of_pot():
    p, q = COUPLING.sum(axis=1), COUPLING.sum(axis=0)
    parts = ot.gromov.init_matrix(SOURCE, TARGET, p, q, "square_loss")
    found = gromov_wasserstein_cost(SOURCE, TARGET, COUPLING)
    assert float(found) == pytest.approx(ot.gromov.gwloss(*parts, COUPLING), abs=1e-12)
    np.testing.assert_allclose(
        gromov_wasserstein_gradient(SOURCE, TARGET, COUPLING),
        ot.gromov.gwggrad(*parts, COUPLING),
        atol=1e-12,
    )


def test_the_gradient_is_that_of_torch():
    tables = [torch.as_tensor(x) for x in (SOURCE, TARGET)]
    leaf = torch.as_tensor(COUPLING).requires_grad_()
    gromov_wasserstein_cost(*tables, leaf).backward()
    found = gromov_wasserstein_gradient(SOURCE, TARGET, COUPLING)
    np.testing.assert_allclose(leaf.grad, found, atol=1e-12)
    strict = gromov_wasserstein_cost(*map(array_api_strict.asarray, (SOURCE, TARGET, COUPLING)))
    assert float(strict) == pytest.approx(float(gromov_wasserstein_cost(SOURCE, TARGET, COUPLING)))


def test_distances_and_their_derivative():
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0]], requires_grad=True)
    found = distance_matrix(points)
    np.testing.assert_allclose(found.detach(), [[0, 5, 5], [5, 0, 0], [5, 0, 0]])
    found.sum().backward()
    assert points.grad.isfinite().all()
    np.testing.assert_allclose(distance_matrix(points.detach(), normalise=True).max(), 1.0)


def test_one_start_is_the_solver_of_pot():
    masses = np.full(6, 1 / 6), np.full(5, 1 / 5)
    expected = ot.gromov.gromov_wasserstein(SIX, FIVE, *masses, "square_loss")
    found = gromov_wasserstein(SIX, FIVE, restarts=0)
    np.testing.assert_allclose(found.coupling, expected, atol=1e-12)
    assert found.values.shape == (1,)
    assert found.start == 0


def test_the_best_start_is_kept_and_certified():
    found = gromov_wasserstein(SIX, FIVE, restarts=6, seed=1)
    assert found.value == found.values.min() == found.values[found.start]
    assert len(np.unique(found.values.round(9))) > 1
    np.testing.assert_allclose(found.coupling.sum(axis=1), 1 / 6, atol=1e-12)
    assert 0 <= found.residual < 1e-9
    again = gromov_wasserstein(SIX, FIVE, restarts=6, seed=1)
    np.testing.assert_array_equal(again.coupling, found.coupling)
    assert stationarity_gap(SIX, FIVE, np.full((6, 5), 1 / 30)) > 0.01


def test_a_batch_is_its_members():
    sources = np.stack([SIX, SIX[::-1, ::-1], 2 * SIX])
    found = gromov_wasserstein(sources[:, None], np.stack([FIVE, FIVE**2]), restarts=1)
    assert found.coupling.shape == (3, 2, 6, 5)
    alone = gromov_wasserstein(sources[2], FIVE**2, restarts=1)
    np.testing.assert_array_equal(found.coupling[2, 1], alone.coupling)
    np.testing.assert_array_equal(found.residual[2, 1], alone.residual)


def test_masses_of_any_size():
    p, q = np.array([0.5, 0.25, 0.25, 0, 0, 0]), np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    found = gromov_wasserstein(SIX, FIVE, source_mass=p, target_mass=q, restarts=2)
    np.testing.assert_allclose(found.coupling.sum(axis=1), p, atol=1e-12)
    np.testing.assert_allclose(found.coupling.sum(axis=0), q, atol=1e-12)


def test_too_few_iterations_are_warned_of():
    # Not Euclidean, so that the first step does not go the whole way.
    half = np.random.default_rng(0).random((2, 7, 7))
    source, target = half + np.swapaxes(half, 1, 2)
    with pytest.warns(ConvergenceWarning, match="residual is .* after at most 1 iterations"):
        gromov_wasserstein(source, target, restarts=0, max_iterations=1)
    with pytest.warns(ConvergenceWarning, match="an entry still changed"):
        entropic_gromov_wasserstein(SIX, FIVE, entropy=1.0, max_iterations=1)


def test_entropic_couplings_are_those_of_pot():
    expected = ot.gromov.entropic_gromov_wasserstein(
        SIX, FIVE, np.full(6, 1 / 6), np.full(5, 1 / 5), epsilon=0.5, tol=1e-11
    )
    found = entropic_gromov_wasserstein(SIX, FIVE, entropy=0.5)
    np.testing.assert_allclose(found.coupling, expected, atol=1e-6)
    wide = entropic_gromov_wasserstein(SIX, FIVE, entropy=1e4)
    np.testing.assert_allclose(wide.coupling, 1 / 30, atol=1e-4)


def test_entropic_couplings_stay_in_the_library():
    found = entropic_gromov_wasserstein(SIX, FIVE, entropy=1.0).coupling
    for library, kind in (
        (torch.as_tensor, torch.Tensor),
        (array_api_strict.asarray, type(array_api_strict.asarray(1.0))),
    ):
        other = entropic_gromov_wasserstein(library(SIX), library(FIVE), entropy=1.0)
        assert isinstance(other.coupling, kind)
        np.testing.assert_allclose(np.asarray(other.coupling), found, atol=1e-8)
        assert float(other.value) == pytest.approx(
            float(gromov_wasserstein_cost(SIX, FIVE, found)), abs=1e-7
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": np.triu(SIX)}, "source must be symmetric"),
        ({"target": -FIVE}, "target must be finite and >= 0"),
        ({"target": FIVE[:4]}, r"target must have trailing shape \(5, 5\)"),
        ({"source": SIX[:0, :0]}, "source must hold at least one point"),
        ({"source_mass": np.full(6, 0.2)}, "source_mass must sum to 1"),
        ({"target_mass": np.full(4, 0.25)}, r"target_mass must have trailing shape \(5\)"),
        ({"target_mass": [1.5, -0.5, 0, 0, 0]}, "target_mass must be >= 0"),
        ({"restarts": -1}, "restarts must be an integer >= 0"),
        ({"tolerance": 0.0}, "tolerance must be a finite number > 0"),
        ({"max_iterations": 0}, "max_iterations must be an integer >= 1"),
    ],
)
def test_what_is_no_problem_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        gromov_wasserstein(**({"source": SIX, "target": FIVE} | change))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: gromov_wasserstein_cost(SIX, FIVE, -np.ones((6, 5))), "coupling must be finite"),
        (lambda: gromov_wasserstein_cost(SIX, FIVE, np.ones((5, 6))), "source must have trailing"),
        (
            lambda: gromov_wasserstein_cost(np.triu(SIX), FIVE, np.ones((6, 5))),
            "source must be sym",
        ),
        (lambda: entropic_gromov_wasserstein(SIX, FIVE, entropy=0.0), "entropy must be a finite"),
        (lambda: distance_matrix(np.ones((2, 2)), normalise=True), "points must differ"),
        (lambda: distance_matrix(np.ones(2)), "points must have trailing shape"),
        (lambda: distance_matrix([[np.inf], [0.0]]), "points must be finite"),
        (lambda: distance_matrix(np.ones((2, 2)), normalise=1), "normalise must be True or False"),
    ],
)
def test_other_errors_name_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("size", [1e-12, 1e-6, 1e9])
def test_distances_of_any_size(size):
    order = np.array([3, 0, 5, 1, 4, 2])
    found = gromov_wasserstein(size * SIX, size * SIX[order][:, order], restarts=5)
    assert found.value == pytest.approx(0.0, abs=1e-12 * size**2)
    np.testing.assert_array_equal((6 * found.coupling).round(6).argmax(axis=0), order)
    product = np.full((6, 5), 1 / 30)
    gap = stationarity_gap(size * SIX, size * FIVE, product)
    assert gap == pytest.approx(size**2 * stationarity_gap(SIX, FIVE, product), rel=1e-9)


def test_masses_that_an_entropic_coupling_misses_are_told():
    rng = np.random.default_rng(1)
    one, other = (distance_matrix(rng.normal(size=shape)) for shape in ((5, 2), (4, 3)))
    with pytest.warns(ConvergenceWarning, match="a mass was missed"):
        found = entropic_gromov_wasserstein(one, other, entropy=2e-4, max_iterations=2)
    missed = np.abs(found.coupling.sum(axis=0) - 0.25).max()
    assert missed > 1e-6
    assert found.residual >= missed
