"""Every way to draw or enumerate data: each argument does what it says, and bad ones are named."""

import functools
import inspect
import re

import numpy as np
import pytest
from room_calls import CALLS
from segment_tasks import CORRIDOR

from prefsim.data import (
    Comparisons,
    Feedback,
    Negatives,
    Rankings,
    Revisions,
    ScoredPairs,
    Segments,
    read_jsonl,
    write_jsonl,
)
from prefsim.data.degradation import degrade, kept_tokens, key_phrases
from prefsim.data.delivery import delivery_segments
from prefsim.data.drawn import judged_triples, labelled_pairs
from prefsim.data.filtered_pairs import filtered_pairs
from prefsim.data.ranked_pairs import ranked_comparisons, ranked_pairs
from prefsim.data.replicates import replicated_comparisons
from prefsim.data.trajectories import (
    enumerate_trajectories,
    record_trajectories,
    sample_trajectories,
)
from prefsim.policies import TabularPolicy
from prefsim.worlds import ContextualBandit, TabularMDP
from prefsim.worlds.delivery import delivery_task

X, Y, N = 3, 4, 40
RNG = np.random.default_rng(0)
REWARD = RNG.normal(size=(X, Y))
RHO = np.asarray([0.5, 0.0, 0.5])
WORLD = ContextualBandit(reward=REWARD, context_probs=RHO)
DESIRABLE = RNG.uniform(0.2, 0.8, (X, Y))
POLICY, OTHER = (TabularPolicy.random(X, Y, seed=seed) for seed in (1, 2))
BATCHED = ContextualBandit.random(X, Y, seed=3, batch_shape=(2,))
SCORES = CORRIDOR.reward
# Three columns, so that a cell has another number than on the board of the human study.
OPEN_BOARD = ". . .\n. . .\n. . .\n. . G"
STATES, ACTIONS = CORRIDOR.n_states, CORRIDOR.n_actions


def always(response: int, states: int = X, actions: int = Y) -> TabularPolicy:
    """A policy of one response alone."""
    return TabularPolicy.from_probs(np.tile(np.eye(actions)[response], (states, 1)))


# Each takes a seed, the number of rows and a policy.
DRAWN = {
    "comparisons": lambda seed, n, policy: Comparisons.sample(WORLD, n, seed=seed, policy=policy),
    "feedback": lambda seed, n, policy: Feedback.sample(DESIRABLE, n, seed=seed, policy=policy),
    "rankings": lambda seed, n, policy: Rankings.sample(WORLD, n, 3, seed=seed),
    "scored pairs": lambda seed, n, policy: ScoredPairs.sample(WORLD, n, seed=seed, policy=policy),
    "triples": lambda seed, n, policy: judged_triples(WORLD, policy, n, seed=seed),
    "segments": lambda seed, n, policy: Segments.sample(CORRIDOR, n, 2, seed=seed, scores=SCORES),
    "recorded": lambda seed, n, policy: Segments.from_gymnasium(
        "FrozenLake-v1", n, 2, seed=seed, rater=lambda pairs: np.full(len(pairs), 0.5)
    ),
}


def columns(data) -> list[np.ndarray]:
    return [value for value in vars(data).values() if isinstance(value, np.ndarray)]


@pytest.mark.parametrize("name", DRAWN)
def test_a_seed_is_a_data_set(name):
    first, again, other = (DRAWN[name](seed, N, POLICY) for seed in (0, 0, 1))
    assert len(first) == len(other) == N
    for left, right in zip(columns(first), columns(again), strict=True):
        np.testing.assert_array_equal(left, right)
    assert any(
        not np.array_equal(left, right)
        for left, right in zip(columns(first), columns(other), strict=True)
    )


@pytest.mark.parametrize("name", DRAWN)
def test_the_least_number_of_rows(name):
    least = 1 if name == "triples" else 0
    assert len(DRAWN[name](0, least, POLICY)) == least
    with pytest.raises(ValueError, match=r"^n must be .*got"):
        DRAWN[name](0, least - 1, POLICY)


@pytest.mark.parametrize("name", ["comparisons", "rankings", "scored pairs", "triples"])
def test_prompts_are_of_the_world(name):
    assert set(DRAWN[name](0, N, POLICY).prompt.tolist()) == {0, 2}


