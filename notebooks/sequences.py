# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Credit, regret, thresholds
#
# A response is a path of tokens, a player meets one loss after another, and one reward is seldom
# all that is wanted. Each question here is put in a world small enough to be solved exactly: a
# surprise, the theorem behind it, and the case in which it fails. The papers are reproduced by
# `prefsim repro`; the map of sequences (`docs/explanation/sequences-map.md`) has what was found.

# %%
import functools
import itertools

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.analysis import (
    expected_utility,
    external_regret,
    hypervolume,
    proxy_point,
    regret_regression_test,
    regret_trend_test,
    reward_path,
)
from prefsim.containers import TokenPairLogps
from prefsim.data import Comparisons, Segments
from prefsim.data.cross_task import transferred_preference
from prefsim.divergences import total_variation
from prefsim.gradients import gradient
from prefsim.loops.front_extension import extend_front
from prefsim.loops.online_play import most_likely_loses, play_against, play_online
from prefsim.losses.multipliers import saturated
from prefsim.losses.online import regret_path
from prefsim.numerics import log_softmax, sigmoid
from prefsim.policies import LogLinearPolicy, TabularPolicy, TokenTreePolicy
from prefsim.raters import noiseless_preference
from prefsim.solvers import (
    constrained_optimum,
    convex_front,
    fit,
    gibbs_log_policy,
    planning,
    weight_grid,
)
from prefsim.solvers.bandit_feedback.covariance import feature_covariance, regularised_inverse
from prefsim.solvers.bandit_feedback.estimates import (
    estimate_moments,
    estimate_weights,
    reduced_estimate,
    standard_estimate,
)
from prefsim.solvers.closed_forms.separation import separating_direction
from prefsim.solvers.coupled_distances import distance_matrix, gromov_wasserstein_cost
from prefsim.solvers.gromov_wasserstein import gromov_wasserstein
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward
from prefsim.solvers.online_learning.ftpl import ftpl
from prefsim.solvers.online_learning.hedge import hedge, hedge_bound, hedge_step
from prefsim.solvers.online_learning.log_barrier import log_barrier_step
from prefsim.solvers.optimisers.log_linear_optimum import log_linear_optimum
from prefsim.solvers.optimisers.token_policy_gradient import token_policy_gradient
from prefsim.solvers.planning import InfeasibleError, constrained_program
from prefsim.worlds import TabularMDP, TokenTree
from prefsim.worlds.loss_sequences import alternating, drawn_losses

rng = np.random.default_rng(0)

# %% [markdown]
# ## Which token deserves the credit?
#
# All responses of five tokens over a vocabulary of three, in twenty drawn worlds at once. Every
# token has a true reward; the optimum under a KL penalty of strength β is one pass backwards over
# the prefixes.

# %%
BETA = 0.2
tree = TokenTree(3, 5)
shape = (20, 1, tree.n_nodes, 3)
reference = TokenTreePolicy(tree, rng.standard_normal(shape))
rewards = 0.5 * rng.standard_normal(shape)
best = planning.soft_backup(reference, token_values=rewards / BETA).policy


def tokens(policy):
    """Log-probabilities of the tokens of all responses."""
    return policy.token_log_prob_table


mask = np.ones(tokens(best).shape, dtype=bool)
paid = losses.log_ratio_rewards(tokens(best), tokens(reference), mask, scale=BETA)
returns = tree.along(rewards).sum(axis=-1)
ahead = paid.sum(axis=-1) - returns
print("what log-ratios pay, less the true reward")
print(f"   of a response: the same for all, within {np.ptp(ahead, axis=-1).max():.0e}")
print(f"   of a token: anything up to {np.abs(paid - tree.along(rewards)).max():.2f}")

# %% [markdown]
# The log-ratio of the optimum to its reference (what DPO learns from labels of whole responses) is
# a reward of tokens: the true one, *shaped* by what is still to come. So it has the same optimum,
# and it says at once what a reward of the response says at the end (Zhong et al. 2024).
#
# Does that help the policy gradient? Here is its expectation, without a critic, as a trainer would
# estimate it with a trace λ. Is the direction the right one?

# %%
near = TokenTreePolicy(tree, reference.logits + 0.3 * rng.standard_normal(shape))


