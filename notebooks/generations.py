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
# # Can a model teach itself?
#
# It samples, something judges the samples, it learns from the better ones, and samples again. What
# is gained in a generation, what is gained in the next, and what if the judge is the model itself?
# All of it can be followed exactly where the answers can be counted. The map of self-improvement
# (`docs/explanation/self-improvement-map.md`) says where the methods lie;
# `prefsim list --family selfimprove` names the papers.

# %%
import functools
import math

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.analysis import expected_reward, kl_to_reference, optimal_frontier
from prefsim.data import Comparisons
from prefsim.divergences import total_variation
from prefsim.loops import play_rounds, self_consuming, self_preferring
from prefsim.numerics import categorical_entropy, categorical_kl, log_softmax, sigmoid
from prefsim.policies import TabularPolicy
from prefsim.raters import judged_preference
from prefsim.solvers import fit, gibbs_log_policy
from prefsim.solvers.closed_forms.rejection import first_accepted_law
from prefsim.solvers.closed_forms.self_training import best_of_n
from prefsim.worlds import ContextualBandit, TokenTree

rng = np.random.default_rng(0)

# %% [markdown]
# ## One generation: how much is in one's own samples?
#
# Forty answers, a model that writes each with some probability, and a reward that is right. Keep
# the best of n samples, or accept samples by a coin that knows the reward (RSO), and learn to write
# what was kept. No policy has more reward at its divergence than the optimum of RLHF. How far below
# is what needs no training at all?

# %%
reward = np.sort(rng.standard_normal(40))
start = log_softmax(rng.standard_normal(40))
world = ContextualBandit(reward=reward[None])
front = optimal_frontier(world, start[None], np.geomspace(0.02, 1e3, 400))


def place(log_policy):
    """KL to the model and expected reward."""
    kl = float(kl_to_reference(log_policy[None], start[None], world))
    return kl, float(expected_reward(log_policy[None], world))


counts = (2, 4, 8, 16, 64)
best = np.array([place(best_of_n(reward, start, n)) for n in counts])
kept = np.array([place(first_accepted_law(reward, start, n, beta=0.3)) for n in counts])
figure, axis = plt.subplots(figsize=(7, 4.4), layout="constrained")
axis.plot(front.reverse_kl, front.reward, color="0.5", label="most reward at this KL")
axis.plot(*best.T, "o", color="#D55E00", label="best of n")
axis.plot(*kept.T, "s", color="#0072B2", label="first accepted of n, β = 0.3")
for n, (kl, value) in zip(counts, best, strict=True):
    axis.annotate(f"n = {n}", (kl, value), (5, -13), textcoords="offset points")
axis.set(xlabel="KL from the model, nats", ylabel="expected reward")
axis.set_title("The best of n is all but optimal for its KL")
axis.legend(loc="lower right")
plt.show()
for n, (kl, value) in zip(counts, best, strict=True):
    short = float(front.largest_reward(kl)) - value
    promised = math.log(n) - (n - 1) / n
    print(f"n = {n:2}: KL {kl:.3f} of at most {promised:.3f}, reward {value:.3f},", end=" ")
    print(f"{short:.3f} below the optimum")
    assert kl <= promised + 1e-12

# %% [markdown]
# The theorem: $\mathrm{KL}\le\log n-(n-1)/n$, with equality where no answer has a probability of
# its own. Sixty-four samples buy 3.18 nats at most, however long the answers are.
#
# And rejection ends where it should, not further: whatever n, at the optimum of its β. By how much
# it is wrong with n candidates has a bound that can be seen, the chance that the best answer was
# not among them.

# %%
goal, _ = gibbs_log_policy(reward, start, beta=0.3)
for n in (4, 16, 64, 256):
    law = first_accepted_law(reward, start, n, beta=0.3)
    off = float(total_variation(np.exp(law), np.exp(goal)))
    bound = (1 - np.exp(start[-1])) ** n
    print(f"{n:3} candidates: total variation to the optimum {off:.1e}, at most {bound:.1e}")
    assert off <= bound