SAMPLERS_OF_A_WORLD = {
    "comparisons": lambda world: Comparisons.sample(world, 2, seed=0),
    "scored pairs": lambda world: ScoredPairs.sample(world, 2, seed=0, policy=POLICY),
    "triples": lambda world: judged_triples(world, POLICY, 2, seed=0),
    "replicates": lambda world: replicated_comparisons(world, 2, 2, seed=0, policy=POLICY),
    "rankings": lambda world: Rankings.sample(world, 2, 2, seed=0),
    "all rankings": Rankings.population,
}


@pytest.mark.parametrize("name", SAMPLERS_OF_A_WORLD)
def test_draws_are_of_one_world(name):
    with pytest.raises(ValueError, match="one world"):
        SAMPLERS_OF_A_WORLD[name](BATCHED)


# --- who answers, and against whom ---

PAIRS_OF_TWO = {
    "population": lambda first, second: Comparisons.population(WORLD, first, against=second),
    "scored population": lambda first, second: ScoredPairs.population(WORLD, first, against=second),
    "scored": lambda first, second: ScoredPairs.sample(
        WORLD, N, seed=0, policy=first, against=second
    ),
}


@pytest.mark.parametrize("name", PAIRS_OF_TWO)
def test_the_second_response_is_the_opponents(name):
    data = PAIRS_OF_TWO[name](always(1), always(3))
    kept = np.broadcast_to(data.weight > 0, data.chosen.shape)
    assert set(data.chosen[kept].tolist()) == {1} and set(data.rejected[kept].tolist()) == {3}
    if name.startswith("scored"):
        assert not data.old_chosen[kept].any() and not data.old_rejected[kept].any()
        mixed = PAIRS_OF_TWO[name](POLICY, OTHER)
        where = (mixed.prompt, mixed.rejected)
        np.testing.assert_allclose(mixed.old_rejected, OTHER.log_probs[where], rtol=1e-14)
        np.testing.assert_allclose(
            mixed.old_chosen, POLICY.log_probs[mixed.prompt, mixed.chosen], rtol=1e-14
        )


def test_one_policy_draws_both_unless_there_is_another():
    data = ScoredPairs.sample(WORLD, N, seed=0, policy=always(2))
    assert (data.chosen == 2).all() and (data.rejected == 2).all()
    data = Comparisons.sample(WORLD, N, seed=0, policy=always(2), distinct=False)
    assert (data.chosen == 2).all() and (data.rejected == 2).all()
    assert (Feedback.sample(DESIRABLE, N, seed=0, policy=always(2)).completion == 2).all()
    assert (Negatives.sample([0, 1], [0, 0], always(2), 3, seed=0).samples == 2).all()


def test_distinct_responses_differ():
    sampled = Comparisons.sample(WORLD, 10 * N, seed=0, distinct=True)
    assert (sampled.chosen != sampled.rejected).all()
    same = Comparisons.sample(WORLD, 10 * N, seed=0)
    assert (same.chosen == same.rejected).any()
    for distinct in (True, False):
        drawn = labelled_pairs(WORLD, POLICY, 10 * N, seed=0, distinct=distinct)
        equal = drawn.chosen == drawn.rejected
        assert drawn.weight[equal].sum() > 0 if not distinct else not equal.any()
        drawn = replicated_comparisons(WORLD, 50, 2, seed=0, policy=POLICY, distinct=distinct)
        assert (drawn.chosen == drawn.rejected).any() == (not distinct)
    assert not (replicated_comparisons(WORLD, 50, 2, seed=0, policy=POLICY).chosen == 0).all()


def test_scores_are_against_the_opponent():
    preference = WORLD.preference
    data = labelled_pairs(WORLD, POLICY, N, seed=0, opponent=always(3))
    np.testing.assert_allclose(data.chosen_score, preference[data.prompt, data.chosen, 3])
    np.testing.assert_allclose(data.rejected_score, preference[data.prompt, data.rejected, 3])
    np.testing.assert_allclose(data.old_chosen, POLICY.log_probs[data.prompt, data.chosen])
    own = labelled_pairs(WORLD, POLICY, N, seed=0)
    wins = np.einsum("xyz,xz->xy", preference, POLICY.probs)
    np.testing.assert_allclose(own.chosen_score, wins[own.prompt, own.chosen])
    triples = judged_triples(WORLD, always(3), N, seed=0, sampler=always(1))
    assert (triples.chosen == 1).all() and (triples.rejected == 1).all()
    np.testing.assert_allclose(triples.chosen_score, preference[triples.prompt, 1, 3])
    np.testing.assert_allclose(triples.rejected_score, preference[triples.prompt, 1, 3])