def pays(name, policy):
    """What each token is paid, the KL penalty included."""
    old, ref = tokens(policy), tokens(reference)
    if name == "reward of the response":
        return losses.kl_shaped_rewards(returns, old, ref, mask, beta=BETA)
    options = {"scale": BETA, "clip": np.inf, "beta": BETA}
    return losses.rto_rewards(np.zeros(returns.shape), old, ref, tokens(best), mask, **options)


def flat(found):
    return found.gradient.reshape(len(found.gradient), -1)


kinds = ("reward of the response", "reward of tokens")
traces, shares = np.linspace(0, 1, 11), np.linspace(0, 1, 9)
true = flat(token_policy_gradient(near, pays(kinds[0], near), trace=1.0))
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for name in kinds:
    found = [flat(token_policy_gradient(near, pays(name, near), trace=t)) for t in traces]
    sizes = np.linalg.norm(found, axis=-1) * np.linalg.norm(true, axis=-1)
    cosines = np.sum(np.array(found) * true, axis=-1) / sizes
    axes[0].plot(traces, cosines.mean(axis=-1), "o-", label=name)
    print(f"{name:22} λ = 0: {cosines[0].mean():.2f}   λ = 0.5: {cosines[5].mean():.2f}", end="")
    print(f"   λ = 1: {cosines[-1].mean():.2f}")
    way = [
        TokenTreePolicy(tree, (1 - s) * log_softmax(near.logits) + s * log_softmax(best.logits))
        for s in shares
    ]
    noise = [token_policy_gradient(p, pays(name, p), trace=1.0).variance.mean() for p in way]
    axes[1].plot(shares, np.sqrt(np.abs(noise)), "o-", label=name)
axes[0].set(xlabel="trace λ", ylabel="cosine with the true gradient", ylim=(0, 1.05))
axes[0].set_title("Without a critic, tokens point the right way")
axes[1].set(xlabel="share of the way to the optimum", ylabel="deviation of one response's gradient")
axes[1].set_title("Noisier at first, silent at the end")
axes[0].legend()
plt.show()

# %% [markdown]
# The theorem: at λ = 1 the two gradients are one. With exact critics they are one for *every* λ,
# advantages and all. What rewards of tokens save is the critic, no more.

# %%
one = TokenTreePolicy(tree, near.logits[0])
advantages = [
    token_policy_gradient(one, paid, planning.prefix_values(one, paid), trace=0.3).advantages
    for paid in (pays(name, near)[0] for name in kinds)
]
print(f"with exact critics advantages differ by {np.abs(advantages[0] - advantages[1]).max():.0e}")

# %% [markdown]
# The counterexample: a bound on log-ratios, as the released code has it, is not a detail. What is
# left of them has another optimum.

# %%
ratios = log_softmax(best.logits), log_softmax(reference.logits)
for bound in (np.inf, 3.0, 1.0):
    left = losses.log_ratio_rewards(*ratios, np.ones(shape, dtype=bool), clip=bound)
    moved = planning.soft_backup(reference, token_values=left).policy
    apart = total_variation(moved.probs, best.probs).mean()
    print(f"log-ratios within ±{bound:3} nats: total variation to the optimum {apart:.2f}")

# %% [markdown]
# ## Which tokens is a preference about?
#
# SparsePO gives every token a weight, learned along with the policy, and a penalty makes many of
# them exactly zero (Christopoulou et al. 2024). Two pairs of three tokens: one as the reference
# leaves it, one in which the policy has moved on the second token alone.

# %%
every, zero = np.ones((2, 3)), np.zeros((2, 3))
counted = every.astype(bool)
chosen, rejected = (step * np.array([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]) for step in (1.0, -1.0))


def objective(weight):
    """SparsePO where all four weights of a token are one."""
    names = ("chosen_reward_weight", "rejected_reward_weight", "chosen_kl_weight")
    parts = dict.fromkeys((*names, "rejected_kl_weight"), weight)
    divergences = {"chosen_kl": zero, "rejected_kl": zero}
    pairs = TokenPairLogps(chosen, rejected, zero, zero, counted, counted, **divergences, **parts)
    return losses.sparse_po(pairs, beta=1.0, reward_l1=0.05, kl_l1=0.05)


print("derivative of the loss in each weight")
print(gradient(lambda weight: objective(weight).sum(), every).round(2))

