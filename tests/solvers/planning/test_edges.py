"""Planning on every array library, in degenerate processes, and on bad input."""

import functools
import warnings

import array_api_strict
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from planning_oracles import OPTIMAL, SOFT

from prefsim.backend import use_backend
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, planning
from prefsim.worlds.mdp import TabularMDP


class TestArrays:
    @pytest.mark.parametrize("reference", [None, np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]])])
    def test_pure_backups_on_every_library(self, reference):
        rng = np.random.default_rng(0)
        table = rng.dirichlet(np.ones(2), size=(4, 2, 3))
        reward, value = rng.standard_normal((4, 2, 3)), rng.standard_normal((4, 2))
        with np.errstate(divide="ignore"):
            log_reference = None if reference is None else np.log(reference)
        terminal = np.array([False, True])
        expected = planning.bellman_backup(table, reward, value, discount=0.9)
        np.testing.assert_allclose(
            expected, (reward + 0.9 * np.einsum("bsat,bt->bsa", table, value)).max(-1), atol=1e-14
        )
        options = {"discount": 0.9, "temperature": 0.3}
        soft = planning.soft_bellman_backup(
            table, reward, value, **options, log_reference=log_reference, terminal=terminal
        )
        for convert in (array_api_strict.asarray, torch.as_tensor):
            arrays = [convert(x) for x in (table, reward, value)]
            log_mu = None if log_reference is None else convert(log_reference)
            found = planning.bellman_backup(*arrays, discount=0.9)
            again = planning.soft_bellman_backup(
                *arrays, **options, log_reference=log_mu, terminal=convert(terminal)
            )
            np.testing.assert_allclose(np.asarray(found), expected, atol=1e-14)
            np.testing.assert_allclose(np.asarray(again), soft, atol=1e-13)
            q = planning.action_values(*arrays, discount=0.9)
            for ties in ("first", "shared"):
                np.testing.assert_array_equal(
                    np.asarray(planning.greedy_policy(q, ties=ties)),
                    planning.greedy_policy(np.asarray(q), ties=ties),
                )
            policy = planning.soft_policy(q, temperature=0.3, log_reference=log_mu)
            np.testing.assert_allclose(np.asarray(policy).sum(-1), 1.0, atol=1e-14)

    def test_backups_have_gradients(self):
        rng = np.random.default_rng(0)
        table = torch.as_tensor(rng.dirichlet(np.ones(3), size=(3, 2)))
        inputs = [
            torch.as_tensor(rng.standard_normal(shape)).requires_grad_() for shape in ((3, 2), (3,))
        ]
        for backup in (
            planning.bellman_backup,
            functools.partial(planning.soft_bellman_backup, temperature=0.5),
        ):
            assert torch.autograd.gradcheck(
                lambda r, v, backup=backup: backup(table, r, v, discount=0.9), inputs
            )

    @pytest.mark.parametrize("n_terminal", [0, 1])
    def test_torch_equals_numpy(self, n_terminal):
        mdp = TabularMDP.random(6, 3, discount=0.9, seed=0, n_terminal=n_terminal, batch_shape=(4,))
        solvers = [*OPTIMAL, functools.partial(planning.soft_value_iteration, temperature=0.4)]
        policy = np.asarray(TabularPolicy.random(6, 3, seed=0).probs)
        phi = np.random.default_rng(0).standard_normal((6, 3, 2))
        with use_backend("torch"):
            other = TabularMDP.random(
                6, 3, discount=0.9, seed=0, n_terminal=n_terminal, batch_shape=(4,)
            )
            found = [solve(other) for solve in solvers]
            visits, psi = (
                planning.occupancy(other, policy),
                planning.successor_features(other, torch.as_tensor(policy), phi),
            )
        for solve, result in zip(solvers, found, strict=True):
            assert isinstance(result.value, torch.Tensor) and result.converged.all()
            np.testing.assert_allclose(result.value.numpy(), solve(mdp).value, atol=1e-11)
        np.testing.assert_allclose(visits.numpy(), planning.occupancy(mdp, policy), atol=1e-12)
        np.testing.assert_allclose(
            psi.state.numpy(), planning.successor_features(mdp, policy, phi).state, atol=1e-11
        )

    def test_single_precision(self):
        exact = planning.policy_iteration(TabularMDP.random(6, 3, discount=0.9, seed=0)).value
        for backend in ("numpy", "torch"):
            with use_backend(backend, dtype="float32"):
                mdp = TabularMDP.random(6, 3, discount=0.9, seed=0)
                for solve in (
                    *OPTIMAL,
                    functools.partial(planning.soft_value_iteration, temperature=1e-4),
                ):
                    result = solve(mdp)
                    assert result.converged and str(result.value.dtype).endswith("float32")
                    np.testing.assert_allclose(np.asarray(result.value), exact, rtol=1e-3)


