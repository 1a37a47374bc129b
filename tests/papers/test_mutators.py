"""Mutants are wrong in the one way that they say, and fit what they are made for."""

import numpy as np
import pytest
import torch

from prefsim import losses
from prefsim.losses import PairLogps
from prefsim.papers.mutators import REQUIRED, mutants_of
from prefsim.policies import TabularPolicy
from prefsim.solvers import kl_penalty, solve_nash
from prefsim.worlds import textbook_game

PAIR = PairLogps(*(np.array([x]) for x in (-1.0, -2.5, -1.5, -2.0)))


def mutant(function, name):
    (found,) = (mutant for mutant in mutants_of(function) if mutant.name == name)
    return found.make(function)


@pytest.mark.parametrize("loss", losses.loss_functions().values(), ids=lambda f: f.__name__)
def test_every_loss_has_its_mutants(loss):
    names = [mutant.name for mutant in mutants_of(loss)]
    assert len(set(names)) == len(names)
    assert set(REQUIRED) - {"swap"} <= set(names)


def test_the_result_is_scaled_on_every_library():
    for factor, name in ((-1, "sign"), (0.5, "half"), (2, "double")):
        assert mutant(losses.dpo, name)(PAIR) == factor * losses.dpo(PAIR)
    tensors = PairLogps(*(torch.tensor(getattr(PAIR, name)) for name in PAIR._fields[:4]))
    wrong = mutant(losses.dpo, "sign")(tensors)
    assert float(wrong) == -float(losses.dpo(tensors))


def test_a_result_of_several_parts_is_scaled_in_all():
    wrong = mutant(solve_nash, "half")(textbook_game(), method="lp")
    right = solve_nash(textbook_game(), method="lp")
    np.testing.assert_allclose(wrong.policy, right.policy / 2)
    assert wrong.converged == right.converged


def test_a_function_made_to_order_is_scaled_too():
    policy = TabularPolicy.from_probs(np.array([[0.2, 0.8]]))
    made = kl_penalty(TabularPolicy.uniform(1, 2), weight=0.5)
    wrong = mutant(kl_penalty, "double")(TabularPolicy.uniform(1, 2), weight=0.5)
    assert float(wrong(policy)) == 2 * float(made(policy)) != 0


def test_chosen_and_rejected_are_exchanged():
    assert mutant(losses.dpo, "swap")(PAIR) == losses.dpo(PAIR.swapped())
    wrong = mutant(solve_nash, "swap")(textbook_game(), method="lp")
    assert wrong.exploitability < 1e-9
    np.testing.assert_allclose(
        wrong.policy, solve_nash(textbook_game().preference.T, method="lp").policy
    )


def test_the_reference_is_forgotten():
    wrong = mutant(losses.dpo, "no reference")
    without = PAIR._replace(ref_chosen=np.zeros(1), ref_rejected=np.zeros(1))
    assert wrong(PAIR) == losses.dpo(without) != losses.dpo(PAIR)


def test_an_option_is_ignored():
    wrong = mutant(losses.dpo, "ignores beta")
    assert wrong(PAIR, beta=2.0) == losses.dpo(PAIR) != losses.dpo(PAIR, beta=2.0)
    assert wrong(PAIR, label_smoothing=0.2) == losses.dpo(PAIR, label_smoothing=0.2)


def test_no_derivative_is_stopped():
    logps = losses.UnpairedLogps(
        torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True),
        torch.tensor([-1.5, -1.0], dtype=torch.float64),
        torch.tensor([True, False]),
    )
    wrong = mutant(losses.kto, "attached")

    def slopes(loss):
        (slope,) = torch.autograd.grad(loss(logps).sum(), logps.logp)
        return slope

    right = slopes(losses.kto)
    assert torch.equal(losses.kto(logps), wrong(logps)), "the value is the same"
    assert torch.equal(slopes(losses.kto), right), "and the original stays as it was"
