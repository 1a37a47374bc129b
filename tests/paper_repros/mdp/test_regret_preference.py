"""Regret preferences.

The numbers of the page on people's labels, the algorithms side by side, and the reproduction's
verdict.
"""

import numpy as np
import pytest

from paper_repros import _regret_experiments as experiments
from paper_repros import regret_preference as paper
from prefsim.analysis.returns import scaled_return
from prefsim.papers import Run
from prefsim.papers.checking import check_claim
from prefsim.solvers.likelihood.reward_learning import (
    fit_partial_return_reward,
    fit_regret_reward,
    fit_regret_reward_library,
    policy_library,
)
from prefsim.solvers.planning.features import FeatureProcess
from prefsim.worlds.delivery import delivery_task

TASK = delivery_task(discount=0.999)
PROCESS = FeatureProcess(TASK.mdp, TASK.features)


@pytest.fixture(scope="module")
def people(real_data):
    found = experiments.human(real_data)
    assert found is not None
    return found


def scaled(weights):
    return scaled_return(TASK.mdp, PROCESS.greedy_policy(weights), floor=-1.0)


def test_all_labels_by_partial_return(people):
    """The page's 1,500 steps reach its loss.

    The policy is another one still when the weights have stopped moving.
    """
    early = fit_partial_return_reward(
        people.segments, TASK.features, learning_rate=0.1, iterations=1500
    )
    assert early.value == pytest.approx(0.5890, abs=1e-4)
    late = fit_partial_return_reward(people.segments, TASK.features, **experiments.CONVERGED)
    assert late.value == pytest.approx(0.5890, abs=1e-4)
    assert late.value < early.value
    assert scaled(early.weights) < 0.93 < 0.99 < scaled(late.weights)
    # Nothing in the labels bounds how bad sheep are.
    assert late.weights[2] < early.weights[2] < -5


def test_all_labels_by_regret(people):
    found = fit_regret_reward(people.segments, TASK.mdp, TASK.features, restarts=1)
    assert found.value == pytest.approx(0.571, abs=0.008)
    assert scaled(found.weights) > 0.98


def test_all_labels_by_the_papers_algorithm(people):
    """Algorithm 1 with a library of 69 policies of random rewards, a quarter of the paper's steps."""
    library = policy_library(TASK.mdp, TASK.features, 150, seed=0)[:69]
    assert len(library) == 69
    found = fit_regret_reward_library(people.segments, TASK.features, library, iterations=1250)
    assert found.value == pytest.approx(0.571, abs=0.008)
    assert scaled(found.weights) > 0.98


def test_few_labels(people):
    found = experiments.learn_from_parts(people.segments, 20, restarts=3, iterations=300, seed=100)
    shares = {model: experiments.share_near_optimal(returns) for model, returns in found.items()}
    assert shares[experiments.EARLY] == 0.5  # the page's figure and its protocol
    assert shares["regret"] >= 0.8
    assert shares["regret"] > shares["partial return"]


def test_people_are_in_the_reproduction(real_data):
    table, criteria = [], []
    found = paper._people(Run(quick=True, data=real_data), table, criteria)
    assert [c for c in criteria if not c.passed] == []
    assert len(criteria) == 4
    assert found["losses"]["Privileged-Control"] == pytest.approx((0.6202, 0.5732), abs=2e-4)
    assert sorted(found["curve"]) == [89, 358, 1793]
    figure = experiments.draw(
        found,
        {"regret": found["curve"], "partial return": found["curve"]},
        TOYS,
        paper.PAPER_LOSSES,
    )
    assert [axes.get_title() for axes in figure.axes][:2] == [
        "Labels by people: prediction, one scale fitted",
        "Labels by people, delivery task",
    ]
    assert all(
        axes.get_xlabel() and axes.get_ylabel() and axes.get_legend() for axes in figure.axes[1:]
    )


TOYS = {
    name: {30: {"regret": 1.0, "partial return": 0.5, "optimum": 1.0}}
    for name in ("FrozenLake-v1", "CliffWalking-v1")
}


@pytest.mark.parametrize("name", ["better_fit", "better_policy"])
def test_claims_on_people(real_data, monkeypatch, name):
    monkeypatch.setenv("PREFSIM_DATA", str(real_data))
    (claim,) = (claim for claim in paper.CLAIMS if claim.id == name)
    result = check_claim(claim._replace(breaks=None), examples=1)
    assert result.holds
    assert result.detail.startswith("people")


def test_the_reproduction_without_people():
    found = paper.reproduce(Run(quick=True))
    assert [c for c in found.criteria if not c.passed] == []
    assert [c.name.split(":")[0] for c in found.criteria] == [
        "labels by regret",
        "labels of either kind are fitted best by their own model (nats)",
        "FrozenLake-v1",
        "CliffWalking-v1",
    ]
    assert len(found.figure.axes) == 2
    assert {row["part"] for row in found.table} == {
        "simulated rater by regret",
        "simulated rater by partial return",
        "FrozenLake-v1",
        "CliffWalking-v1",
    }
    assert all(np.isfinite(row["value"]) for row in found.table)
