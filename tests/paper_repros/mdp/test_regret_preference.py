"""arXiv:2206.02231: what people's labels teach, by which algorithm, and stand-ins for them."""

import numpy as np
import pytest

from paper_repros.mdp.regret_preference import claims
from paper_repros.mdp.regret_preference.delivery import (
    CONVERGED,
    EARLY,
    MODELS,
    human,
    learn_from_people,
    margins,
    share_near_optimal,
    simulate_study,
    simulated_labels,
)
from paper_repros.mdp.regret_preference.reproduction import criteria_of, rows_of_simulated
from prefsim.analysis.returns import scaled_return
from prefsim.papers import Run, claims_of
from prefsim.papers.checking import check_claim
from prefsim.solvers.likelihood.rationality import fit_rationality
from prefsim.solvers.likelihood.reward_learning import (
    fit_partial_return_reward,
    fit_regret_reward_library,
    policy_library,
)
from prefsim.solvers.planning.features import FeatureProcess
from prefsim.worlds.delivery import delivery_task

TASK = delivery_task(discount=0.999)
PROCESS = FeatureProcess(TASK.mdp, TASK.features)


@pytest.fixture(scope="module")
def people(real_data):
    found = human(real_data)
    assert found is not None
    return found


def scaled(weights):
    return scaled_return(TASK.mdp, PROCESS.greedy_policy(weights), floor=-1.0)


def test_all_labels_by_partial_return(people):
    """The loss is settled after 1,500 steps.

    The policy is another one still when the weights have stopped moving.
    """
    early = fit_partial_return_reward(
        people.segments, TASK.features, learning_rate=0.1, iterations=1500
    )
    assert early.value == pytest.approx(0.5890, abs=1e-4)
    late = fit_partial_return_reward(people.segments, TASK.features, **CONVERGED)
    assert late.value == pytest.approx(0.5890, abs=1e-4)
    assert late.value < early.value
    assert scaled(early.weights) < 0.93 < 0.99 < scaled(late.weights)
    # Nothing in the labels bounds how bad sheep are.
    assert late.weights[2] < early.weights[2] < -5


def test_all_labels_by_the_papers_algorithm(people):
    """Algorithm 1 with a library of 69 policies of random rewards and a quarter of its steps."""
    library = policy_library(TASK.mdp, TASK.features, 150, seed=0)[:69]
    assert len(library) == 69
    found = fit_regret_reward_library(people.segments, TASK.features, library, iterations=1250)
    assert found.value == pytest.approx(0.571, abs=0.008)
    assert scaled(found.weights) > 0.98


def test_people_are_in_the_reproduction(real_data):
    people = learn_from_people(Run(quick=True, data=real_data))
    assert [c for c in criteria_of(people) if not c.passed] == []
    losses, n = people.losses["Privileged-Control"]
    assert n == 1793
    assert losses == pytest.approx({"partial return": 0.6202, "regret": 0.5732}, abs=2e-4)
    assert sorted(people.curve) == [89, 1793]
    shares = {model: share_near_optimal(returns) for model, returns in people.curve[89].items()}
    assert share_near_optimal(people.curve[89][EARLY][:20]) == 0.5, "the first partition"
    assert shares["regret"] >= 0.8
    assert shares["regret"] > shares["partial return"]


def test_without_people_their_part_is_not_run_and_every_number_says_whose_it_is():
    run = Run(quick=True)
    assert learn_from_people(run) is None
    simulated = {model: simulate_study(model, 0) for model in MODELS}
    found = list(rows_of_simulated(simulated))
    assert len(found) == 4
    assert all(row["data"].startswith("simulated rater by") for row in found)


CLAIMS = {claim.id: claim for claim in claims_of(claims)}


def test_regret_fits_people_better(real_data, monkeypatch):
    monkeypatch.setenv("PREFSIM_DATA", str(real_data))
    result = check_claim(CLAIMS["better_fit"], examples=1)
    assert result.holds
    assert result.data == "labels by people, delivery task"
    assert result.detail.startswith("regret 0.573")


@pytest.mark.parametrize("name", ["better_fit", "better_policy"])
def test_claims_about_people_are_not_run_without_them(monkeypatch, name):
    monkeypatch.delenv("PREFSIM_DATA", raising=False)
    result = check_claim(CLAIMS[name], examples=1)
    assert result.holds is None
    assert result.examples == 0


def test_a_simulated_rater_is_as_consistent_as_people():
    segments = simulated_labels("regret", 20_000)
    margin = margins(segments)["regret"]
    # Its labels put the preferred segment first: turn half of the pairs round, to have both kinds.
    sign = np.where(np.arange(len(segments)) % 2 == 0, 1.0, -1.0)
    assert fit_rationality(sign * margin, (1 + sign) / 2).beta == pytest.approx(0.242, abs=0.02)