# --- populations ---


def test_feedback_counts_contexts_by_their_probability():
    data = Feedback.population(DESIRABLE, POLICY, context_probs=RHO)
    np.testing.assert_allclose(
        data.weight, RHO[data.prompt] * POLICY.probs[data.prompt, data.completion]
    )
    np.testing.assert_array_equal(data.label, DESIRABLE[data.prompt, data.completion])
    with pytest.raises(ValueError, match="context_probs must have 1 axes"):
        Feedback.population(DESIRABLE, POLICY, context_probs=RHO[None])
    batch = TabularPolicy.from_logits(RNG.normal(size=(2, 5, X, Y)))
    together = Feedback.population(np.broadcast_to(DESIRABLE, (2, 5, X, Y)), batch)
    np.testing.assert_allclose(together.weight, batch.probs.reshape(2, 5, -1) / X)
    np.testing.assert_array_equal(together.label[1, 4], DESIRABLE.ravel())


def test_negatives_keep_their_weight():
    weight = [0.2, 0.8]
    for data in (
        Negatives.population([0, 1], [2, 3], POLICY, weight=weight),
        Negatives.sample([0, 1], [2, 3], POLICY, 3, seed=0, weight=weight),
    ):
        np.testing.assert_array_equal(data.weight, weight)
        np.testing.assert_array_equal(data.prompt, [0, 1])
        np.testing.assert_array_equal(data.rejected, [2, 3])


def test_a_batch_of_worlds_and_policies_is_a_batch_of_populations():
    policies = TabularPolicy.from_logits(RNG.normal(size=(2, X, Y)))
    for distinct in (False, True):
        together = Comparisons.population(BATCHED, policies, distinct=distinct)
        played = Comparisons.self_play(BATCHED, policies)
        for i in range(2):
            world = ContextualBandit(reward=BATCHED.reward[i])
            policy = TabularPolicy.from_logits(policies.log_probs[i])
            alone = Comparisons.population(world, policy, distinct=distinct)
            np.testing.assert_allclose(together.weight[i], alone.weight, rtol=1e-12)
            np.testing.assert_allclose(together.prob[i], alone.prob, rtol=1e-12)
            np.testing.assert_array_equal(together.chosen, alone.chosen)
            one = Comparisons.self_play(world, policy)
            np.testing.assert_allclose(played.chosen_score[i], one.chosen_score, rtol=1e-12)
            np.testing.assert_allclose(played.old_rejected[i], one.old_rejected, rtol=1e-12)


# --- segments ---


def deterministic(action: int) -> TabularPolicy:
    return always(action, STATES, ACTIONS)


WAYS = {
    "enumerated": lambda **design: enumerate_trajectories(CORRIDOR, 2, **design),
    "sampled": lambda **design: sample_trajectories(CORRIDOR, N, 2, seed=0, **design),
    "population": lambda **design: Segments.population(CORRIDOR, 2, scores=SCORES, **design),
    "pairs": lambda **design: Segments.sample(CORRIDOR, N, 2, seed=0, scores=SCORES, **design),
}


@pytest.mark.parametrize("name", WAYS)
def test_segments_are_of_the_design(name):
    for action in range(ACTIONS):
        data = WAYS[name](policy=deterministic(action))
        assert set(data.actions[data.mask].tolist()) == {action}
    start = np.zeros(STATES)
    start[1] = 1.0
    assert (WAYS[name](start=start).states[..., 0] == 1).all()
    assert len(np.unique(WAYS[name]().states[..., 0])) > 1
    assert len(np.unique(WAYS[name]().actions)) > 1