# %% [markdown]
# Where the policy has moved, the loss wants the weight. Where it has not, the penalty acts alone:
# all weights fall, and a unit that is off stays off. Before training that is every pair, which is
# how a large penalty switches a mask off for good. And twice the weights are twice the β: compare
# at equal KL divergence, where in the reproduction every mask earns less than none.
#
# ## What does PPO know that DPO does not?
#
# Twenty prompts, of which people have compared responses to ten. DPO is a policy; PPO is a reward
# model, and a policy trained on it with further prompts. Which of the two is ahead (Ivison et al.
# 2024)? Gains are in true reward over the reference, at labelled prompts and at others.

# %%
PROMPTS, RESPONSES, FEATURES, LABELLED, RIDGE = 20, 8, 4, 10, 1e-3
phi = rng.standard_normal((PROMPTS, RESPONSES, FEATURES))
straight = phi @ rng.standard_normal(FEATURES)
bent = straight + rng.standard_normal(straight.shape)
uniform = np.full(straight.shape, -np.log(RESPONSES))


def trained(truth, n):
    """Two kinds of DPO and of PPO on n labelled pairs."""
    prompt, one = rng.integers(0, LABELLED, n), rng.integers(0, RESPONSES, n)
    other = (one + rng.integers(1, RESPONSES, n)) % RESPONSES
    wins = rng.random(n) < sigmoid(truth[prompt, one] - truth[prompt, other])
    chosen, rejected = np.where(wins, one, other), np.where(wins, other, one)
    model = fit_linear_reward(phi[prompt, chosen] - phi[prompt, rejected], ridge=RIDGE).weights
    table, linear = (
        fit(
            start,
            functools.partial(losses.dpo, beta=0.5),
            Comparisons(prompt, chosen, rejected),
            reference=TabularPolicy(uniform),
            penalty=lambda policy: RIDGE * ((0.5 * policy.parameters) ** 2).sum(-1),
        ).policy.probs
        for start in (TabularPolicy(uniform), LogLinearPolicy.from_features(phi))
    )
    asked = np.arange(PROMPTS)[:, None] < LABELLED
    tilted = np.exp(gibbs_log_policy(phi @ model, uniform, beta=0.5)[0])
    return {
        "a table, DPO": table,
        "a table, PPO on labelled prompts": np.where(asked, tilted, np.exp(uniform)),
        "a table, PPO on all": tilted,
        "linear in φ, DPO": linear,
        "linear in φ, PPO on any": np.exp(
            log_linear_optimum(phi @ model, phi, uniform, beta=0.5).log_policy
        ),
    }


for truth, n in ((straight, 200), (bent, 200), (bent, 20_000)):
    policies = trained(truth, n)
    print(f"reward {'linear in φ' if truth is straight else 'not linear'}, {n} pairs")
    for name, probs in policies.items():
        gain = np.sum(probs * truth, axis=-1) - truth.mean(axis=-1)
        print(f"   {name:33} {gain[:LABELLED].mean():5.2f} {gain[LABELLED:].mean():5.2f}")
    alike = np.abs(policies["linear in φ, DPO"] - policies["linear in φ, PPO on any"]).max()
    print(f"   the two that are linear in φ differ by {alike:.0e}")

# %% [markdown]
# The theorem: where policy and reward model know the same features, PPO *is* DPO. PPO is ahead by
# what its reward carries over and its policy does not: here a table is nothing away from its
# labels. And it is behind where labels are many and the truth is not what the reward model can say.
#
# ## What do people compare?
#
# Two walks of two steps, neither of which gets paid yet: one goes towards the goal, one away from
# it. By what was paid they are equal. By *regret*, by how far each step falls short of the best,
# one is better (Knox et al. 2022). Advantages then are log-probabilities, and a contrast of
# segments recovers the optimal policy without a reward or a planner (Hejna et al. 2023).

# %%
ALPHA, DISCOUNT = 0.3, 0.9
goal = np.zeros((2, 4))
goal[0, 3] = 1.0
grid = TabularMDP.grid_world(goal, terminal=goal > 0, discount=DISCOUNT)
expert = planning.soft_value_iteration(grid, temperature=ALPHA)
cpl = functools.partial(losses.cpl, alpha=ALPHA, lambda_=1.0, discount=DISCOUNT)
for judged, scores in (("regret", expert.advantage), ("what was paid", grid.reward)):
    data = Segments.population(grid, 2, scores=scores, discount=DISCOUNT)
    start = TabularPolicy.uniform(grid.n_states, 4)
    learned = fit(start, cpl, data, reference=None).policy.probs
    apart = total_variation(learned, expert.policy)[~grid.terminal].max()
    print(f"people judge by {judged:13}: total variation to the expert at most {apart:.1g}")