# %% [markdown]
# ## The second generation: the surprise
#
# Now let the model that learned to write the best of two be sampled again, and again. What do four
# generations have that one did not?

# %%
law = start
for generation in range(1, 5):
    law = best_of_n(reward, law, 2)
    once = best_of_n(reward, start, 2**generation)
    print(f"generation {generation}: KL {place(law)[0]:.3f}, reward {place(law)[1]:.3f};", end=" ")
    print(f"differs from the best of {2**generation} by {np.abs(np.exp(law - once) - 1).max():.0e}")
    assert np.allclose(law, once)

# %% [markdown]
# Nothing. Four generations of the best of two *are* the best of sixteen: $F\mapsto F^2$ four times
# is $F^{16}$. So it is with DPO whose reference is the last policy (iterative DPO): T generations
# at β are one at β/T. A loop with a reward that is right saves samples, two at a time for sixteen
# at once; it finds no answer that the first model would not have written, and every generation
# spends the penalty anew. With the *first* model as reference the second generation changes nothing
# at all.

# %%
BETA, T = 1.0, 4
law = fixed = start
for _ in range(T):
    law, _ = gibbs_log_policy(reward, law, beta=BETA)
    fixed, _ = gibbs_log_policy(reward, start, beta=BETA)
once, _ = gibbs_log_policy(reward, start, beta=BETA / T)
print(
    f"reference of the last generation: reward {place(law)[1]:.3f}, KL {place(law)[0]:.3f};",
    end=" ",
)
print(f"differs from β/{T} by {np.abs(np.exp(law) - np.exp(once)).max():.0e}")
print(f"reference of the first:           reward {place(fixed)[1]:.3f}, KL {place(fixed)[0]:.3f}")

# %% [markdown]
# ## What is lost on the way
#
# People keep one of two samples, with odds $e^{r}$, put it on the web, and the next model is
# trained on the web (Ferbach et al. 2024). Reward rises and answers die out. How many are left,
# $e^{\text{entropy}}$? With λ such samples on one of the real data, every answer keeps at least
# $1/(1+\lambda)$ of the probability that it had: a theorem that needs nothing of the reward.

# %%
GENERATIONS = 40
shares = {math.inf: "#D55E00", 4.0: "#E69F00", 1.0: "#0072B2"}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for synthetic, colour in shares.items():
    laws = self_consuming(reward, start, candidates=2, rounds=GENERATIONS, synthetic=synthetic)
    left, gained = np.exp(categorical_entropy(laws)), np.exp(laws) @ reward
    share = 0.0 if synthetic == math.inf else 1 / (1 + synthetic)
    name = f"{share:.0%} real data"
    axes[0].plot(gained, color=colour, label=name)
    axes[1].semilogy(left, color=colour, label=name)
    least = float(np.exp(laws[-1] - start).min())
    print(
        f"{name:13}: answers left {left[0]:.1f} → {left[-1]:.1f}, reward {gained[-1]:.3f},", end=" "
    )
    print(f"least share of a probability kept {least:.3f}, promised {share:.3f}")
    assert least >= share
axes[0].set(xlabel="generation", ylabel="expected reward", title="What users like more and more")
axes[1].set(xlabel="generation", ylabel="answers left, exp(entropy)", title="Of ever fewer kinds")
axes[0].legend()
plt.show()

# %% [markdown]
# ## The judge is the model
#
# No reward now. The model judges pairs of its own samples, and prefers what it would rather have
# written: its log-odds are c times the difference of its log-probabilities. It learns from the
# strengths of these judgements (OSP's loss, `losses.spce`), with the first model μ as reference.
# What does it become?
#
# One generation at β is $\pi_{t+1}\propto\mu\,\pi_t^{s}$ with $s=c/\beta$. So for $s<1$ it ends at
# $\mu^{1/(1-s)}$: the same ranking, sharper. For $s\ge1$ nothing holds it.

# %%
prompt, first, second = np.indices((1, 40, 40)).reshape(3, -1)
model = TabularPolicy(start[None])