class TestEdges:
    @pytest.mark.parametrize(
        "solve", [*OPTIMAL, *(functools.partial(s, temperature=0.5) for s in SOFT)]
    )
    def test_degenerate_processes(self, solve):
        single = TabularMDP(np.ones((1, 1, 1)), np.array([[2.0]]), discount=0.5)
        assert solve(single).value == pytest.approx([4.0])
        myopic = TabularMDP.random(3, 2, discount=0.0, seed=0)
        result = solve(myopic)
        np.testing.assert_allclose(result.q_value, myopic.reward)
        ended = TabularMDP(np.ones((1, 2, 1)), np.zeros((1, 2)), discount=1.0, terminal=[True])
        assert solve(ended).value == 0.0 and solve(ended).policy.tolist() == [[0.5, 0.5]]

    @pytest.mark.parametrize("solve", OPTIMAL)
    def test_large_values_converge_to_rounding(self, solve):
        mdp = TabularMDP.random(5, 3, discount=0.999, seed=0)
        result = solve(mdp.with_reward(1e6 * mdp.reward))
        assert (
            result.converged
            and result.residual <= 16 * np.finfo(float).eps * np.abs(result.value).max()
        )

    def test_stops_short_with_a_warning(self):
        mdp = TabularMDP.random(5, 3, discount=0.9, seed=0, batch_shape=(3,), n_terminal=1)
        for solve in (
            planning.value_iteration,
            functools.partial(planning.soft_value_iteration, temperature=0.1, method="sweeps"),
        ):
            with pytest.warns(
                ConvergenceWarning, match="stopped after 3 iterations.*3 of 3 processes"
            ):
                result = solve(mdp, max_iterations=3)
            assert not result.converged.any() and result.residual.min() > 1e-12
        with pytest.warns(ConvergenceWarning, match="modified_policy_iteration"):
            planning.modified_policy_iteration(mdp, max_iterations=1)
        with pytest.warns(ConvergenceWarning, match="policy_iteration"):
            planning.policy_iteration(
                TabularMDP.random(20, 5, discount=0.99, seed=0), max_iterations=1
            )

    @pytest.mark.parametrize(
        "option",
        [{"sweeps": 1}, {"sweeps": 5, "contraction": 1.0}, {"contraction": 0.01, "sweeps": 500}],
    )
    def test_options_of_modified_policy_iteration(self, option):
        mdp = TabularMDP.random_sparse(200, 3, 4, discount=0.95, seed=0)
        plain, other = (
            planning.modified_policy_iteration(mdp),
            planning.modified_policy_iteration(mdp, **option),
        )
        np.testing.assert_allclose(other.value, plain.value, atol=1e-10)
        assert other.residual != plain.residual

    def test_slow_chain_ends_in_a_krylov_solve(self, monkeypatch):
        from prefsim.solvers.planning import modified as module

        n = 300
        s = np.arange(n)[:, None]
        columns = np.stack([(s + np.array([1, -1])) % n, np.repeat(s, 2, 1)], -1).reshape(-1)
        table = sp.csr_array(
            (np.tile([0.5, 0.5], 2 * n), columns, np.arange(0, 4 * n + 1, 2)), shape=(2 * n, n)
        )
        mdp = TabularMDP(table, np.cos(2 * np.pi * s / n) + np.zeros((n, 2)), discount=0.999)
        called = []
        original = module.spla.bicgstab
        monkeypatch.setattr(
            module.spla,
            "bicgstab",
            lambda *args, **options: called.append(1) or original(*args, **options),
        )
        result = planning.modified_policy_iteration(mdp)
        assert called and result.residual <= 1e-12
        np.testing.assert_allclose(
            result.value, planning.policy_iteration(mdp.to_dense()).value, atol=1e-9
        )

    @pytest.mark.parametrize("lengths", [(3, 3), (2, 4)])
    def test_patched_chains_equal_fresh_ones(self, lengths):
        from prefsim.solvers.planning.certificate import SpanStop
        from prefsim.solvers.planning.modified import _SparseEvaluation

        rng = np.random.default_rng(0)
        table = np.zeros((12, 2, 12))
        for s, a in np.ndindex(12, 2):
            table[s, a, rng.choice(12, size=lengths[a], replace=False)] = 1 / lengths[a]
        mdp = TabularMDP(table, rng.standard_normal((12, 2)), discount=0.9).to_sparse()
        patched = _SparseEvaluation(mdp, SpanStop(mdp))
        action = rng.integers(2, size=12)
        for flip in range(6):
            action = np.where(np.arange(12) == flip, 1 - action, action)
            patched._adopt(patched.first_row + action)
            np.testing.assert_array_equal(patched.chain.toarray(), table[np.arange(12), action])
            np.testing.assert_array_equal(patched.paid, mdp.reward[np.arange(12), action])
        np.testing.assert_array_equal(mdp.to_dense().transitions, table)