# %% [markdown]
# ## What does an agent regret?
#
# Not having played the one action that would have been best. The leader so far is a good guess
# where losses are drawn; on alternating losses it loses in every round, and its regret is T/2.
# Hedge hesitates, and no losses whatever make it regret more than $\sqrt{T\ln d/2}$.

# %%
ROUNDS = 100
step, bound = hedge_step(ROUNDS, 2), hedge_bound(ROUNDS, 2)


def total(past):
    return past.sum(axis=-2)


learners = {
    "the leader": lambda past: (np.arange(2) == total(past).argmin(-1)[..., None]) * 1.0,
    "noisy choice": lambda past: ftpl(total(past), scale=0.3),
    "Hedge": lambda past: hedge(total(past), step=step),
}
noise = drawn_losses(["uniform"], 200, ROUNDS, seed=0)[0]
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
for name, learner in learners.items():
    answered = play_against(learner, most_likely_loses, rounds=ROUNDS, shape=(2,))
    plays = play_online(learner, alternating(ROUNDS)), answered
    for axis, play in zip(axes, plays, strict=True):
        axis.plot(np.arange(1, ROUNDS + 1), regret_path(*play), label=name)
    average = external_regret(*play_online(learner, noise)).mean()
    path = regret_path(*answered)
    tests = regret_trend_test(path).p_value, regret_regression_test(path).p_value
    fixed, adaptive = (external_regret(*play) for play in plays)
    print(f"{name:13} regret on noise {average:.2f}", end=", ")
    print(f"on alternating losses {fixed:.2f}, on answers {adaptive:.2f}")
    print(f"{'':13} passes the trend test {tests[0] < 0.05}, the regression {tests[1] < 0.05}")
for axis, title in zip(axes, ("Alternating losses", "Losses that answer"), strict=True):
    axis.axhline(bound, color="black", linewidth=0.8, label="bound of Hedge")
    axis.set(xlabel="round", title=title)
axes[0].set_ylabel("regret")
axes[0].legend()
plt.show()
print(f"bound of Hedge {bound:.2f}")

# %% [markdown]
# The counterexample is to two tests on the regret of a run, a trend and a regression: of the losses
# that answer all three fail the one and pass the other, the leader among them. A run cannot show
# what is true of all sequences.
#
# ## And if only the loss of what was played is seen?
#
# Losses are then estimated, by inverse probabilities or (for many pairs that share features) an
# inverse covariance. The estimates are right on average and can be very negative, which exponential
# weights take too seriously. Two ways out: another leader, or another estimate.

# %%
for cost in (0.0, -10.0, -100.0, -1000.0):
    seen = np.array([0.0, 0.0, cost])
    policies = hedge(seen, step=0.1), log_barrier_step(seen, step=0.1).policy
    print(f"one estimate of {cost:6}: P of the others", *(f"{p[:2].sum():.1e}" for p in policies))

features = rng.standard_normal((6, 3))
features /= np.linalg.norm(features, axis=-1, keepdims=True)
law, lost = np.array([0.6, 0.38, 0.017, 0.001, 0.001, 0.001]), rng.random(6)
inverse = regularised_inverse(feature_covariance(features, law), gamma=1e-3)
weights, played = estimate_weights(features, inverse), np.arange(6)
kinds = {
    "standard": standard_estimate(weights, played, lost),
    "reduced": reduced_estimate(weights, law, played, lost, bound=1.0),
}
moments = {name: estimate_moments(each, law) for name, each in kinds.items()}
for name, each in moments.items():
    print(f"{name:9} least value {each.smallest.min():7.1f}, largest deviation", end=" ")
    print(f"{np.sqrt(each.square - each.mean**2).max():.2f}")
same = np.abs(moments["standard"].mean - moments["reduced"].mean).max()
print(f"their means differ by {same:.0e}")

# %% [markdown]
# Reduced estimates have the same mean and a floor of $-H/(2\sqrt\gamma)$, here −15.8 (Dai et al.
# 2023): what the proof of a regret of order √K rests on. The surprise is the price: where losses
# are small they vary *more*, as a negative share counts what a loss falls short of H. And in the
# drawn processes of the reproduction the standard ones cost nothing that is seen.

