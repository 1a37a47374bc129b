"""The objective of a fit: what is prepared once, what is looked at once, and what it is made of."""

import collections
import functools
import warnings

import numpy as np
import pytest

from prefsim import checks, losses
from prefsim.data import Comparisons, prepared
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, fit_problem
from prefsim.solvers.context_blocks import blocks_of
from prefsim.solvers.fit_problem import problem_of
from prefsim.solvers.optimisers.newton import hessian_of, value_and_gradient
from prefsim.worlds import ContextualBandit


def test_a_grid_of_options_on_a_batch_of_worlds_is_one_fit():
    """Each world meets each option, as a loop over both would have it."""
    betas, worlds = np.geomspace(0.2, 2.0, 5), 12
    rng = np.random.default_rng(0)
    reward = rng.standard_normal((worlds, 1, 4))
    reference = TabularPolicy.from_probs(rng.dirichlet(2 * np.ones(4), size=(worlds, 1)))
    data = Comparisons.population(ContextualBandit(reward=reward), reference)
    loss = functools.partial(losses.dpo, beta=betas[:, None, None])
    result = fit(reference, loss, data, reference=reference)
    assert result.converged and result.policy.probs.shape == (5, worlds, 1, 4)
    for k, beta in enumerate(betas):
        one = functools.partial(losses.dpo, beta=float(beta))
        alone = fit(reference, one, data, reference=reference)
        np.testing.assert_allclose(result.policy.probs[k], alone.policy.probs, atol=1e-10)
    with pytest.raises(ValueError, match=r"beta \(5, 1\), values \(12, 32\)"):
        fit(reference, functools.partial(losses.dpo, beta=betas[:, None]), data, reference=None)


def test_curvature_of_a_context_is_that_of_its_objective():
    """A response beside itself, as populations hold it, has no margin to curve."""
    world, reference = ContextualBandit.random(3, 4, seed=0), TabularPolicy.random(3, 4, seed=1)
    data = Comparisons.population(world, reference)
    assert (data.chosen == data.rejected).any()
    problem, start = problem_of(reference, losses.dpo, data, reference, None)
    blocks = blocks_of(problem, losses.dpo, start)
    theta = start.reshape(blocks.shape)
    _, gradient, leaf = value_and_gradient(blocks.objective, theta, graph=True)
    np.testing.assert_allclose(blocks.hessian(theta), hessian_of(gradient, leaf), atol=1e-14)


def test_what_was_given_is_looked_at_once(monkeypatch):
    """However many steps there are: columns, options, and what kind of function the loss is."""
    world, reference = ContextualBandit.random(3, 4, seed=0), TabularPolicy.random(3, 4, seed=1)
    data = Comparisons.population(world, reference)
    loss = functools.partial(losses.dpo, beta=np.asarray([0.2, 1.0])[:, None])
    counts = collections.Counter()

    def counting(module, name):
        function = getattr(module, name)

        def counted(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        monkeypatch.setattr(module, name, counted)

    counting(prepared, "like")
    counting(checks.options, "host_values")
    counting(fit_problem, "couples_batch")
    seen = []
    for steps in (2, 8):
        counts.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = fit(reference, loss, data, reference=reference, max_iterations=steps)
        assert len(result.history) == steps
        seen.append(dict(counts))
    assert seen[0] == seen[1]
    assert seen[0]["couples_batch"] == 1 and set(seen[0]) == {
        "like",
        "host_values",
        "couples_batch",
    }


def test_a_penalty_is_looked_at_at_every_step():
    """Its arguments follow the policy, so that one evaluation says nothing of the next."""
    world, reference = ContextualBandit.random(1, 3, seed=0), TabularPolicy.uniform(1, 3)
    data = Comparisons.population(world, reference)

    def penalty(policy):
        moved = float((policy.logits - policy.logits[..., :1]).detach().abs().max())
        checks.check_interval(moved=moved, low=0.0, high=1e-6)
        return 0 * policy.logits.sum((-1, -2))

    with pytest.raises(ValueError, match="moved must lie in"):
        fit(reference, losses.dpo, data, reference=reference, penalty=penalty)