def judged(log_policy, c, extra=0.0):
    """All pairs, each with the judgement of the model."""
    scores = c * log_policy + extra
    prefers = sigmoid(scores[first] - scores[second])
    return Comparisons(prompt, first, second, chosen_score=prefers, rejected_score=1 - prefers)


def generation(log_policy, s, extra=0.0):
    """What the model learns from its own judgements, by the loss."""
    loss = functools.partial(losses.spce, beta=BETA)
    return fit(model, loss, judged(log_policy, s * BETA, extra), reference=model).policy.log_probs[
        0
    ]


by_loss = generation(generation(start, 0.5), 0.5)
by_rule = log_softmax(start + 0.5 * log_softmax(start + 0.5 * start))
print(
    f"two generations by the loss and by the rule differ by {np.abs(by_loss - by_rule).max():.0e}"
)

figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
for s, colour in ((0.5, "#0072B2"), (0.8, "#009E73"), (1.0, "#E69F00"), (1.5, "#D55E00")):
    path = [start]
    for _ in range(20):
        path.append(log_softmax(start + s * path[-1]))
    left = np.exp(categorical_entropy(np.array(path)))
    axis.semilogy(left, color=colour, label=f"s = {s}")
    print(f"s = {s}: answers left {left[-1]:5.2f}", end="")
    if s < 1:
        limit = log_softmax(start / (1 - s))
        axis.axhline(np.exp(categorical_entropy(limit)), color=colour, linestyle=":")
        print(f", at the limit {np.exp(categorical_entropy(limit)):5.2f}", end="")
    print()
axis.set(xlabel="generation", ylabel="answers left, exp(entropy)")
axis.set_title("A model that trusts its own likelihood (dotted: the limit)")
axis.legend()
plt.show()

# %% [markdown]
# Is that learning? It is exactly where what the model finds likely is good. The derivative of the
# expected reward as the model sharpens is the covariance of reward and log-likelihood under it; two
# models, one that knows something of the reward and one that does not:

# %%
for name, knowledge in (("knows something", 1.0), ("knows nothing", 0.0), ("is mistaken", -1.0)):
    own = log_softmax(knowledge * reward + rng.standard_normal(40))
    limit = log_softmax(own / (1 - 0.5))
    p = np.exp(own)
    covariance = p @ (reward * own) - (p @ reward) * (p @ own)
    print(
        f"a model that {name:15} reward {p @ reward:+.3f} → {np.exp(limit) @ reward:+.3f},", end=" "
    )
    print(f"covariance {covariance:+.3f}")

# %% [markdown]
# And a judge that is partly right, log-odds of $r$ plus c of its own likelihood? It is the honest
# judge with a smaller penalty: the limit is $\mu^{1/(1-s)}e^{r/(\beta(1-s))}$, the optimum of the
# reward at β(1 − s) around a sharper reference. Self-preference goes farther than was asked:

# %%
s, law = 0.5, start
for _ in range(60):
    law = log_softmax(start + s * law + reward / BETA)
honest, _ = gibbs_log_policy(reward, log_softmax(start / (1 - s)), beta=BETA * (1 - s))
print(f"sixty generations and the formula differ by {np.abs(np.exp(law - honest) - 1).max():.0e}")
print(f"KL from the first model {place(law)[0]:.2f}, without self-preference {place(fixed)[0]:.2f}")
step = generation(start, s, reward)
rule = log_softmax(start + s * start + reward / BETA)
print(f"one generation by the loss and by the rule by {np.abs(step - rule).max():.0e}")

# %% [markdown]
# ## How strongly, and in which order
#
# Two traps of judges, whoever they are. A judge of temperature c, over-confident above one, acts as
# a β that is c times smaller. And a judge that favours what it reads first is asked in both orders;
# the mean of its *log-odds* is then free of the bias, that of its probabilities is not.

# %%
small = np.linspace(0, 2, 5)
of_five = TabularPolicy.uniform(1, 5)


def taught_by(judge):
    """What the loss learns from a judge of all pairs of five answers."""
    x, i, j = np.indices((1, 5, 5)).reshape(3, -1)
    prefers = judge[i, j]
    pairs = Comparisons(x, i, j, chosen_score=prefers, rejected_score=1 - prefers)
    loss = functools.partial(losses.spce, beta=BETA)
    return fit(of_five, loss, pairs, reference=of_five).policy.probs[0]


