"""What DPO, a reward model and PPO compute, and what they share, on random instances."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from paper_repros.mdp.unpacking_dpo_ppo import instances as drawn_from
from paper_repros.mdp.unpacking_dpo_ppo.instances import Drawn, Grown, Hole, Restricted, fitted_dpo
from paper_repros.mdp.unpacking_dpo_ppo.training import advantages_of, expected_gradient
from prefsim import losses
from prefsim.analysis.factorial import contrast, full_factorial, main_effects
from prefsim.gradients import loss_gradient
from prefsim.losses import PairRewards, TokenValues
from prefsim.numerics import categorical_kl, sigmoid
from prefsim.papers import Verdict, above, apart, claim, worst
from prefsim.policies import LogLinearPolicy, TabularPolicy
from prefsim.raters.noise import flip_labels
from prefsim.solvers import fit, optimal_policy
from prefsim.solvers.optimisers.log_linear_optimum import log_linear_optimum
from prefsim.solvers.planning.tree_backup import prefix_values
from prefsim.worlds import ContextualBandit

NONE, ONE = st.just(0.0), st.just(1.0)
TRAINER, LOSS = "the authors' trainer", "section 2.1, PPO's loss"
OBJECTIVE, UNSEEN = "section 2.1, the objective of PPO", drawn_from.UNSEEN
BOTH = {"algorithm": (0, 1), "model": (0, 1)}
derived = partial(claim, stated="derived")

# --- one optimum, and what the pairs do not show ---


@claim(
    "one_optimum",
    "identity",
    source="section 2.1",
    stated="paper",
    tolerance=2e-10,
    examples=6,
    given={**drawn_from.TWO, "kappa_over_beta": ONE},
    breaks={"kappa_over_beta": st.just(2.0)},
)
def dpo_ends_where_ppo_should(
    instance: tuple[ContextualBandit, TabularPolicy], beta: float, kappa_over_beta: float
) -> Verdict:
    """Where every pair is compared and labels follow the reward, the minimiser of DPO is the policy
    with the most reward less κ KL for κ = β, and its loss there is the entropy of the labels.
    """
    world, reference = instance
    found, entropy = fitted_dpo(world, reference, beta)
    best = optimal_policy(np.asarray(world.reward), reference.probs, beta=kappa_over_beta * beta)
    return worst(apart(found.policy.probs, best), apart(found.value, entropy))


@derived(
    "hole",
    "counterexample",
    source="sections 2.1 and 3.1, coverage",
    tolerance=1e-8,
    examples=6,
    given={**drawn_from.HOLES, "overrated": NONE, "unseen": st.just(1)},
    breaks=({"overrated": st.floats(1.0, 3.0)}, {"unseen": st.just(0)}),
)
def what_is_never_compared_keeps_its_logit(
    hole: Hole, beta: float, overrated: float, unseen: int
) -> Verdict:
    """Of a response that is never compared DPO's loss does not see the mass. The others come out in
    the right ratios, and its mass is set by the start: logits sum to what they summed to. PPO on
    the right reward finds the optimum, on a reward that is wrong there it does not.
    """
    found, change = hole.fitted(hole.reward.size - unseen, beta)
    best = optimal_policy(hole.reward, hole.start, beta=beta)
    of_model = optimal_policy(hole.reward + overrated * hole.last, hole.start, beta=beta)
    return worst(
        apart(change, 0.0),
        apart(found[:-1] / found[0], best[:-1] / best[0], relative=True),
        apart(found, hole.left(beta)),
        apart(of_model, best),
    )


@derived(
    "shift",
    "invariance",
    source="section 2.1, the reward model",
    given={**drawn_from.COMPARED, "constants": st.floats(1.0, 9.0).map(lambda c: (c, c))},
    breaks={"constants": st.just((1.0, 0.0))},
)
def rewards_are_compared_only(
    rewards: np.ndarray, constants: tuple[float, float], margin: float
) -> Verdict:
    """The loss of a reward model is log(1 + exp(m − r_w + r_l)); what a prompt adds to all its
    rewards changes neither it nor the policy that PPO should find.
    """
    chosen, rejected = rewards
    moved = PairRewards(chosen + constants[0], rejected + constants[1])
    cost = np.logaddexp(0, margin - chosen + rejected)
    best = (optimal_policy(chosen + c, np.full(3, 1 / 3), beta=0.7) for c in (0.0, constants[0]))
    pairs = (PairRewards(chosen, rejected), moved)
    return worst(
        *(apart(losses.bradley_terry(p, margin=margin), cost) for p in pairs), apart(*best)
    )


@derived(
    "noise",
    "monotone",
    source="section 3.1, data quality",
    tolerance=1e-8,
    examples=10,
    given=drawn_from.ONE_PAIR | {"rate": st.floats(0.0, 0.4)},
    breaks={"rate": st.just(0.5)},
)
def flips_shrink_margins(
    instance: tuple[ContextualBandit, TabularPolicy], beta: float, rate: float
) -> Verdict:
    """Labels flipped at a rate ε < ½ leave DPO the margin logit((1 − 2ε)σ(Δ) + ε): of the same sign
    and at most (1 − 2ε)|Δ|, and for ε ≤ .4 and |Δ| ≤ 3 a tenth of |Δ| or more.
    """
    world, reference = instance
    flipped = ContextualBandit(preference=flip_labels(np.asarray(world.preference), rate))
    log_ratio = fitted_dpo(flipped, reference, beta)[0].policy.log_probs - reference.log_probs
    margin, true = (-np.diff(np.asarray(t)[0]) for t in (beta * log_ratio, world.reward))
    chance, same = (1 - 2 * rate) * sigmoid(true) + rate, np.sign(true) * margin
    return worst(
        apart(margin, np.log(chance) - np.log1p(-chance)),
        above(same, (1 - 2 * rate) * abs(true)),
        above(0.1 * abs(true), same),
    )


@claim(
    "paid",
    "identity",
    source=OBJECTIVE,
    stated="paper",
    given={**drawn_from.GROWN, "paid_for": ONE},
    breaks={"paid_for": st.floats(1.5, 3.0)},
)
def tokens_are_paid_the_objective(grown: Grown, kappa: float, paid_for: float) -> Verdict:
    """What the tokens of a response are paid adds up to R − κ log(π/π_ref), and on average to the
    objective E R − κ KL, which is what the first prefix is worth.
    """
    policy, reference, reward = grown.policy, grown.reference, np.asarray(grown.tree.reward)
    paid = grown.rewards(policy, paid_for * kappa)
    log_ratio = np.asarray(policy.log_probs - reference.log_probs)
    kl = categorical_kl(policy.log_probs, reference.log_probs)
    return worst(
        apart(paid.sum(axis=-1), reward - kappa * log_ratio),
        apart(prefix_values(policy, paid)[:, 0], (policy.probs * reward).sum(axis=-1) - kappa * kl),
    )


@claim(
    "unfinished",
    "invariance",
    source=f"appendix, hyper-parameters of PPO; {TRAINER}",
    stated="paper",
    given={**drawn_from.DRAWN, "other": drawn_from.SCORES, "scored": st.just(drawn_from.replaced)},
    breaks={"scored": st.just(drawn_from.added)},
)
def what_did_not_end_has_one_score(
    drawn: Drawn, other: np.ndarray, scored: Callable[..., np.ndarray]
) -> Verdict:
    """A response without an end has one score (the paper's: −10), whatever the reward model says of
    it; one with an end has what the reward model says.
    """
    ended, said = ~drawn.tokens.mask[..., -1], drawn.tokens.scores
    both = (scored(each, ended) for each in (said, np.where(ended, said, other)))
    paid, elsewhere = (drawn.paid(each, 0.0).sum(axis=-1) for each in both)
    return worst(apart(paid, elsewhere), apart(paid, np.where(ended, said, drawn_from.CUT_OFF)))


@derived(
    "trace",
    "identity",
    source="appendix, hyper-parameters of PPO (γ = 1)",
    given={**drawn_from.DRAWN, "trace": drawn_from.TRACES, "discount": ONE},
    breaks={"discount": st.floats(0.5, 0.9)},
)
def advantages_mix_looks_ahead(drawn: Drawn, trace: float, discount: float) -> Verdict:
    """Without a discount an advantage is Σ_k λ^k times the errors of the critic from its token on:
    its own error for λ = 0, the rewards to go less the value for λ = 1. Returns are it plus the
    value, not whitened.
    """
    mask, paid = drawn.tokens.mask, drawn.paid(drawn.tokens.scores, 0.3)
    gae = partial(losses.gae, paid, drawn.values, mask, discount=discount)
    inside = np.where(mask, drawn.values, 0.0)
    mixed, returns = gae(trace=trace)
    return worst(
        apart(mixed, drawn.mixed_errors(paid, trace)),
        apart(returns, mixed + inside),
        apart(gae(trace=0.0)[0], drawn.mixed_errors(paid, 0.0)),
        apart(gae(trace=1.0)[0], (losses.rewards_to_go(paid) - inside) * mask),
    )


@derived(
    "whitening",
    "invariance",
    source=TRAINER,
    tolerance=1e-5,
    given={**drawn_from.DRAWN, "scale": st.floats(1.0, 9.0), "constant": st.floats(-9.0, 9.0)},
    breaks={"scale": st.floats(-9.0, -1.0)},
)
def whitening_forgets_shift_and_scale(drawn: Drawn, scale: float, constant: float) -> Verdict:
    """Whitened advantages have mean 0 and variance 1 over the tokens of the batch, and are the same
    of any advantages that differ by a shift and a positive factor.
    """
    mask, values = drawn.tokens.mask, np.asarray(drawn.tokens.advantage)
    assume(values[mask].std() > 0.5)
    found, seen = losses.whitened(values, mask), values[mask]
    return worst(
        apart(found[mask], (seen - seen.mean()) / seen.std(ddof=1)),
        apart(found * mask, found),
        apart(losses.whitened(scale * values + constant, mask), found),
    )


@derived(
    "mask",
    "invariance",
    source=TRAINER,
    tolerance=0.0,
    given={**drawn_from.DRAWN, "mean": st.just(drawn_from.mean_of_tokens)},
    breaks={"mean": st.just(drawn_from.mean_of_places), "drawn": drawn_from.UNEVEN},
)
def nothing_behind_the_end_is_seen(
    drawn: Drawn, mean: Callable[[np.ndarray, Any], float]
) -> Verdict:
    """What stands behind the end of a response, be it infinite, changes no loss and no mean."""
    mask, values = drawn.tokens.mask, drawn.values
    means = mean(drawn.spoilt(values), mask), drawn_from.mean_of_tokens(values, mask)
    both = zip(drawn.costs(spoilt=True), drawn.costs(), strict=True)
    return worst(apart(*means), *(apart(*each) for each in both))


# --- the losses, and where PPO comes to rest ---


@derived(
    "ratio_one",
    "identity",
    source=LOSS,
    given={**drawn_from.STEPS, "drift": NONE},
    breaks={"drift": st.floats(0.7, 2.0)},
)
def at_its_own_draws_the_gradient_is_plain(
    drawn: Drawn, clip: float, reduction: str, drift: float
) -> Verdict:
    """Where the policy drew the responses itself, the gradient is that of −Â log π, whatever the
    clip. Averaged over all tokens of the batch it is that of the sums over responses, divided by
    the mean length; averaged over responses first, tokens of long ones count less. Beyond the clip,
    on the side of its advantage, no token has a gradient.
    """
    tokens, gain = drawn.tokens._replace(old_logp=drawn.tokens.logp - drift), drawn.gain
    far = tokens._replace(old_logp=tokens.logp - np.log1p(1.05 * clip * np.sign(gain)))
    mask, length = tokens.mask, tokens.mask.sum(axis=-1, keepdims=True)
    loss = partial(losses.ppo, beta=0.0, clip_low=clip, clip_high=clip, reduction=reduction)
    over = {"batch": length.mean(), "response": length, "sum": 1.0}[reduction]
    # A prompt's loss is a mean over its two responses.
    plain = -np.where(mask, gain, 0.0) / over / 2
    white = tokens._replace(advantage=losses.whitened(gain, mask))
    return worst(
        apart(loss_gradient(loss, tokens).logp, plain),
        apart(loss(tokens).sum(), plain.sum()),
        apart(loss_gradient(loss, far).logp, 0.0),
        apart(loss(tokens, whiten=True), loss(white)),
    )


@derived(
    "value",
    "inequality",
    source=TRAINER,
    given={**drawn_from.DRAWN, "moved": st.floats(0.0, 0.4)},
    breaks={"moved": st.floats(0.5, 2.0)},
)
def a_critic_is_charged_its_square(drawn: Drawn, moved: float) -> Verdict:
    """A critic that has moved by no more than ε pays half the squared error; one that has moved
    further never pays less, and more where it went towards its target.
    """
    mask, returns = drawn.tokens.mask, np.asarray(drawn.tokens.advantage)
    told = drawn.old_values + np.where(returns > drawn.old_values, moved, -moved)
    near, far = (
        losses.value_loss(TokenValues(each, returns, mask, drawn.old_values), clip=0.4).mean()
        for each in (told, drawn.values)
    )
    squared = [(0.5 * (each - returns) ** 2)[mask].mean() for each in (told, drawn.values)]
    return worst(apart(near, squared[0]), above(squared[1], far, relative=True))


@derived(
    "own_values",
    "identity",
    source=LOSS,
    tolerance=1e-11,
    examples=12,
    given={**drawn_from.GROWN, "trace": st.floats(0.0, 0.9), "mistaken": NONE, "temperature": ONE},
    breaks=({"mistaken": st.floats(1.0, 2.0)}, {"temperature": st.just(0.7)}),
)
def with_its_own_values_ppo_climbs_the_objective(
    grown: Grown, kappa: float, trace: float, mistaken: float, temperature: float
) -> Verdict:
    """With the policy's own values and sums over tokens, the expected gradient of PPO's loss is
    minus that of E R − κ KL for every λ. With wrong values and λ < 1 it is not, nor with responses
    drawn at temperature .7 whose log-probabilities are taken at 1.
    """
    rewards = grown.rewards(grown.policy, kappa)
    values = prefix_values(grown.policy, rewards)
    off = mistaken * np.cos(np.arange(values.size)).reshape(values.shape)
    advantages = advantages_of(grown.tree, rewards, values + off, trace)
    found = expected_gradient(grown.tree, grown.policy, advantages, temperature=temperature)
    return apart(found, grown.slope(kappa))


@derived(
    "rest",
    "minimiser",
    source=OBJECTIVE,
    tolerance=1e-10,
    examples=12,
    given={**drawn_from.GROWN, "trace": drawn_from.TRACES, "how": drawn_from.MEANS, "share": ONE},
    breaks={"share": st.floats(0.0, 0.5)},
)
def at_the_optimum_no_token_surprises(
    grown: Grown, kappa: float, trace: float, how: tuple[str, float], share: float
) -> Verdict:
    """At π* ∝ π_ref exp(R/κ) with its own values every token of every response has the advantage 0:
    PPO rests there for every λ, mean over tokens and temperature of the draws, and nothing is left
    to chance.
    """
    policy = grown.towards_the_best(kappa, share)
    advantages = advantages_of(grown.tree, grown.rewards(policy, kappa), grown.critic(kappa), trace)
    slope = expected_gradient(grown.tree, policy, advantages, reduction=how[0], temperature=how[1])
    return worst(apart(advantages, 0.0), apart(slope, 0.0))


@derived(
    "one_class",
    "equivalence",
    source="sections 2.1 and 3.3",
    tolerance=1e-6,
    examples=4,
    given={**drawn_from.RESTRICTED, "fitted_in": st.just(2)},
    breaks={"fitted_in": st.just(3)},
)
def in_one_class_they_are_one(restricted: Restricted, kappa: float, fitted_in: int) -> Verdict:
    """Whatever the true reward, DPO of a log-linear policy is PPO of that policy on the reward that
    is fitted to the same pairs in the same features, trained on any prompts. A reward model of
    other features makes them two.
    """
    reference, phi = restricted.reference, restricted.features[..., :2]
    policy, dpo = LogLinearPolicy.from_features(phi), partial(losses.dpo, beta=kappa)
    found = fit(policy, dpo, restricted.pairs(), reference=reference).policy
    reward = restricted.fitted(fitted_in)
    ppo = partial(log_linear_optimum, reward, phi, reference.log_probs, beta=kappa)
    parts = (np.exp(ppo(context_probs=asked).log_policy) for asked in ([0.5, 0.5], [1.0, 0.0]))
    return worst(*(apart(part, found.probs) for part in parts))


@derived(
    "projection",
    "identity",
    source="section 2.1",
    tolerance=1e-7,
    examples=12,
    given={**drawn_from.RESTRICTED, "on_policy": st.just(True)},
    breaks={"on_policy": st.just(False)},
)
def ppo_projects_the_reward_where_it_goes(
    restricted: Restricted, kappa: float, on_policy: bool
) -> Verdict:
    """Of a class that cannot follow the reward, PPO takes κθ from the regression of the reward on
    the features under the policy itself, where DPO's weights are those of the pairs; it is worth no
    less than the reference.
    """
    reference, phi = np.asarray(restricted.reference.log_probs), restricted.features[..., :2]
    ppo = partial(log_linear_optimum, restricted.reward, phi, reference, beta=kappa)
    found = ppo(context_probs=drawn_from.ASKED)
    weights = np.exp(found.log_policy if on_policy else reference)
    reached = restricted.value(found.log_policy, kappa)
    return worst(
        apart(kappa * found.weights, restricted.regressed(phi, weights), relative=True),
        apart(found.value, reached),
        above(restricted.value(reference, kappa), reached),
    )


@derived(
    "counting",
    "identity",
    source="definition of the four factors",
    given={"seed": st.integers(0, 2**32 - 1), "read_by_dpo": NONE},
    breaks={"read_by_dpo": st.floats(0.5, 1.0)},
)
def what_dpo_does_not_read_counts_half(seed: int, read_by_dpo: float) -> Verdict:
    """DPO reads no reward model, so that the effect of the reward model over both algorithms is
    half of that in PPO. Where PPO with the worse model is DPO, this half is the effect of the
    algorithm as well. The effect of a factor is the difference of the means at its levels.
    """
    dpo, gain = np.abs(np.random.default_rng(seed).normal(size=(2, 5)))
    table = np.array([[dpo, dpo + read_by_dpo], [dpo, dpo + gain]])
    both = full_factorial(lambda algorithm, model: table[algorithm, model], BOTH)
    effect = partial(contrast, levels={"model": (1, 0)}, interval=0.5)
    whole, within = effect(both), effect(both.at(algorithm=1))
    algorithm, model = main_effects(both, interval=0.5)
    return worst(
        apart(both.scores, table),
        apart([algorithm.size, model.size, within.size / 2], whole.size),
        apart(model.half_width, whole.half_width),
        above(3 * whole.half_width, effect(both, interval=0.95).half_width),
        apart(algorithm.means, table.mean(axis=(1, 2))),
        apart(within.replicates, gain),
    )