def test_recorded_segments_are_of_the_design():
    lake = functools.partial(
        Segments.from_gymnasium, "FrozenLake-v1", N, 2, seed=0, rater=lambda pairs: pairs.prob / 2
    )
    data = lake(policy=always(2, 16, 4))
    assert (data.actions[data.mask] == 2).all()
    start = np.zeros(16)
    start[6] = 1.0
    assert (lake(start=start).states[..., 0] == 6).all()
    assert (lake().states[0, 0, 0] == 0).all()
    recorded = record_trajectories("FrozenLake-v1", 5, 3, seed=0, policy=always(1, 16, 4))
    assert recorded.states.shape == (5, 4) and (recorded.actions[recorded.mask] == 1).all()
    np.testing.assert_array_equal(recorded.prob, np.full(5, 0.2))


@pytest.mark.parametrize("discount", [1.0, 0.5, 0.0])
def test_labels_discount_inside_the_segments(discount):
    table = RNG.normal(size=SCORES.shape)
    data = Segments.population(CORRIDOR, 2, scores=table, discount=discount)
    gained = data.step_values(table) @ np.asarray([1.0, discount])
    np.testing.assert_allclose(data.prob, 1 / (1 + np.exp(gained[:, 1] - gained[:, 0])))


# --- what is refused is named ---

