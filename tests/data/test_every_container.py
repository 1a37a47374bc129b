"""Every container of data: its columns arrive, bad ones are named, leading axes are data sets."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from loss_settings import base_options

from prefsim.containers import (
    AnchoredLogps,
    ListLogps,
    PairLogps,
    SelfImprovementLogps,
    TokenListLogps,
    TokenPairLogps,
    UnpairedLogps,
)
from prefsim.data import (
    Comparisons,
    Feedback,
    Negatives,
    Rankings,
    Revisions,
    Rollouts,
    ScoredPairs,
    Segments,
)
from prefsim.losses.catalogue import couples_batch
from prefsim.losses.registry import container_of, loss_functions
from prefsim.policies import TabularPolicy

# Different lengths, so that no axis can be taken for another.
BATCH, N, X, Y, K, T = (2, 3), 5, 4, 6, 3, 2
RNG = np.random.default_rng(0)


def places(size: int, *shape: int) -> np.ndarray:
    return RNG.integers(size, size=shape)


def shares(*shape: int) -> np.ndarray:
    drawn = RNG.uniform(0.1, 1.0, shape)
    return drawn / drawn.sum(axis=-1, keepdims=True)


class Case(NamedTuple):
    """A container, the loss container that it feeds, its columns, and which of them are a batch."""

    make: Callable[..., Any]
    kind: type
    columns: dict[str, np.ndarray]
    batched: tuple[str, ...]
    policy: TabularPolicy
    reference: TabularPolicy


def policies(
    states: int, actions: int, batch: tuple[int, ...] = BATCH
) -> tuple[TabularPolicy, TabularPolicy]:
    drawn = (RNG.normal(size=(*batch, states, actions)) for _ in range(2))
    first, second = (TabularPolicy.from_logits(logits) for logits in drawn)
    return first, second


OF_PAIRS = {
    "prompt": places(X, *BATCH, N),
    "chosen": places(Y, *BATCH, N),
    "rejected": places(Y, *BATCH, N),
    "prob": RNG.uniform(0.1, 0.9, (*BATCH, N)),
    "weight": shares(*BATCH, N),
    "chosen_score": RNG.normal(size=(*BATCH, N)),
    "rejected_score": RNG.normal(size=(*BATCH, N)),
    "old_chosen": -RNG.uniform(1, 3, (*BATCH, N)),
    "old_rejected": -RNG.uniform(1, 3, (*BATCH, N)),
}
OF_FEEDBACK = {
    "prompt": places(X, *BATCH, N),
    "completion": places(Y, *BATCH, N),
    "label": RNG.uniform(0.1, 0.9, (*BATCH, N)),
    "weight": shares(*BATCH, N),
    "mismatched": places(Y, *BATCH, N),
    "density_ratio": RNG.uniform(0.5, 2.0, (*BATCH, N)),
}
OF_SEGMENTS = {
    "states": places(X, *BATCH, N, 2, T + 1),
    "actions": places(Y, *BATCH, N, 2, T),
    "prob": RNG.uniform(0.1, 0.9, (*BATCH, N)),
    "weight": shares(*BATCH, N),
    "mask": RNG.random((*BATCH, N, 2, T)) < 0.7,
}
OF_RANKINGS = {
    "prompt": places(X, N),
    "completions": places(Y, N, K),
    "scores": RNG.normal(size=(N, K)),
    "weight": shares(N),
}
OF_ROLLOUTS = OF_RANKINGS | {
    "old_logp": -RNG.uniform(1, 3, (N, K, 1)),
    "advantage": RNG.normal(size=(N, K, 1)),
}
OF_NEGATIVES = {
    "prompt": places(X, N),
    "rejected": places(Y, N),
    "samples": places(Y, N, K),
    "sample_weight": shares(*BATCH, N, K),
    "weight": shares(N),
}


def revisions(**columns: Any) -> Revisions:
    return Revisions(Comparisons(**columns), n_contexts=X, n_responses=Y)


PAIRS = tuple(OF_PAIRS)
SCORED = {name: column for name, column in OF_PAIRS.items() if name != "prob"}
REVISED = {name: OF_PAIRS[name] for name in ("prompt", "chosen", "rejected", "prob", "weight")}
CASES = {
    "comparisons": Case(Comparisons, PairLogps, OF_PAIRS, PAIRS, *policies(X, Y)),
    "one list of comparisons": Case(
        Comparisons,
        PairLogps,
        {name: column[0, 0] for name, column in OF_PAIRS.items()},
        (),
        *policies(X, Y),
    ),
    "weights of their own": Case(
        Comparisons,
        PairLogps,
        {name: column if name == "weight" else column[0, 0] for name, column in OF_PAIRS.items()},
        ("weight",),
        *policies(X, Y),
    ),
    "scored pairs": Case(ScoredPairs, PairLogps, SCORED, tuple(SCORED), *policies(X, Y)),
    "feedback": Case(Feedback, UnpairedLogps, OF_FEEDBACK, tuple(OF_FEEDBACK), *policies(X, Y)),
    "segments": Case(Segments, TokenPairLogps, OF_SEGMENTS, tuple(OF_SEGMENTS), *policies(X, Y)),
    "one list of segments": Case(
        Segments,
        TokenPairLogps,
        {name: column[0, 0] for name, column in OF_SEGMENTS.items()},
        (),
        *policies(X, Y),
    ),
    "rankings": Case(Rankings, ListLogps, OF_RANKINGS, (), *policies(X, Y, ())),
    "rollouts": Case(Rollouts, TokenListLogps, OF_ROLLOUTS, (), *policies(X, Y, ())),
    "negatives": Case(Negatives, AnchoredLogps, OF_NEGATIVES, ("sample_weight",), *policies(X, Y)),
    "revisions": Case(
        revisions, SelfImprovementLogps, REVISED, tuple(REVISED), *policies(X + X * Y, Y)
    ),
}
# A container whose columns are its own fields, each once.
CONTAINERS = (
    "comparisons",
    "scored pairs",
    "feedback",
    "segments",
    "rankings",
    "rollouts",
    "negatives",
)
COLUMNS = [(case, column) for case in CONTAINERS for column in CASES[case].columns]


def test_every_column_is_swept():
    for name in CONTAINERS:
        case = CASES[name]
        assert set(inspect.signature(case.make).parameters) == set(case.columns)


@pytest.mark.parametrize("name", CONTAINERS)
def test_columns_arrive_under_their_names(name):
    case = CASES[name]
    data = case.make(**case.columns)
    assert len(data) == N
    for column, given in case.columns.items():
        found = getattr(data, column)
        np.testing.assert_array_equal(found, given)
        assert found.dtype.kind == given.dtype.kind


@pytest.mark.parametrize("name", CONTAINERS)
def test_what_is_not_given_has_its_stated_value(name):
    case = CASES[name]
    needed = {
        column: case.columns[column]
        for column, parameter in inspect.signature(case.make).parameters.items()
        if parameter.default is inspect.Parameter.empty
    }
    data = case.make(**needed)
    stated = {
        "weight": np.full(N, 1 / N),
        "prob": np.ones(N),
        "mask": np.ones((*BATCH, N, 2, T), dtype=bool),
        "sample_weight": np.full((N, K), 1 / K),
    }
    for column in case.columns.keys() - needed.keys():
        found = getattr(data, column)
        if column in stated:
            np.testing.assert_array_equal(found, stated[column])
        else:
            assert found is None


def refused(case: Case, column: str, value: Any) -> str:
    with pytest.raises(ValueError) as caught:
        case.make(**{**case.columns, column: value})
    return str(caught.value)


@pytest.mark.parametrize(("name", "column"), COLUMNS)
def test_a_column_of_another_kind_is_named(name, column):
    case = CASES[name]
    words = np.full(case.columns[column].shape, "word")
    assert re.match(rf"{column} must (be|hold) ", refused(case, column, words))


@pytest.mark.parametrize(("name", "column"), COLUMNS)
def test_a_value_out_of_range_is_named(name, column):
    case = CASES[name]
    given = case.columns[column]
    if given.dtype.kind == "b":
        pytest.skip("a mask holds no numbers")
    bad = given.copy()
    if given.dtype.kind == "i":
        bad[..., -1] = -2
        assert refused(case, column, bad).startswith(f"{column} must be >= 0")
        return
    bad[..., -1] = np.nan
    assert refused(case, column, bad).startswith(f"{column} must be finite")
    if column in ("weight", "density_ratio", "sample_weight"):
        bad[..., -1] = -0.5
        assert refused(case, column, bad).startswith(f"{column} must be >= 0")
    if column in ("prob", "label"):
        bad[..., -1] = 1.5
        assert refused(case, column, bad).startswith(f"{column} must lie in [0, 1]")
    if column.startswith("old_"):
        bad[..., -1] = 0.5
        assert refused(case, column, bad).startswith(f"{column} must hold log-probabilities <= 0")


@pytest.mark.parametrize(
    ("name", "column"),
    [(name, key) for name, key in COLUMNS if CASES[name].columns[key].dtype.kind == "i"],
)
def test_a_place_beyond_the_policy_is_named(name, column):
    case = CASES[name]
    states, actions = case.policy.logits.shape[-2:]
    size = states if column in ("prompt", "states") else actions
    places = case.columns[column].copy()
    places[(0,) * places.ndim] = size
    mask = {"mask": np.ones_like(case.columns["mask"])} if "mask" in case.columns else {}
    data = case.make(**{**case.columns, **mask, column: places})
    with pytest.raises(ValueError, match=rf"^{column} must be >= 0 and < {size}, got {size}"):
        data.log_probs(case.policy)


@pytest.mark.parametrize(("name", "column"), COLUMNS)
def test_a_column_of_another_length_is_refused(name, column):
    case = CASES[name]
    given = case.columns[column]
    # The rows lie along the last axis, or before those of a row's own entries.
    own = {"states": 2, "actions": 2, "mask": 2, "samples": 1, "completions": 1, "scores": 1}
    own |= {"old_logp": 2, "advantage": 2}
    axis = given.ndim - 1 - own.get(column, int(column == "sample_weight"))
    message = refused(case, column, np.delete(given, 0, axis=axis))
    # The length is that of the first column, so that it is another one which does not fit.
    if column not in ("prompt", "actions", "samples"):
        assert column in message


def at(index: tuple[int, ...], policy: TabularPolicy) -> TabularPolicy:
    return TabularPolicy.from_logits(policy.log_probs[index])


def variants(case: Case) -> dict[str, dict[str, np.ndarray]]:
    """Return soft and hard labels, and rows without weight."""
    found = {"soft": case.columns}
    for name in {"prob", "label"} & case.columns.keys():
        found["hard"] = case.columns | {name: np.ones_like(case.columns[name])}
    for name in {"weight", "sample_weight"} & case.columns.keys():
        column = case.columns[name].copy()
        column[..., 1] = 0.0
        if name == "sample_weight":
            column /= column.sum(axis=-1, keepdims=True)
        found[f"zero {name}"] = case.columns | {name: column}
    return found


@pytest.mark.parametrize("name", sorted(CASES.keys() - {"rankings", "rollouts"}))
def test_leading_axes_are_data_sets_of_their_own(name):
    case = CASES[name]
    for columns in variants(case).values():
        data = case.make(**columns)
        for reference in (None, case.reference):
            ref_logps = None if reference is None else data.log_probs(reference)
            together, weights = data.examples(case.policy, ref_logps, case.kind)
            rows = weights.shape[-1]
            weights = np.broadcast_to(weights, (*BATCH, rows))
            for index in np.ndindex(*BATCH):
                alone = case.make(
                    **{
                        key: column[index] if key in case.batched else column
                        for key, column in columns.items()
                    }
                )
                its = None if reference is None else alone.log_probs(at(index, reference))
                single, weight = alone.examples(at(index, case.policy), its, case.kind)
                np.testing.assert_allclose(weights[index], weight, rtol=1e-12)
                for field, whole, part in zip(case.kind._fields, together, single, strict=True):
                    if part is None:
                        assert whole is None, field
                    else:
                        assert whole.shape == (*BATCH, *part.shape), field
                        np.testing.assert_allclose(whole[index], part, rtol=1e-12, err_msg=field)


# Scores as losses want them: shares of wins, the chosen response ahead.
AHEAD = {
    "chosen_score": RNG.uniform(0.6, 0.9, N),
    "rejected_score": RNG.uniform(0.1, 0.4, N),
    "prob": np.ones(N),
    "label": np.ones(N),
}


def without_first(states: int) -> TabularPolicy:
    """A policy that never gives the first response, and all others alike."""
    return TabularPolicy.from_probs(np.tile(np.eye(Y)[1:].mean(axis=0), (states, 1)))


# Of the distribution at every token, which segments do not hold.
OF_TOKENS = {"ga_kl", "npo_kl", "sparse_po", "tdpo1", "tdpo2", "wpo"}
FED = [
    (name, loss)
    for name in ("comparisons", "scored pairs", "feedback", "segments", "revisions")
    for loss, function in sorted(loss_functions().items())
    if container_of(function) is CASES[name].kind and loss not in OF_TOKENS
]


@pytest.mark.parametrize(("name", "loss"), FED)
def test_rows_without_weight_may_be_impossible(name, loss):
    """What a policy never gives has no logarithm, which must not reach the sum."""
    case, function = CASES[name], loss_functions()[loss]
    if couples_batch(function):
        pytest.skip("its rows are not apart")
    columns = {
        key: AHEAD.get(key, column[0, 0] if column.ndim > 2 else column)
        for key, column in case.columns.items()
        if key not in ("mismatched", "mask")
    }
    possible = np.arange(N) != 1
    for key in {"chosen", "rejected", "completion", "actions"} & columns.keys():
        responses = 1 + columns[key] % (Y - 1)
        columns[key] = np.where(possible.reshape(-1, *[1] * (responses.ndim - 1)), responses, 0)
    columns["weight"] = columns["weight"] * possible
    policy = without_first(X + X * Y if name == "revisions" else X)
    total = {}
    for rows in ("all", "possible"):
        kept = {
            key: column if rows == "all" else column[possible] for key, column in columns.items()
        }
        data = case.make(**kept)
        seen, weight = data.examples(policy, data.log_probs(policy), case.kind)
        total[rows] = (weight * function(seen, **base_options(function))).sum()
    assert np.isfinite(total["possible"])
    assert total["all"] == pytest.approx(total["possible"], rel=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_what_a_loss_sees_is_what_the_policy_says(name):
    """Fields of the policy and of the reference are their log-probabilities, where given."""
    case = CASES[name]
    data = case.make(**case.columns)
    of_policy, of_reference = data.log_probs(case.policy), data.log_probs(case.reference)
    seen, _ = data.examples(case.policy, of_reference, case.kind)
    bare, _ = data.examples(case.policy, None, case.kind)
    if not isinstance(of_policy, dict):
        fields = {
            PairLogps: ("chosen", "rejected"),
            TokenPairLogps: ("chosen", "rejected"),
            UnpairedLogps: ("logp", "mismatched"),
            ListLogps: ("logps",),
            TokenListLogps: ("logp",),
            AnchoredLogps: ("rejected", "samples"),
        }[case.kind]
        of_policy = dict(zip(fields, of_policy, strict=True))
        of_reference = dict(zip(fields, of_reference, strict=True))
    for field, logps in of_policy.items():
        ref_field = f"ref_{field}"
        # Steps behind the rows are the last axis of segments; what is reversed stands after them.
        rows = (..., slice(N), slice(None)) if case.kind is TokenPairLogps else (..., slice(N))
        if case.kind in (AnchoredLogps, ListLogps, TokenListLogps):
            rows = (...,)
        np.testing.assert_array_equal(getattr(seen, field)[rows], logps)
        np.testing.assert_array_equal(getattr(seen, ref_field)[rows], of_reference[field])
        assert not np.asarray(getattr(bare, ref_field)).any()


@pytest.mark.parametrize("name", CASES)
def test_containers_feed_losses_of_one_kind(name):
    case = CASES[name]
    data = case.make(**case.columns)
    other = ListLogps if case.kind is PairLogps else PairLogps
    message = rf"{type(data).__name__.replace('ScoredPairs', 'Comparisons')} feed"
    with pytest.raises(ValueError, match=message + rf"s? losses of .*, got .*{other.__name__}"):
        data.examples(case.policy, None, other)


def test_a_part_is_replaced_and_the_rest_stays():
    pairs = Comparisons(**OF_PAIRS)
    again = pairs.relabelled(0.25)
    for name in PAIRS:
        expected = np.full(N, 0.25) if name == "prob" else OF_PAIRS[name]
        np.testing.assert_array_equal(getattr(again, name), expected)
    bare = ScoredPairs(**SCORED).without_behaviour()
    assert bare.old_chosen is None and bare.old_rejected is None
    for name in SCORED.keys() - {"old_chosen", "old_rejected"}:
        np.testing.assert_array_equal(getattr(bare, name), SCORED[name])
    segments = Segments(**OF_SEGMENTS)
    relabelled = segments.relabelled(OF_SEGMENTS["prob"] / 2)
    for name, column in OF_SEGMENTS.items():
        expected = column / 2 if name == "prob" else column
        np.testing.assert_array_equal(getattr(relabelled, name), expected)


def test_drawn_labels_put_segments_in_order_and_keep_the_rest():
    segments = Segments(**OF_SEGMENTS)
    drawn = segments.drawn(seed=0)
    np.testing.assert_array_equal(drawn.weight, segments.weight)
    np.testing.assert_array_equal(drawn.prob, np.ones(N))
    wins = np.random.default_rng(0).random((*BATCH, N)) < segments.prob
    assert wins.any() and not wins.all()
    for name in ("states", "actions", "mask"):
        before = getattr(segments, name)
        expected = np.where(wins[..., None, None], before, before[..., ::-1, :])
        np.testing.assert_array_equal(getattr(drawn, name), expected)


def test_feedback_of_comparisons_is_both_responses():
    pairs = Comparisons(**OF_PAIRS)
    feedback = pairs.to_feedback()
    both = {
        "prompt": (pairs.prompt, pairs.prompt),
        "completion": (pairs.chosen, pairs.rejected),
        "label": (pairs.prob, 1 - pairs.prob),
        "weight": (pairs.weight, pairs.weight),
    }
    for name, (first, second) in both.items():
        np.testing.assert_array_equal(
            getattr(feedback, name), np.concatenate([first, second], axis=-1)
        )


def test_stacked_and_taken_segments_keep_their_columns():
    members = [
        Segments(**{name: column[0, i] for name, column in OF_SEGMENTS.items()}) for i in range(3)
    ]
    stacked = Segments.stack(members)
    for name, column in OF_SEGMENTS.items():
        np.testing.assert_array_equal(getattr(stacked, name), column[0])
    rows = np.asarray([[3, 0], [1, 1]])
    taken = members[0].take(rows)
    np.testing.assert_array_equal(taken.weight, [0.5, 0.5])
    for name in ("states", "actions", "prob", "mask"):
        np.testing.assert_array_equal(getattr(taken, name), getattr(members[0], name)[rows])


def test_entries_of_a_table_are_read_at_every_step():
    segments = Segments(**{name: column[0, 0] for name, column in OF_SEGMENTS.items()})
    shapes = {
        "values": (X, Y),
        "transitions": (X, Y, X),
        "features": (X, Y, 2),
        "features of transitions": (X, Y, X, 2),
    }
    for name, shape in shapes.items():
        table = RNG.normal(size=shape)
        read = segments.step_features if name.startswith("features") else segments.step_values
        found = read(table)
        for i, side, t in np.ndindex(N, 2, T):
            here, there = segments.states[i, side, t : t + 2]
            entry = table[here, segments.actions[i, side, t]]
            if "transitions" in name:
                entry = entry[there]
            taken = segments.mask[i, side, t]
            np.testing.assert_array_equal(found[i, side, t], entry if taken else 0 * entry)
    table = RNG.normal(size=(X, Y))
    discounted = segments.step_values(table) @ 0.5 ** np.arange(T)
    np.testing.assert_allclose(segments.returns(table, discount=0.5), discounted)
    np.testing.assert_allclose(segments.returns(table), segments.step_values(table).sum(-1))
