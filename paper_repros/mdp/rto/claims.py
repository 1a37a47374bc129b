"""What the paper says of token rewards, each statement as a property of random instances."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.rto.caution import (
    SHARED,
    SINGLE,
    Cautious,
    Setting,
    lost_and_bound,
)
from paper_repros.mdp.rto.token_worlds import (
    TokenWorld,
    best_to_go,
    clipped_then_scaled,
    delayed,
    log_ratios,
    look_ahead,
    objective_of_logits,
    of_responses,
    of_tokens,
    optimum_of,
    population,
    responses,
    scaled_then_clipped,
    sentence_rewards,
    sentence_values,
    sentences,
    token_rewards,
    token_values,
    token_worlds,
    twice_as_far,
    worlds_with_policy,
)
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.gradients import gradient
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import TokenTreePolicy
from prefsim.solvers import fit
from prefsim.solvers.optimisers.token_policy_gradient import token_policy_gradient
from prefsim.solvers.planning import soft_backup
from prefsim.testing import tables
from prefsim.worlds import TokenTree

SEEDS = st.integers(0, 2**32 - 1)
TRACES = st.floats(0.0, 1.0)
BELOW_ONE = st.floats(0.0, 0.8)

WorldAndPolicy = tuple[TokenWorld, TokenTreePolicy]


# --- the token reward ---


@claim(
    "token_reward",
    "identity",
    source="section 3, the token-wise reward of DPO",
    stated="paper",
    given={"world": token_worlds(), "trained_as": st.just(optimum_of)},
    breaks={"trained_as": st.just(twice_as_far)},
)
def log_ratios_are_shaped_rewards(
    world: TokenWorld, trained_as: Callable[[TokenWorld], TokenTreePolicy]
) -> Verdict:
    """β log π*/π_ref of a token is its reward and the value of what it leads to, less the value
    before it; summed over a response, its reward less the value of the prompt.
    """
    _, value = world.optimum()
    found = world.beta * world.log_ratio(trained_as(world))
    tree = world.tree
    values = tree.along(np.broadcast_to(value[..., None], found.shape))
    following = np.concatenate([values[..., 1:], np.zeros_like(values[..., :1])], axis=-1)
    shaped = np.where(tree.mask, tree.along(world.rewards) + following - values, 0.0)
    return worst(
        apart(tree.along(found), shaped, relative=True),
        apart(tree.along(found).sum(axis=-1), world.returns - value[..., :1], relative=True),
    )


@claim(
    "learned_by_dpo",
    "consistency",
    source="section 3, DPO as a token-wise reward",
    stated="paper",
    tolerance=1e-6,
    examples=4,
    given={
        "world": token_worlds(scale=1.0, min_beta=0.5, max_beta=1.0),
        "times_beta": st.just(1.0),
    },
    breaks={"times_beta": st.just(2.0)},
)
def dpo_learns_the_token_reward(world: TokenWorld, times_beta: float) -> Verdict:
    """The token policy that DPO learns from all pairs, labelled by the rewards of whole responses,
    gives the shaped rewards of single tokens, which no label ever named.
    """
    loss = functools.partial(losses.dpo, beta=times_beta * world.beta)
    found = fit(world.reference, loss, population(world), reference=world.reference).policy
    return apart(world.log_ratio(found), world.log_ratio(optimum_of(world)))


@claim(
    "composition",
    "identity",
    source="algorithm 1, the reward of the practical algorithm; the authors' release",
    stated="paper",
    given={
        "drawn": responses(),
        "scale": st.floats(0.02, 0.2),
        "clip": st.floats(0.02, 0.2),
        "bounded": st.just(scaled_then_clipped),
        "sampler": st.just("old"),
    },
    breaks=({"bounded": st.just(clipped_then_scaled)}, {"sampler": st.just("dpo")}),
)
def rewards_are_composed_in_order(
    drawn: dict[str, np.ndarray],
    scale: float,
    clip: float,
    bounded: Callable[[float, float, float], float],
    sampler: str,
) -> Verdict:
    """A token is paid its log-ratio, scaled and then clipped, less the penalty of the policy that
    drew it; the last token of the response the score besides, and padding nothing.
    """
    mask, scores = drawn["mask"], drawn["scores"]
    found = losses.rto_rewards(
        scores, drawn["old"], drawn["ref"], drawn["dpo"], mask, scale=scale, clip=clip
    )
    expected = np.zeros(mask.shape)
    for i, t in zip(*np.nonzero(mask), strict=True):
        ref = drawn["ref"][i, t]
        paid = bounded(drawn["dpo"][i, t] - ref, scale, clip)
        expected[i, t] = paid - 0.01 * (drawn[sampler][i, t] - ref)
        if t + 1 == mask[i].sum():
            expected[i, t] += min(max(scores[i], -10.0), 10.0)
    return apart(found, expected)


# --- what it is optimal for ---


@claim(
    "same_optimum",
    "invariance",
    source="section 3, reward shaping",
    stated="paper",
    given={"world": token_worlds(), "discount": st.just(1.0)},
    breaks={"discount": st.floats(0.3, 0.8)},
)
def three_rewards_have_one_optimum(world: TokenWorld, discount: float) -> Verdict:
    """Rewards of tokens, their sum paid with the last one, and the log-ratio of the optimum have
    the same optimum under the penalty.
    """
    backup = functools.partial(soft_backup, world.reference, discount=discount)
    best = backup(token_values=world.rewards / world.beta).policy
    at_the_end = backup(world.returns / world.beta).policy
    ratio = world.log_ratio(best)
    shaped = backup(token_values=ratio).policy
    return worst(*(apart(other.probs, best.probs) for other in (at_the_end, shaped)))


@claim(
    "myopic",
    "identity",
    source="section 3, the token-wise reward of DPO",
    stated="derived",
    given={"world": token_worlds(), "paid": st.just(log_ratios)},
    breaks={"paid": st.just(sentences)},
)
def the_next_reward_is_enough(
    world: TokenWorld, paid: Callable[[TokenWorld], np.ndarray]
) -> Verdict:
    """Under β log π*/π_ref every value is zero: who tilts the reference by the reward of the next
    token alone has the optimum. A reward of the response leaves the reference before the end.
    """
    reward = paid(world)
    found = soft_backup(world.reference, token_values=reward)
    own = TokenTreePolicy(world.tree, world.log_reference + reward)
    return worst(apart(found.value, 0.0), apart(own.probs, optimum_of(world).probs))


@claim(
    "tilt",
    "identity",
    source="section 4, the reward of the practical algorithm",
    stated="derived",
    given={
        "given": worlds_with_policy(),
        "power": st.floats(0.2, 5.0),
        "tilted": st.just(of_responses),
    },
    breaks={"tilted": st.just(of_tokens)},
)
def scale_over_penalty_is_a_power(
    given: WorldAndPolicy, power: float, tilted: Callable[..., np.ndarray]
) -> Verdict:
    """Paid β₁ log π_dpo/π_ref under the penalty β₂, without clipping, the optimum is in proportion
    to π_ref (π_dpo/π_ref)^(β₁/β₂) of whole responses, for any π_dpo.
    """
    world, trained = given
    tree, log_ratio = world.tree, world.log_ratio(trained)
    arrays = [to_numpy(each.token_log_prob_table) for each in (world.reference, trained)]
    mask = np.broadcast_to(tree.mask, arrays[0].shape)
    # With the reference for the sampler nothing is paid but the ratio.
    ref, dpo = arrays
    zero = np.zeros(ref.shape[:-1])
    scale = power * world.beta
    paid = losses.rto_rewards(
        zero, ref, ref, dpo, mask, scale=scale, clip=np.inf, beta=world.beta
    ).sum(axis=-1)
    best = soft_backup(world.reference, paid / world.beta).policy
    nats = 1 + power * np.abs(log_ratio).max()
    return apart(best.log_probs, tilted(log_ratio, world.reference, power), scale=nats)


# --- pessimism ---


@claim(
    "pessimism",
    "inequality",
    source="theorem on the suboptimality of the theoretical algorithm",
    stated="derived",
    given={"world": token_worlds(), "seed": SEEDS, "caution": st.just(1.0)},
    # Without caution few instances lose more, with trust where nothing is known a third.
    breaks={"caution": st.sampled_from([0.0, -1.0])},
)
def only_the_best_policy_must_be_covered(world: TokenWorld, seed: int, caution: float) -> Verdict:
    """Where an estimate is within b of the reward everywhere, the optimum π̂ of the estimate less b
    loses at most 2 E_π* Σ b − β E_π* Σ log π*/π̂: b matters only where the best policy goes.
    """
    rng = np.random.default_rng(seed)
    shape = world.rewards.shape
    bound = rng.exponential(size=shape) * (rng.random(shape) < 0.5)
    estimate = world.rewards + bound * rng.uniform(-1, 1, shape)
    return _loses_little(world, estimate - caution * bound, bound)


def _loses_little(world: TokenWorld, believed: np.ndarray, bound: np.ndarray) -> Verdict:
    """Measure what the optimum of a believed reward loses against its bound."""
    return above(*lost_and_bound(world, believed, bound), relative=True)


@claim(
    "pessimistic_fit",
    "inequality",
    source="algorithm 1, the theoretical algorithm",
    stated="derived",
    examples=10,
    given={
        "seed": SEEDS,
        "setting": st.sampled_from([SHARED, SINGLE]),
        "caution": st.just(1.0),
    },
    breaks={"caution": st.just(0.0)},
)
def a_fitted_reward_loses_little(seed: int, setting: Setting, caution: float) -> Verdict:
    """With rewards of tokens that are linear in features, the maximum of the likelihood of pairs of
    responses, and ϱ its distance from the truth in the norm of Σ, the pessimistic reward is below
    the true one and its optimum loses at most 2ϱ E_π* Σ ‖φ‖ − β E_π* Σ log π*/π̂.
    """
    found = Cautious.draw(range(seed, seed + 1), setting)
    low, bound = found.pessimistic(caution)
    radius = float(found.radius.max())
    return worst(
        above(low, found.world.rewards),
        _loses_little(found.world, low, bound),
        detail=f"radius {radius:.3g}",
    )


# --- what a policy learns from it ---


@claim(
    "gradient",
    "invariance",
    source="section 4, PPO with the token-wise reward",
    stated="derived",
    tolerance=1e-10,
    given={"given": worlds_with_policy(), "seed": SEEDS, "trace": st.just(1.0)},
    breaks={"trace": BELOW_ONE},
)
def sparse_and_dense_have_one_gradient(given: WorldAndPolicy, seed: int, trace: float) -> Verdict:
    """With λ = γ = 1 the expected policy gradients of the reward of the response and of the token
    reward are equal, to that of the objective, whatever the critic.
    """
    world, policy = given
    true = gradient(functools.partial(objective_of_logits, world), policy.logits)
    shape = world.rewards.shape[:-1]
    critic = np.random.default_rng(seed).standard_normal(shape)
    return worst(
        *(
            apart(token_policy_gradient(policy, paid, critic, trace=trace).gradient, true)
            for paid in (sentence_rewards(world, policy), token_rewards(world, policy))
        )
    )


@claim(
    "exact_critic",
    "invariance",
    source="section 4, PPO with the token-wise reward",
    stated="derived",
    tolerance=1e-10,
    given={"given": worlds_with_policy(), "trace": TRACES, "error": st.just(0.0)},
    breaks={"error": st.floats(0.5, 2.0)},
)
def an_exact_critic_makes_them_alike(given: WorldAndPolicy, trace: float, error: float) -> Verdict:
    """Where each reward has its exact critic, the advantages are the same for every λ; at λ = 0
    they are those of the policy.
    """
    world, policy = given
    at_the_end, dense = sentence_values(world, policy), token_values(world, policy)
    first = token_policy_gradient(
        policy, sentence_rewards(world, policy), at_the_end.value, trace=trace
    )
    # An error that grows with the depth: what is the same everywhere would show at the end alone.
    wrong = dense.value + error * np.arange(world.tree.n_nodes)
    second = token_policy_gradient(policy, token_rewards(world, policy), wrong, trace=trace)
    step = token_policy_gradient(policy, token_rewards(world, policy), dense.value, trace=0.0)
    advantage = world.tree.along(dense.action_value - dense.value[..., None])
    return worst(
        apart(first.advantages, second.advantages, relative=True),
        apart(step.advantages, advantage, relative=True),
    )


Paying = Callable[[TokenWorld, TokenTreePolicy], np.ndarray]


@claim(
    "rest",
    "invariance",
    source="section 4, PPO with the token-wise reward",
    stated="derived",
    tolerance=1e-10,
    given={"world": token_worlds(), "trace": TRACES, "pays": st.just(token_rewards)},
    breaks={"pays": st.just(sentence_rewards)},
)
def the_optimum_is_at_rest_without_a_critic(
    world: TokenWorld, trace: float, pays: Paying
) -> Verdict:
    """At the optimum every drawn token is paid nothing by the token reward and the penalty: with a
    critic of zero the gradient of every sample vanishes, for every λ.
    """
    best = optimum_of(world)
    found = token_policy_gradient(best, pays(world, best), trace=trace)
    return worst(apart(found.gradient, 0.0), apart(found.variance, 0.0))


@claim(
    "queries",
    "identity",
    source="section 3, sample complexity of token-wise and sentence-wise rewards",
    stated="derived",
    given={
        "size": st.sampled_from([(2, 3), (3, 3), (2, 5)]),
        "rewards": tables((32, 5), low=-1.0, high=1.0),
        "delay": st.integers(0, 4),
        "short_by": st.just(0),
    },
    breaks={"short_by": st.just(1), "delay": st.integers(1, 2)},
)
def fewer_continuations_are_looked_at(
    size: tuple[int, int], rewards: np.ndarray, delay: int, short_by: int
) -> Verdict:
    """Where tokens are paid what they gain of the best that can follow, ξ places late, the best of
    A^H responses is found from at most H A^min(ξ+1, H) continuations of ξ + 1 tokens: A H for
    ξ = 0. Of rewards of whole responses all are needed: any one that is not asked may be the best.
    """
    tree = TokenTree(*size)
    n, length = tree.n_sequences, tree.max_length
    delay = min(delay, length - 1)
    # What a token pays is the same for all responses that share the prefix.
    table = np.resize(rewards, (tree.n_nodes, tree.vocabulary_size))
    paid = tree.along(table)
    best = best_to_go(tree, paid)[tree.nodes]
    gained = paid - best + np.pad(best[:, 1:], ((0, 0), (0, 1)))
    total = paid.sum(axis=1)
    found, looked_at = look_ahead(tree, delayed(tree, gained, delay), delay + 1 - short_by)
    unasked = int(np.argmin(total))
    otherwise = np.where(np.arange(n) == unasked, total.max() + 1, total)
    most = length * tree.vocabulary_size ** min(delay + 1, length)
    return worst(
        apart(total[found], total.max()),
        max(0.0, float(looked_at - most)),
        float(np.argmax(otherwise) != unasked) + float((otherwise != total).sum() != 1),
        detail=f"{looked_at} continuations, {n} responses",
    )