# %% [markdown]
# ## What if a reward is good only up to a point?
#
# Responses on a line, and two rewards that both rise with what is wanted, at first: a response's
# place, and a mixture of that and a wave. What is wanted (gold) is best at .8. Optimise the sum
# ever harder, and gold rises and falls: on the way lies the *proxy point* (Moskovitz et al. 2023).

# %%
place = np.linspace(-3, 3, 400)
proxies = np.stack([place, 0.5 * place + np.sqrt(0.75) * np.sin(2 * place)])[:, None]
gold, prior = -((place - 0.8) ** 2)[None], log_softmax(-(place**2) / 2)[None]
strengths = np.linspace(0, 6, 601)[:, None] * np.array([0.5, 0.5])
path = reward_path(proxies, prior, strengths, beta=1.0)
point = proxy_point(path, gold)


def gold_of(found):
    return float((np.exp(found.log_policy) * gold).sum())


held = {
    sense: constrained_optimum(proxies, prior, point.achieved, beta=1.0, sense=sense)
    for sense in ("at_least", "equal")
}
stopped = saturated(proxies, point.achieved[:, None, None])
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
axis.plot(path.kl, path.achieved.mean(axis=-1), label="mean of the two rewards")
axis.plot(path.kl, point.along, label="gold")
axis.plot(path.kl[point.step], point.gold, "ko", label="joint proxy point")
axis.set(xlabel="KL from the reference, nats", title="Good proxies, up to a point")
axis.legend()
plt.show()

there = path.weights[int(point.step)]
print(f"gold at the proxy point {float(point.gold):.3f}; weights there {there.round(3)}")
for sense, each in held.items():
    print(f"held {sense:9} gold {gold_of(each):.3f}", end=", ")
    print(f"multipliers {each.multipliers.round(3)}, duality gap {abs(float(each.gap)):.0e}")
print(f"largest fixed weights          gold {point.along[-1]:.3f}")
hard = proxy_point(reward_path(stopped, prior, strengths, beta=1.0), gold)
print(f"the same of saturated rewards  gold {hard.along[-1]:.3f}")

# %% [markdown]
# The theorem: the constrained optimum is a Gibbs tilt by the multipliers of a convex dual, and at
# the proxy point these are the weights that led there. Nothing has to be stopped in time. The
# surprise: rewards that *saturate* at the thresholds, response by response, have more gold than
# constraints on their means.
#
# The counterexample: thresholds out of reach. Multipliers that are learned grow without end; the
# exact solver says so, and by which mixture of the rewards it is seen.

# %%
far = point.achieved * np.array([3.0, 1.0])
found = constrained_optimum(proxies, prior, far, beta=1.0, sense="equal", infeasible="report")
apart = separating_direction(proxies, prior, far, sense="equal")
print(f"thresholds {far.round(2)}: feasible {bool(found.feasible)}; rewards weighted by", end=" ")
print(f"{apart.direction.round(2)} miss them by {float(apart.margin):.2f}")

# %% [markdown]
# ## And if two things are wanted that nobody has weighed?
#
# Then the answer is a front. Weighted sums find its corners alone. What lies between is reached by
# improving one objective while the other keeps a share of what it was (Liu et al. 2024), each time
# one linear program.

# %%
moves = rng.dirichlet(np.full(8, 0.3), size=(8, 4))
two = TabularMDP(moves, 0.05 * rng.random((2, 8, 4)), discount=0.95)


def trainer(mdp):
    def train(start, weights, at_least):
        try:
            optimum = constrained_program(mdp, weights, at_least)
        except InfeasibleError:
            return []
        return [(optimum.policy, optimum.returns)]

    return train


corners = convex_front(two).returns
steps = extend_front(trainer(two), weight_grid(2, 2), rounds=3, share=0.97)
few, many = steps[0].archive.returns, steps[-1].archive.returns
figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
axis.plot(*corners.T, "-", color="0.7", label="exact front")
axis.plot(*corners.T, "o", color="0.4", label=f"its {len(corners)} corners")
axis.plot(*many.T, "x", color="tab:orange", label=f"{len(many)} policies after extensions")
axis.plot(*few.T, "s", color="tab:blue", label=f"{len(few)} policies of weighted sums")
axis.set(xlabel="first return", ylabel="second return", title="A front, filled by constraints")
axis.legend()
plt.show()