honest = np.exp(gibbs_log_policy(small, of_five.log_probs[0], beta=BETA)[0])
hasty = np.exp(gibbs_log_policy(small, of_five.log_probs[0], beta=BETA / 3)[0])
found = taught_by(judged_preference(small, temperature=3.0))
print(f"temperature 3: differs from β/3 by {np.abs(found - hasty).max():.0e}")
for average in ("logit", "prob"):
    found = taught_by(judged_preference(small, position_bias=2.0, average=average))
    print(f"bias of 2 nats, mean of {average:5}: off by {np.abs(found - honest).max():.0e}")

# %% [markdown]
# From samples alone, as it is done (`loops.self_preferring`): the judge's answers are the labels.

# %%
rounds = self_preferring(
    of_five, judged_preference(small[None]), rounds=10, draws=16, beta=BETA, epochs=30, seed=0
)
for t in (0, 4, 9):
    off = float(categorical_kl(np.log(honest), rounds[t].policy.log_probs[0]))
    print(f"round {t + 1:2}: KL from the judge's optimum {off:.1e}")

# %% [markdown]
# ## The same loop with a language model
#
# A transformer with random weights that judges its own completions by its own likelihood, $s=1.5$.
# The exact rule knows nothing of gradient steps, and is what happens.

# %%
from transformers import GPT2Config

from prefsim.lm import CausalLM, trainer, tree_pairs, tree_policy

tree, PROMPTS, S = TokenTree(3, 2, end_token=2), [[0]], 1.5
shape = {"n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 8, "initializer_range": 0.1}
lm = CausalLM.from_config(
    GPT2Config(vocab_size=3, bos_token_id=None, eos_token_id=2, **shape), seed=0
)
mu = tree_policy(lm, tree, PROMPTS).log_probs[0]
x, i, j = np.indices((1, tree.n_sequences, tree.n_sequences)).reshape(3, -1)
once = i < j


def self_judged(policy, opponent, rng):
    """All pairs of completions, judged by the model that wrote them."""
    own = S * BETA * tree_policy(policy, tree, PROMPTS).log_probs[0]
    prefers = sigmoid(own[i] - own[j])[once]
    pairs = Comparisons(x[once], i[once], j[once], chosen_score=prefers, rejected_score=1 - prefers)
    return tree_pairs(tree, pairs, PROMPTS)


rounds = play_rounds(
    lm,
    self_judged,
    functools.partial(losses.spce, beta=BETA),
    rounds=5,
    seed=0,
    reference=lm,
    train=trainer(
        steps=60, batch_size=21, order="given", learning_rate=1e-2, warmup=0.05, progress=False
    ),
)
exact = mu
print(f"before:       completions left {np.exp(categorical_entropy(mu)):.2f}")
for t, played in enumerate(rounds, start=1):
    exact = log_softmax(mu + S * exact)
    now = tree_policy(played.policy, tree, PROMPTS).log_probs[0]
    left, rule = np.exp(categorical_entropy(now)), np.exp(categorical_entropy(exact))
    print(f"generation {t}: completions left {left:.2f}, by the rule {rule:.2f}")

# %% [markdown]
# A judge that reads texts is `prefsim.lm.pairwise_judge`, the rounds are `prefsim.lm.draw_pairs`,
# and on the command line `prefsim rounds`.
#
# ## Exercises
#
# 1. Let the reward of `best_of_n` be wrong: add noise to it. At which n does the true reward fall?
#    Is it the same KL for the first accepted of n?
# 2. Mix one part of real data into the loop of the model that trusts its own likelihood, $s=1.5$.
#    How much keeps five answers alive?
# 3. Refresh the reference in every generation (`refresh=1` of `self_preferring`). What is s then?
# 4. Judge by the likelihood of a *second* model. When do two models that teach each other end at
#    one answer, and whose?
# 5. Take the side that is likelier as the label in place of its strength (`prob=1`). Which of the
#    limits above are left?