REFUSED = {
    "tokens of keys": (lambda: key_phrases(np.zeros(3), stop=[1]), "tokens must"),
    "stop of keys": (lambda: key_phrases(np.zeros(3, dtype=int), stop=[0.5]), "stop must"),
    "tokens of versions": (lambda: degrade(np.zeros(3), stop=[1]), "tokens must"),
    "levels": (lambda: degrade(np.zeros(3, dtype=int), stop=[1], levels=0), "levels must"),
    "tokens kept": (lambda: kept_tokens(np.zeros(3), np.ones((1, 3), dtype=bool)), "tokens must"),
    "prompt of filtered": (lambda: filtered_pairs([0.5], [[0, 1]], [[1.0, 2.0]]), "prompt must"),
    "responses of filtered": (
        lambda: filtered_pairs([0], [[0.5, 1]], [[1.0, 2.0]]),
        "responses must",
    ),
    "scores of filtered": (
        lambda: filtered_pairs([0], [[0, 1]], [[np.nan, 2.0]]),
        "scores must",
    ),
    "flat scores of filtered": (lambda: filtered_pairs([0], [[0, 1]], [1.0, 2.0]), "scores must"),
    "least": (lambda: filtered_pairs([0], [[0, 1]], [[1.0, 2.0]], least=np.nan), "least must"),
    "margin": (lambda: filtered_pairs([0], [[0, 1]], [[1.0, 2.0]], margin=-1.0), "margin must"),
    "preference": (lambda: ranked_pairs([[0.5, 0.9], [0.9, 0.5]]), "preference must"),
    "pairing": (lambda: ranked_pairs(np.full((2, 2), 0.5), pairing="some"), "pairing must"),
    "prompt of ranked": (
        lambda: ranked_comparisons([0.5], [[0, 1]], np.full((1, 2, 2), 0.5)),
        "prompt must",
    ),
    "responses of ranked": (
        lambda: ranked_comparisons([0], [[0.5, 1]], np.full((1, 2, 2), 0.5)),
        "responses must",
    ),
    "prompts of negatives": (lambda: Negatives.population([0.5], [1], POLICY), "prompt must"),
    "drawn negatives": (lambda: Negatives.sample([0.5], [1], POLICY, 2, seed=0), "prompt must"),
    "k of negatives": (lambda: Negatives.sample([0], [1], POLICY, 0, seed=0), "k must"),
    "prompts of two axes": (lambda: Rankings([[0, 1]], [[0, 1]], [[0.0, 1.0]]), "prompt must"),
    "completions of three": (lambda: Rankings([0], [[[0, 1]]], [[0.0, 1.0]]), "prompt must"),
    "desirable": (lambda: Feedback.population([0.5], POLICY), "desirable must"),
    "desirable to draw": (lambda: Feedback.sample([0.5], 2, seed=0, policy=POLICY), "desirable"),
    "chance": (
        lambda: Feedback.sample(DESIRABLE + 1, 2, seed=0, policy=POLICY),
        r"desirable must lie in \[0, 1\]",
    ),
    "length": (lambda: enumerate_trajectories(CORRIDOR, 0), "length must"),
    "trajectories": (lambda: sample_trajectories(CORRIDOR, -1, 2, seed=0), "n must"),
    "recorded": (lambda: record_trajectories("FrozenLake-v1", -1, 2, seed=0), "n must"),
    "steps": (lambda: record_trajectories("FrozenLake-v1", 1, 0, seed=0), "length must"),
    "start": (lambda: enumerate_trajectories(CORRIDOR, 1, start=np.full(STATES, 0.9)), "start"),
    "states of start": (lambda: enumerate_trajectories(CORRIDOR, 1, start=[1.0]), "start must"),
    "rows taken": (lambda: WAYS["pairs"]().take([N]), "rows must"),
    "table": (lambda: WAYS["pairs"]().step_values([1.0]), "table must"),
    "features": (lambda: WAYS["pairs"]().step_features([[1.0]]), "features must"),
    "replicates": (
        lambda: replicated_comparisons(WORLD, 2, 0, seed=0, policy=POLICY),
        "replicates must",
    ),
    "drawn of each": (
        lambda: replicated_comparisons(WORLD, 0, 2, seed=0, policy=POLICY),
        "n must",
    ),
    "labelled": (lambda: labelled_pairs(WORLD, POLICY, 0, seed=0), "n must"),
    "too few states": (
        lambda: Segments.sample(CORRIDOR, 2, 2, seed=0, scores=SCORES).step_values(SCORES[:1]),
        "states must",
    ),
    "too few actions": (
        lambda: Segments([[[0, 0], [0, 0]]], [[[2], [2]]]).step_values(np.zeros((1, 2))),
        "actions must",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(name):
    call, message = REFUSED[name]
    with pytest.raises(ValueError) as caught:
        call()
    assert re.match(message, str(caught.value))


NEEDED = (ContextualBandit, TabularMDP, TabularPolicy)
OBJECTS = [
    (name, key)
    for name, (function, arguments) in CALLS.items()
    for key, value in arguments.items()
    if function.__module__.startswith("prefsim.data") and isinstance(value, NEEDED)
]


@pytest.mark.parametrize(("name", "key"), OBJECTS)
def test_what_is_no_world_and_no_policy_is_named(name, key):
    function, arguments = CALLS[name]
    for other in (5, "x", np.ones((2, 3)), object()):
        with pytest.raises(TypeError, match=rf"^{key} must be a .*, got {type(other).__name__}"):
            function(**{**arguments, key: other})


# --- what the rest of the room takes ---


def test_segments_are_replayed_on_the_board_that_is_given():
    own, other = delivery_task(), delivery_task(OPEN_BOARD)
    move = np.asarray([[[[0, 0], [1, 0], [1, 0], [1, 0]]] * 2])
    for task in (own, other):
        state, expected = 0, [0]
        for _ in range(3):
            state = int(np.argmax(task.mdp.transitions[state, 1]))
            expected.append(state)
        given = None if task is own else task
        np.testing.assert_array_equal(delivery_segments(move, given).states[0, 0], expected)


def test_a_batch_of_improvers_is_a_batch_of_joint_policies():
    rows = Comparisons([0], [0], [1])
    data = Revisions(rows, n_contexts=X, n_responses=Y)
    improvers = RNG.dirichlet(np.ones(Y), (2, X, Y))
    joint = data.joint_policy(POLICY.probs, improvers)
    assert joint.probs.shape == (2, X + X * Y, Y)
    for i in range(2):
        alone = data.joint_policy(POLICY.probs, improvers[i])
        np.testing.assert_allclose(joint.probs[i], alone.probs, rtol=1e-12)


def test_a_file_that_is_not_there_has_no_lines(tmp_path):
    with pytest.raises(ValueError, match="cannot be read after line 0"):
        read_jsonl(tmp_path / "missing.jsonl")


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_what_json_does_not_know_is_not_written(name, tmp_path):
    never = Comparisons([0], [0], [1], old_chosen=[-np.inf], old_rejected=[-0.5])
    with pytest.raises(ValueError, match="old_chosen must be finite, got -inf"):
        write_jsonl(never, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_all_sources_have_one_default_for_equal_responses():
    made = (Comparisons.population, Comparisons.sample, replicated_comparisons, labelled_pairs)
    assert {inspect.signature(make).parameters["distinct"].default for make in made} == {False}