MDP = TabularMDP.random(3, 2, discount=0.9, seed=0)
FINITE = TabularMDP.random(3, 2, discount=0.9, seed=0, horizon=2)
ENDED = TabularMDP.random(3, 2, discount=0.9, seed=0, n_terminal=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: planning.value_iteration(MDP, tolerance=0.0),
            "tolerance must be a finite number > 0",
        ),
        (
            lambda: planning.value_iteration(MDP, tolerance=float("nan")),
            "tolerance must be a finite number > 0",
        ),
        (
            lambda: planning.value_iteration(MDP, max_iterations=0),
            "max_iterations must be an integer >= 1",
        ),
        (
            lambda: planning.value_iteration(MDP, initial_value=[0.0, 1.0]),
            "initial_value must have trailing shape",
        ),
        (
            lambda: planning.value_iteration(ENDED, initial_value=[0.0, 1.0, 2.0]),
            "initial_value must be 0 in every terminal state",
        ),
        (
            lambda: planning.value_iteration(FINITE, initial_value=[0.0] * 3),
            "initial_value is for an infinite horizon",
        ),
        (
            lambda: planning.soft_value_iteration(MDP, temperature=0.0),
            "temperature must be a finite number > 0",
        ),
        (
            lambda: planning.soft_value_iteration(FINITE, temperature=-1.0),
            "temperature must be a finite number > 0",
        ),
        (
            lambda: planning.soft_value_iteration(MDP, temperature=1.0, method="fast"),
            "method must be one of 'auto', 'sweeps', 'newton'",
        ),
        (
            lambda: planning.soft_value_iteration(MDP, temperature=1.0, reference=np.ones((3, 2))),
            "reference must sum to 1",
        ),
        (lambda: planning.policy_iteration(FINITE), "policy_iteration needs an infinite horizon"),
        (
            lambda: planning.policy_iteration(MDP, tolerance=-1.0),
            "tolerance must be a finite number > 0",
        ),
        (lambda: planning.linear_program(FINITE), "linear_program needs an infinite horizon"),
        (
            lambda: planning.linear_program(MDP, tolerance=0),
            "tolerance must be a finite number > 0",
        ),
        (
            lambda: planning.modified_policy_iteration(FINITE),
            "modified_policy_iteration needs an infinite horizon",
        ),
        (
            lambda: planning.modified_policy_iteration(MDP, sweeps=0),
            "sweeps must be an integer >= 1",
        ),
        (
            lambda: planning.modified_policy_iteration(MDP, contraction=0.0),
            r"contraction must lie in \(0.0, 1.0\]",
        ),
        (
            lambda: planning.policy_evaluation(MDP, np.full((3, 3), 1 / 3)),
            "policy must have trailing shape",
        ),
        (lambda: planning.policy_evaluation(MDP, np.full((3, 2), 0.6)), "policy must sum to 1"),
        (lambda: planning.policy_evaluation(MDP, [[1.5, -0.5]] * 3), "policy must be >= 0"),
        (lambda: planning.policy_evaluation(MDP, [[np.nan, 1.0]] * 3), "policy must be finite"),
        (
            lambda: planning.policy_evaluation(MDP, [0, 1, 2]),
            "policy must be >= 0 and < 2, got 2 at index 2",
        ),
        (lambda: planning.policy_evaluation(MDP, [0, 1]), "policy must have trailing shape"),
        (
            lambda: planning.policy_evaluation(MDP, np.full((2, 3, 2), 0.5)),
            r"policy must have shape \(3, 2\), got \(2, 3, 2\)",
        ),
        (
            lambda: planning.policy_evaluation(FINITE, np.full((3, 3, 2), 0.5)),
            r"shape \(3, 2\) or \(2, 3, 2\), got \(3, 3, 2\)",
        ),
        (lambda: planning.occupancy(MDP, "greedy"), "policy must"),
        (
            lambda: planning.successor_features(MDP, [0, 0, 0], np.ones((3, 3, 1))),
            "features must have trailing shape",
        ),
        (
            lambda: planning.successor_features(MDP, [0, 0, 0], np.full((3, 2, 1), np.inf)),
            "features must be finite",
        ),
        (
            lambda: planning.successor_features(MDP.to_sparse(), [0, 0, 0], np.ones((3, 2, 3, 1))),
            "need a dense process",
        ),
        (lambda: planning.advantages(MDP, [0, 0, 0], temperature=1.0), "a policy or a temperature"),
        (lambda: planning.greedy_policy(MDP.reward, ties="last"), "ties must be one of"),
        (lambda: planning.greedy_policy(MDP.reward, tolerance=-1.0), "tolerance must be"),
        (lambda: planning.soft_policy(MDP.reward, temperature=float("inf")), "temperature must be"),
    ],
)
def test_bad_input(call, message):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message):
            call()