people = weight_grid(2, 20)
for name, points in (("weighted sums", few), ("extensions", many), ("all corners", corners)):
    print(f"{name:14} volume {hypervolume(points, [0.0, 0.0]):.4f}", end="   ")
    print(f"expected utility {expected_utility(points, people):.4f}")

# %% [markdown]
# The surprise: filling gaps raises the volume beyond that of *all* corners, and the expected
# utility never beyond theirs, as whoever weighs linearly is served by a corner. Count what you care
# about.
#
# The counterexample: a share of what it was is a concession only where returns are positive. Ninety
# seven per cent of a loss is a smaller loss, and not even the policy itself keeps that level.

# %%
costs = two.with_reward(np.asarray(two.reward) - 0.05)
for bound in ("scaled", "lowered"):
    options = {"rounds": 3, "share": 0.97, "bound": bound}
    steps = extend_front(trainer(costs), weight_grid(2, 2), **options)
    failed, size = sum(each.failed for each in steps), len(steps[-1].archive.returns)
    print(f"returns all negative, levels {bound:8} {failed:2} trainings without a policy", end="")
    print(f", archive of {size}")

# %% [markdown]
# ## Can labels of one task serve another?
#
# Two robots, whose trajectories have no coordinate in common. But what is near what may be the same
# in both: match the points by their *distances* (Gromov–Wasserstein), and let labels travel along
# (Liu et al. 2023). Here the target is the source turned, in another order, and disturbed.


# %%
def copies(noise, n=12, points=8, size=2):
    """Sources, targets, labels of the sources and of the targets."""
    source = rng.standard_normal((n, points, size))
    turn = np.linalg.qr(rng.standard_normal((n, size, size)))[0]
    order = rng.permuted(np.tile(np.arange(points), (n, 1)), axis=-1)
    target = np.take_along_axis(source @ turn, order[..., None], axis=1)
    worth = (source @ rng.standard_normal((n, size, 1)))[..., 0]
    paid = worth, np.take_along_axis(worth, order, axis=-1)
    labels = (noiseless_preference(each[:, :, None], each[:, None]) for each in paid)
    return source, target + noise * rng.standard_normal(target.shape), *labels


def arriving(noise, restarts):
    source, target, labels, truth = copies(noise)
    plan = gromov_wasserstein(
        distance_matrix(source), distance_matrix(target), restarts=restarts, seed=0
    ).coupling
    guessed = transferred_preference(plan, labels)
    counted = truth != 0.5
    right = (guessed > 0.5) == (truth > 0.5)
    return source, target, plan, np.mean(right[counted])


figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
source, target, plan, _ = arriving(0.05, 10)
aside = target[0] - np.array([0.0, 4.0])
for i, j in itertools.product(range(8), repeat=2):
    if plan[0, i, j] > 1e-9:
        axes[0].plot(*np.stack([source[0, i], aside[j]]).T, color="0.8", zorder=0)
axes[0].plot(*source[0].T, "o", label="source")
axes[0].plot(*aside.T, "s", label="target")
axes[0].set(aspect="equal", xticks=[], yticks=[], title="Matched by distances alone")
axes[0].legend(loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=2)
noises = (0.0, 0.1, 0.2, 0.5, 1.0)
for restarts in (0, 10):
    shares = [arriving(noise, restarts)[-1] for noise in noises]
    axes[1].plot(noises, shares, "o-", label=f"search with {restarts} further starts")
    print(f"{restarts:2} further starts: labels that arrive", np.round(shares, 2))
axes[1].axhline(0.5, color="black", linewidth=0.8)
axes[1].set(xlabel="disturbance", ylabel="share of labels that arrive", title="What arrives")
axes[1].legend()
plt.show()

# %% [markdown]
# The problem is not convex, and much of what is lost is lost in the search. The counterexample
# needs neither noise nor search: a row of equal steps is its own mirror image. Its reversal costs
# nothing and turns every label; one point more that is farther away tells the ends apart.

# %%
row, pairs = np.arange(5.0), np.triu_indices(5, 1)
for name, places in (("a row of five", row), ("with one farther point", np.append(row, 7.0))):
    apart, n = distance_matrix(places[:, None]), len(places)
    mirror = np.eye(n)[np.append(np.arange(5)[::-1], np.arange(5, n))] / n
    labels = noiseless_preference(places[:, None], places[None])
    kept = np.mean(transferred_preference(mirror, labels)[pairs] == labels[pairs])
    cost = abs(float(gromov_wasserstein_cost(apart, apart, mirror)))
    print(f"{name:22} the reversal costs {cost:.2f} and keeps {kept:.0%} of the five's labels")

