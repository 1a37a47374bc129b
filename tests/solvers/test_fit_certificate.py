"""What fit certifies: minima that exist, at the policy that is returned, and none that do not."""

import functools
import itertools
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from prefsim import losses, use_backend
from prefsim.containers import PairLogps
from prefsim.data import Comparisons, Feedback, Rankings
from prefsim.data.replicates import replicated_comparisons
from prefsim.losses.registry import container_of, loss_functions
from prefsim.policies import LogLinearPolicy, NetworkPolicy, TabularPolicy, TokenTreePolicy
from prefsim.solvers import (
    ConvergenceWarning,
    cross_entropy_penalty,
    fit,
    fit_bradley_terry,
    gradient_descent,
    kl_penalty,
    objective,
)
from prefsim.solvers.likelihood.separability import (
    is_convex_in_the_margin,
    ranked_without_error,
    separated_by_weights,
)
from prefsim.worlds import ContextualBandit, TokenTree

dpo = functools.partial(losses.dpo, beta=0.5)
BANDIT = ContextualBandit.random(5, 10, seed=0)
TWENTY = Comparisons.sample(BANDIT, 20, seed=0)


def quietly(*arguments, **options):
    """Fit without the warning, which is for tests of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit(*arguments, **options)


# By one pair that is labelled once. The other losses have a finite minimum there.
DRIVEN_APART = {
    "aot",
    "aot_unpaired",
    "apo_down",
    "apo_zero",
    "asft",
    "bco",
    "bco_pair",
    "beta_dpo",
    "chipo",
    "cpo",
    "dpo",
    "dpop",
    "drdpo",
    "f_dpo",
    "flex_dpo",
    "gradient_ascent",
    "nca_pair",
    "npo",
    "odpo",
    "orpo",
    "probit",
    "rdpo",
    "rdpo_length",
    "robust_hinge",
    "robust_probit",
    "rpo",
    "rrhf",
    "semantic",
    "sft",
    "sigmoid_norm",
    "simnpo",
    "simpo",
    "slic",
    "vpo",
}
OF_PAIRS = sorted(n for n, loss in loss_functions().items() if container_of(loss) is PairLogps)


@pytest.mark.parametrize("name", OF_PAIRS)
def test_a_pair_that_is_labelled_once(name):
    reference = TabularPolicy.uniform(1, 2)
    data = Comparisons(
        [0],
        [0],
        [1],
        chosen_score=[0.8],
        rejected_score=[0.2],
        old_chosen=[-0.7],
        old_rejected=[-0.7],
    )
    loss = loss_functions()[name]
    ends = [
        quietly(reference, loss, data, reference=reference, tolerance=tol, max_iterations=100)
        for tol in (1e-4, 1e-8, 1e-12)
    ]
    if name in DRIVEN_APART:
        assert all(end.diverges and not end.converged for end in ends)
    else:
        assert all(end.converged and not end.diverges for end in ends)
        np.testing.assert_allclose(ends[0].policy.probs, ends[2].policy.probs, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(OF_PAIRS) & DRIVEN_APART))
def test_it_is_driven_apart_however_small_the_tolerance(name):
    reference = TabularPolicy.uniform(1, 2)
    data = Comparisons([0], [0], [1], chosen_score=[0.8], rejected_score=[0.2])
    found = quietly(
        reference,
        loss_functions()[name],
        data,
        reference=reference,
        tolerance=1e-15,
        max_iterations=100,
    )
    assert found.diverges
    assert not found.converged


# Whose targets for a log-probability lie above 0, so that every other response is pushed away.
AWAY_FROM_OTHERS = {"cal_dpo", "gpo", "sppo", "sppo_hard"}


@pytest.mark.parametrize("name", OF_PAIRS)
@pytest.mark.parametrize(("chosen", "rejected"), [([0], [1]), ([0, 1], [1, 2])])
def test_a_response_that_was_never_compared(name, chosen, rejected):
    n = len(chosen)
    reference = TabularPolicy.uniform(1, n + 2)
    data = Comparisons(
        [0] * n,
        chosen,
        rejected,
        chosen_score=[0.8] * n,
        rejected_score=[0.2] * n,
        old_chosen=[-1.0] * n,
        old_rejected=[-1.2] * n,
    )
    # Beyond what a default asks for, where rounding hides the slope that is left.
    for tol in (1e-6, 1e-11):
        options = {"reference": reference, "tolerance": tol, "max_iterations": 100}
        end = quietly(reference, loss_functions()[name], data, **options)
        assert end.diverges == (name in DRIVEN_APART | AWAY_FROM_OTHERS)
        assert end.converged != end.diverges


@pytest.mark.parametrize(
    "loss", [dpo, losses.simpo, losses.orpo, losses.cpo, losses.rpo, losses.sft, losses.probit]
)
def test_twenty_sampled_comparisons_warn_the_caller(loss):
    reference = TabularPolicy.uniform(5, 10)
    with pytest.warns(ConvergenceWarning, match="no finite minimiser") as caught:
        result = fit(reference, loss, TWENTY, reference=reference)
    assert result.diverges and not result.converged
    (warning,) = caught
    assert warning.filename == __file__
    assert "cross_entropy_penalty" in str(warning.message)


def test_the_warning_names_the_responses():
    reference = TabularPolicy.uniform(3, 4)
    # Prompt 1 is in balance, prompt 2 is not: 0 and 3 beat each other, and lose to 1 alone.
    rows = [(1, 0, 1), (1, 1, 0), (2, 0, 3), (2, 3, 0), (2, 1, 3)]
    prompt, chosen, rejected = zip(*rows, strict=True)
    with pytest.warns(
        ConvergenceWarning, match=r"of prompt 2, the responses \{1\} never lose to \{0, 3\}"
    ):
        fit(reference, dpo, Comparisons(prompt, chosen, rejected), reference=reference)


ONCE = Comparisons([0, 1, 2], [0, 0, 0], [1, 1, 1])
BALANCED_ONCE = Comparisons([0, 0], [0, 1], [1, 0], weight=[[1.0, 1.0], [1.0, 0.0]])
GROWS = "so that their log-odds grow without bound"


@pytest.mark.parametrize(
    ("policy", "loss", "data", "why"),
    [
        (
            LogLinearPolicy.from_features(np.eye(3)[None].repeat(3, axis=0)),
            dpo,
            ONCE,
            ": some direction of the weights ranks every comparison right",
        ),
        (
            TabularPolicy.uniform(3, 3),
            losses.orpo,
            ONCE,
            ": the loss still falls as the parameters grow",
        ),
        (
            TabularPolicy.uniform(1, 2),
            dpo,
            BALANCED_ONCE,
            f" in 1 of 2 problems: of prompt 0, the responses {{0}} never lose to {{1}}, {GROWS}",
        ),
        *(
            (
                TabularPolicy.uniform(3, 3),
                dpo,
                Comparisons(np.arange(n), [0] * n, [1] * n),
                f": of prompt 0, the responses {{0}} never lose to {{1}}{others}, {GROWS}",
            )
            for n, others in (
                (1, ""),
                (2, " (and such in 1 further prompt)"),
                (3, " (and such in 2 further prompts)"),
            )
        ),
    ],
)
def test_the_warning_says_why_there_is_no_minimum(policy, loss, data, why):
    with pytest.warns(ConvergenceWarning) as caught:
        fit(policy, loss, data, reference=TabularPolicy.uniform(*policy.probs.shape))
    (warning,) = caught
    assert str(warning.message) == (
        f"fit found no finite minimiser{why}; the policy is where the search stopped."
        " Regularise, for instance by penalty=prefsim.solvers.cross_entropy_penalty("
        "reference.probs, weight=...), add comparisons, or take soft labels (prob) or the"
        " population (Comparisons.population)"
    )


def grows_without_bound(n, rows):
    """Whether some ranking of the items makes no row wrong and some row right, by trying all."""
    levels = np.asarray(list(itertools.product(range(n), repeat=n)))
    gains = np.stack([levels[:, first] - levels[:, second] for first, second in rows], axis=1)
    return bool(((gains >= 0).all(axis=1) & (gains > 0).any(axis=1)).any())


@given(st.integers(0, 2**31), st.integers(2, 4), st.integers(1, 9))
def test_separability_is_decided_exactly(seed, n, m):
    rng = np.random.default_rng(seed)
    winner = rng.integers(0, n, m)
    loser = (winner + rng.integers(1, n, m)) % n
    rows = (np.zeros(m, dtype=int), winner, loser)
    zero = torch.zeros(m, dtype=torch.float64)
    pairs = PairLogps(zero, zero, zero, zero)
    weight = np.ones((1, m))
    expected = grows_without_bound(n, list(zip(winner, loser, strict=True)))
    assert ranked_without_error(dpo, pairs, weight, rows, (1, n)).member == [expected]
    # One feature a response: the same policies by a linear program.
    assert separated_by_weights(dpo, pairs, weight, rows, np.eye(n)[None]).member == [expected]
    # Wherever a search has ended, no slopes that seem to balance hide a direction.
    for scale in (0.0, 1.0, 30.0, 1000.0):
        logits = torch.as_tensor(scale * rng.normal(size=n))
        end = PairLogps(logits[winner], logits[loser], zero, zero)
        found = separated_by_weights(dpo, pairs, weight, rows, np.eye(n)[None], end)
        assert found.member == [expected]
    # Losses whose minimum is reached whatever the data.
    for other in (losses.ipo, functools.partial(losses.dpo, label_smoothing=0.1), losses.hinge):
        assert not ranked_without_error(other, pairs, weight, rows, (1, n)).member
        assert not separated_by_weights(other, pairs, weight, rows, np.eye(n)[None]).member


def test_slopes_that_balance_need_no_linear_program(monkeypatch):
    features = np.random.default_rng(3).normal(size=(4, 5, 3))
    world = ContextualBandit.random(4, 5, seed=0)
    policy = LogLinearPolicy.from_features(features)
    data = replicated_comparisons(world, 200, 6, seed=1, policy=TabularPolicy.uniform(4, 5))

    def asked(*_):
        raise AssertionError("a linear program was asked")

    monkeypatch.setattr("prefsim.solvers.likelihood.separability._has_direction", asked)
    assert fit(policy, dpo, data, reference=policy).converged
    with pytest.raises(AssertionError, match="was asked"):
        fit(policy, dpo, Comparisons([0], [0], [1]), reference=policy)


def test_which_losses_are_judged_by_their_rows():
    pairs = losses.PairLogps.example()
    tensors = losses.PairLogps(*map(torch.as_tensor, pairs))
    for loss in (dpo, losses.ipo, losses.hinge, losses.probit, losses.spce, losses.rdpo_length):
        assert is_convex_in_the_margin(loss, tensors)
    # Of the log-probabilities themselves, and not convex.
    for loss in (losses.sft, losses.orpo, losses.cpo, losses.npo, losses.discopop, losses.sppo):
        assert not is_convex_in_the_margin(loss, tensors)


@pytest.mark.parametrize("policy", [TabularPolicy.uniform(1, 3), LogLinearPolicy])
def test_fit_follows_the_rows(policy):
    if policy is LogLinearPolicy:
        policy = LogLinearPolicy.from_features([[[0.0], [1.0], [3.0]]])
    reference = TabularPolicy.uniform(1, 3)
    cycle, order = Comparisons([0] * 3, [0, 1, 2], [1, 2, 0]), Comparisons([0] * 2, [0, 1], [1, 2])
    assert fit(policy, dpo, cycle, reference=reference).converged
    assert quietly(policy, dpo, order, reference=reference).diverges


def test_as_bradley_terry_judges():
    counts = np.asarray([[0, 3, 1], [1, 0, 0], [0, 0, 0]])
    winner, loser = np.nonzero(counts)
    data = Comparisons(0 * winner, winner, loser, weight=counts[winner, loser])
    reference = TabularPolicy.uniform(1, 3)
    with pytest.raises(ValueError, match="no maximum exists"):
        fit_bradley_terry(counts)
    assert quietly(reference, dpo, data, reference=reference).diverges
    both = counts + 0.1 * (counts.T > 0)
    winner, loser = np.nonzero(both)
    data = Comparisons(0 * winner, winner, loser, weight=both[winner, loser])
    result = fit(reference, dpo, data, reference=reference)
    rewards = fit_bradley_terry(both).reward
    margins = 0.5 * (result.policy.logits[0] - result.policy.logits[0].mean())
    np.testing.assert_allclose(margins, rewards, atol=1e-8)


def test_what_is_regularised_has_a_minimum():
    reference = TabularPolicy.uniform(5, 10)
    penalty = cross_entropy_penalty(reference.probs, weight=0.1)
    result = fit(reference, dpo, TWENTY, reference=reference, penalty=penalty)
    assert result.converged and not result.diverges
    # The divergence from the reference that the objective of DPO has is bounded on a table, and
    # below beta = 1 its slope vanishes before that of the loss.
    bounded = kl_penalty(reference, weight=0.1)
    assert quietly(reference, dpo, TWENTY, reference=reference, penalty=bounded).diverges


def test_each_member_of_a_batch_for_itself():
    reference = TabularPolicy.uniform(1, 2)
    data = Comparisons([0, 0], [0, 1], [1, 0], weight=[[0.5, 0.5], [1.0, 0.0], [0.2, 0.8]])
    result = quietly(reference, dpo, data, reference=reference)
    np.testing.assert_array_equal(result.diverges, [False, True, False])
    assert not result.converged and (result.grad_norm <= 1e-10).all()
    np.testing.assert_allclose(result.policy.probs[2, 0, 1] / result.policy.probs[2, 0, 0], 16.0)


def test_of_trees_networks_feedback_and_rankings():
    tree = TokenTree.random(2, 2, seed=0, end_token=1)
    start = TokenTreePolicy.uniform(tree)
    assert quietly(start, dpo, Comparisons([0], [0], [1]), reference=start).diverges
    both = Comparisons([0, 0], [0, 1], [1, 0], weight=[0.3, 0.7])
    assert fit(start, dpo, both, reference=start).converged
    network = NetworkPolicy.mlp(np.eye(2), 3, hidden=(3,), seed=0)
    uniform = TabularPolicy.uniform(2, 3)
    assert quietly(network, dpo, Comparisons([0], [0], [1]), reference=uniform).diverges
    table = TabularPolicy.uniform(1, 2)
    kto = functools.partial(losses.kto, beta=1.0, reference_point=0.0)
    assert quietly(table, kto, Feedback([0], [0], [True]), reference=table).diverges
    ranked = Rankings([0, 0], [[0, 1], [0, 1]], [[1.0, 0.0], [2.0, 1.0]])
    assert quietly(table, losses.pl_dpo, ranked, reference=table).diverges
    turned = Rankings([0, 0], [[0, 1], [0, 1]], [[1.0, 0.0], [1.0, 2.0]])
    assert fit(table, losses.pl_dpo, turned, reference=table).converged


def test_a_kink_is_a_minimum():
    reference = TabularPolicy.uniform(1, 3)
    hinge = functools.partial(losses.hinge, beta=0.5)
    ordered = Comparisons([0, 0], [0, 1], [1, 2])
    result = fit(reference, hinge, ordered, reference=reference)
    assert result.converged and not result.diverges and result.value < 1e-12
    # At the best margins, 1/beta each, the slopes of both sides are far from zero.
    noisy = Comparisons([0, 0, 0], [2, 2, 1], [1, 0, 0], prob=[0.8, 0.9, 0.7])
    result = fit(reference, hinge, noisy, reference=reference)
    assert result.converged and result.grad_norm <= 1e-10
    for shift in np.eye(3):
        for sign in (-1e-3, 1e-3):
            moved = TabularPolicy(result.policy.logits + sign * shift)
            assert objective(moved, hinge, noisy, reference=reference) >= result.value - 1e-12


def test_kinks_of_many_contexts_are_certified_one_by_one():
    reference = TabularPolicy.uniform(140, 3)
    prompt, chosen, rejected = np.repeat(np.arange(140), 3), [2, 2, 1] * 140, [1, 0, 0] * 140
    noisy = Comparisons(prompt, chosen, rejected, prob=[0.8, 0.9, 0.7] * 140)
    result = fit(reference, functools.partial(losses.hinge, beta=0.5), noisy, reference=reference)
    assert result.converged and result.grad_norm <= 1e-10


def test_what_has_not_arrived_is_not_certified():
    world, reference = ContextualBandit.random(2, 3, seed=0), TabularPolicy.uniform(2, 3)
    data = Comparisons.population(world, reference)
    for loss in (dpo, functools.partial(losses.hinge, beta=0.5)):
        result = quietly(reference, loss, data, reference=reference, max_iterations=1)
        assert not result.converged and not result.diverges


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_single_precision_is_certified_as_returned(name):
    world = ContextualBandit.random(2, 3, seed=0)
    with use_backend(name, dtype="float32"):
        reference = TabularPolicy.uniform(2, 3)
        data = Comparisons.population(world, reference)
        result = fit(reference, dpo, data, reference=reference)
        assert result.converged
        with pytest.warns(ConvergenceWarning, match="above tolerance = 1e-12"):
            strict = fit(reference, dpo, data, reference=reference, tolerance=1e-12)
    returned = torch.as_tensor(np.asarray(result.policy.logits), dtype=torch.float64)
    leaf = returned.requires_grad_(True)
    value = objective(TabularPolicy(leaf), dpo, data, reference=TabularPolicy.uniform(2, 3))
    (gradient,) = torch.autograd.grad(value, leaf)
    assert result.policy.logits.dtype == reference.logits.dtype
    np.testing.assert_allclose(result.grad_norm, float(gradient.abs().max()), rtol=1e-6)
    np.testing.assert_allclose(result.value, float(value.detach()), rtol=1e-12)
    assert strict.grad_norm > 1e-12 and not strict.converged and not strict.diverges


@pytest.mark.parametrize("weight", [[0.0, 0.0], [[0.0, 0.0], [0.0, 0.0]]])
def test_no_weight_at_all_is_refused(weight):
    reference = TabularPolicy.uniform(1, 2)
    data = Comparisons([0, 0], [0, 1], [1, 0], weight=weight)
    descent = functools.partial(gradient_descent, step=0.1, iterations=1)
    for method in (fit, descent):
        with pytest.raises(ValueError, match="some row must have a weight > 0"):
            method(reference, dpo, data, reference=reference)


def test_a_data_set_without_weight_among_others_has_no_minimum_and_a_path_that_stays():
    start = TabularPolicy.uniform(1, 2)
    both = Comparisons([0, 0], [0, 1], [1, 0], weight=[[0.0, 0.0], [1.0, 0.0]])
    alone = Comparisons([0, 0], [0, 1], [1, 0], weight=[1.0, 0.0])
    with pytest.raises(ValueError, match="got weights that are all 0 in data set 0"):
        fit(start, dpo, both, reference=start)
    options = {"reference": start, "step": 0.1, "iterations": 3}
    found, _ = gradient_descent(start, dpo, both, **options)
    expected, _ = gradient_descent(start, dpo, alone, **options)
    np.testing.assert_array_equal(found.policy.logits[0], start.logits)
    np.testing.assert_allclose(found.policy.logits[1], expected.policy.logits, rtol=1e-14)
    assert (found.policy.logits[1] != start.logits).all()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_loss_that_depends_on_no_parameter_is_at_its_minimum(dtype):
    def constant(logps: PairLogps):
        return 0 * logps.ref_chosen + 1.0

    with use_backend("torch", dtype=dtype):
        policy = TabularPolicy.uniform(5, 10)
    found = fit(policy, constant, TWENTY, reference=policy)
    assert (float(found.value), float(found.grad_norm)) == (1.0, 0.0)


def test_a_tail_is_judged_by_the_slopes_of_its_own_row():
    zero = torch.zeros(2, dtype=torch.float64)
    pairs = PairLogps(zero, zero, zero, zero)
    sizes = torch.as_tensor([1e-6, 1.0], dtype=torch.float64)

    def hinges(logps: PairLogps):
        return sizes.repeat_interleave(logps.chosen.shape[-1] // 2) * losses.hinge(logps, beta=0.5)

    # Ordered without an error: only a loss that falls for ever has no minimum there.
    rows = (np.zeros(2, dtype=int), np.asarray([0, 1]), np.asarray([1, 2]))
    weight = np.ones((1, 2))
    assert not ranked_without_error(hinges, pairs, weight, rows, (1, 3)).member
    assert not separated_by_weights(hinges, pairs, weight, rows, np.eye(3)[None]).member


def test_a_loss_that_hardly_sees_more_than_the_margin_sees_more():
    pairs = losses.PairLogps(*map(torch.as_tensor, losses.PairLogps.example()))

    def leaning(logps: PairLogps):
        return dpo(logps) + 1e-7 * logps.rejected

    assert is_convex_in_the_margin(dpo, pairs)
    assert not is_convex_in_the_margin(leaning, pairs)


def test_a_loss_that_overflows_is_not_taken_for_convex():
    pairs = losses.PairLogps(*map(torch.as_tensor, losses.PairLogps.example()))

    def steep(logps: PairLogps):
        margin = logps.chosen - logps.rejected
        return torch.exp(-3 * margin) + torch.sin(margin)

    assert not is_convex_in_the_margin(steep, pairs)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_features_of_half_precision_are_separated_as_those_of_double(dtype):
    zero = torch.zeros(2, dtype=torch.float64)
    pairs = PairLogps(zero, zero, zero, zero)
    features = np.eye(3, dtype=dtype)[None]
    for chosen, rejected in (([0, 1], [1, 2]), ([0, 1], [1, 0])):
        rows = (np.zeros(2, dtype=int), np.asarray(chosen), np.asarray(rejected))
        found = separated_by_weights(dpo, pairs, np.ones((1, 2)), rows, features)
        assert found.member == [rejected == [1, 2]]


def test_rows_that_end_flat_stand_in_the_way_of_those_that_fall():
    """A hinge on some rows and a logistic loss on others, told apart by a column."""

    def mixed(logps: PairLogps):
        margin = logps.chosen - logps.rejected
        hinge = torch.clamp(1 - margin, min=0.0)
        falls = torch.nn.functional.softplus(-margin)
        return torch.where(logps.chosen_score > 0, falls, hinge)

    features = np.asarray([[[1.0, 0.0], [0.0, 0.0], [-1.0, 1.0], [-1.0, 0.0]]])
    zero = torch.zeros(2, dtype=torch.float64)
    pairs = PairLogps(
        zero, zero - 1, zero, zero, chosen_score=torch.tensor([1.0, 0.0]), rejected_score=zero
    )
    # 0 ≻ 1 falls along the first weight: 2 ≻ 1 holds it only without the second, 3 ≻ 1 for good.
    for held_by, expected in ((2, True), (3, False)):
        chosen, rejected = np.asarray([0, held_by]), np.asarray([1, 1])
        moved = features[0, chosen] - features[0, rejected]
        assert _some_direction(moved[:1], moved[1:]) == expected
        rows = (np.zeros(2, dtype=int), chosen, rejected)
        found = separated_by_weights(mixed, pairs, np.ones((1, 2)), rows, features)
        assert found.member == [expected]


def _some_direction(falls, flat):
    """Whether some direction of the plane raises a row that falls and lowers none, by trying."""
    turns = np.linspace(0, 2 * np.pi, 721)
    ways = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    kept = ((ways @ falls.T > -1e-9).all(axis=1)) & ((ways @ flat.T > -1e-9).all(axis=1))
    return bool((kept & (ways @ falls.T > 1e-6).any(axis=1)).any())


@pytest.mark.parametrize("beta", [1e-9, 1e-6, 1e-3])
@pytest.mark.parametrize("kind", ["table", "log-linear"])
def test_a_gradient_that_is_small_from_the_start_is_no_minimum_yet(kind, beta):
    # At the start the gradient is some beta * weight, far below any tolerance.
    data = Comparisons(prompt=[0], chosen=[0], rejected=[1], prob=[0.7], weight=[1e-6])
    table = TabularPolicy.uniform(1, 2)
    policy = table if kind == "table" else LogLinearPolicy.from_features([[[1.0], [0.0]]])
    loss = functools.partial(losses.dpo, beta=beta)
    log_probs = fit(policy, loss, data, reference=table).policy.log_probs
    margin = beta * (log_probs[0, 0] - log_probs[0, 1])
    np.testing.assert_allclose(margin, np.log(0.7 / 0.3), rtol=1e-6)