# %% [markdown]
# ## The same calls on a language model
#
# A transformer with random weights whose vocabulary is that of a tree: DPO on labels of whole
# responses, and its log-ratios are rewards of tokens. They are those of the exact backup.

# %%
from transformers import LlamaConfig

from prefsim.lm import (
    CausalLM,
    TextGame,
    rewarded_tokens,
    text_learner,
    train_on_regret,
    tree_pairs,
    tree_policy,
)

config = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
config |= {"num_hidden_layers": 1, "initializer_range": 0.1}
words = TokenTree(3, 3, end_token=2)
count = np.sum(words.sequences == 1, axis=-1) - 1.0 * (words.lengths < 3)
words = TokenTree(3, 3, end_token=2, reward=count[None])
lm = CausalLM.from_config(LlamaConfig(vocab_size=3, **config), seed=0)
compared = tree_pairs(words, Comparisons.population(words.to_bandit()), [[2]])
tuned = fit(
    lm,
    functools.partial(losses.dpo, beta=1.0),
    compared,
    reference=lm,
    steps=150,
    batch_size=len(compared),
    learning_rate=1e-2,
    warmup=0.0,
    progress=False,
).policy
first, last = tree_policy(lm, words, [[2]]), tree_policy(tuned, words, [[2]])
exact = planning.soft_backup(first, count[None] / 1.0).policy
print(f"total variation to the optimum {float(total_variation(last.probs, exact.probs)[0]):.3f}")
print(rewarded_tokens(tuned, lm, [2], [1, 0, 1]).table(width=10))
ratio = log_softmax(exact.logits) - log_softmax(first.logits)
print("exact:", words.along(ratio)[0, words.index_of([1, 0, 1])].round(3))

# %% [markdown]
# And a language model as a player: it is told which action was the better one so far, and trained
# by the regret itself, through all of its rounds, without a label that says what was right.

# %%
game = TextGame(lambda past: [3, *(6 + int(b < a) for a, b in past)], (4, 5))
player = CausalLM.from_config(LlamaConfig(vocab_size=8, **config), seed=0)


def draw(rng):
    """One action costs 1 in every round, the other nothing."""
    return np.repeat(np.eye(2)[rng.integers(0, 2, (16, 1))], 6, axis=1)


learned = train_on_regret(player, draw, game=game, steps=40, learning_rate=2e-2, k=1.0)
fresh = draw(rng)
for name, each in (("before", player), ("after", learned.policy)):
    regret = external_regret(*play_online(text_learner(each, game), fresh)).mean()
    cheat = external_regret(*play_online(text_learner(each, game), alternating(6)[None]))[0]
    print(f"{name:6} training: regret {regret:.2f} of 6 rounds; on alternating losses {cheat:.2f}")

# %% [markdown]
# It has learned to follow the leader, which is all that its losses asked for: on alternating ones,
# which it has never met, it regrets more than it did untrained (Park et al. 2024).
#
# Larger models play the same game by `prefsim.lm.text_learner`. Reinforced token optimisation is
# `play_actor_critic(..., token_rewards=log_ratio_token_rewards(...))`, several rewards held at
# thresholds are `play_constrained`, and token weights `prefsim train --loss sparse_po`.
#
# ## Exercises
#
# 1. Pay tokens β₁ times the log-ratio at a penalty of β₂. Which optimum do these rewards have?
#    Predict it for whole responses, then let `soft_backup` say. (The released code of RTO has
#    β₁ = .05 and β₂ = .01.)
# 2. Let the noise of the choice grow: `ftpl(total(past), scale=np.sqrt(past.shape[-2] + 1))`. How
#    fast does its regret grow now, on either sequence?
# 3. Hold both rewards at thresholds a tenth larger. In this world, does gold rise? The proxy point
#    is the best place on one line; who says that the best thresholds lie on it?
# 4. If some people want the *worse* of both returns to be as large as it can be, which policies
#    serve them? (`planning.largest_slack` finds one.) Is it a corner?
# 5. Match two tasks of which one has twice the scale, with and without
#    `distance_matrix(..., normalise=True)`.
# 6. Ask the language model with the prompt `[0]` in place of `[2]`. Its distance to the optimum now
#    stays near .1, however long it is trained. What can one layer of attention not tell apart?
