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
# # A policy from pairs, without a reward
#
# People have compared answers. Fit a reward to what they said, and optimise it: that is RLHF.
# Direct alignment does it in one step, by a loss of the policy's own log-probabilities. There are
# forty such losses by now. When are they the same, what does each leave open, and what do they do
# where labels are certain? The map of the losses (`docs/explanation/loss-map.md`) has them all;
# `prefsim list --family direct` names the papers.

# %%
import functools
import warnings

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.analysis import expected_reward, kl_to_reference, optimal_frontier, pair_derivatives
from prefsim.data import Comparisons, Feedback
from prefsim.divergences import total_variation
from prefsim.losses import PairLogps
from prefsim.policies import TabularPolicy
from prefsim.solvers import ConvergenceWarning, fit, gradient_descent, optimal_policy
from prefsim.worlds import ContextualBandit, TokenTree, textbook_game

rng = np.random.default_rng(0)
BETA = 0.5

# %% [markdown]
# ## The identity behind it
#
# The best policy of a reward $r$ under a penalty $\beta\,\mathrm{KL}(\pi\|\mu)$ is
# $\pi^*\propto\mu\,e^{r/\beta}$. Read it backwards: $r=\beta\log(\pi^*/\mu)$ up to a constant of
# the prompt, and a comparison has no constant. So a policy *is* a reward model, and DPO fits it by
# the likelihood of the labels. Two hundred worlds of six answers, all pairs with their
# probabilities, one call:

# %%
worlds = ContextualBandit(reward=rng.standard_normal((200, 6)))
reference = TabularPolicy.from_probs(rng.dirichlet(np.full(6, 2.0), size=200))
best = optimal_policy(worlds.reward, reference.probs, beta=BETA)
dpo, ipo = functools.partial(losses.dpo, beta=BETA), functools.partial(losses.ipo, tau=0.5)
uniform = TabularPolicy.uniform(200, 6)


def learned(loss, sampler, world=worlds, start=reference):
    """The minimiser of a loss on all pairs that a sampler draws."""
    pairs = Comparisons.population(world, sampler)
    return fit(start, loss, pairs, reference=start).policy.probs


print(f"DPO and the optimum of RLHF differ by {np.abs(learned(dpo, reference) - best).max():.0e}")

# %% [markdown]
# Who wrote the answers that were compared? For DPO it does not matter, as long as Bradley and Terry
# are right: every sampler with full support has the same minimiser. That is a property of the
# *link*, not of direct alignment. IPO squares where DPO takes a logarithm, and its answer depends
# on the sampler. And where preferences go in circles, so does DPO's.

# %%
circle = textbook_game().to_bandit()
start = TabularPolicy.uniform(1, 3)
skewed = TabularPolicy.from_probs([[0.8, 0.1, 0.1]])
for name, loss in (("DPO", dpo), ("IPO", ipo)):
    moved = np.abs(learned(loss, reference) - learned(loss, uniform)).max()
    turned = [learned(loss, each, circle, start) for each in (start, skewed)]
    print(f"{name}: another sampler moves a probability by {moved:.0e};", end=" ")
    print(f"on a circle by {np.abs(turned[0] - turned[1]).max():.2f}")

# %% [markdown]
# ## The link prices a margin
#
# Most of the losses are one function of $h$, how much more the policy favours the chosen answer
# over the rejected one than its reference does. Its slope is how hard a pair pulls; where the
# slopes of a label and of its opposite balance is where a preference of probability $p$ ends.

# %%
links = {
    "dpo": dpo,
    "ipo": ipo,
    "hinge": functools.partial(losses.hinge, beta=BETA),
    "exo_pair": functools.partial(losses.exo_pair, beta=BETA),
    "conservative dpo": functools.partial(losses.dpo, beta=BETA, label_smoothing=0.1),
}
COLOURS = dict(zip(links, ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"), strict=True))
margins, zero = np.linspace(-6, 8, 281), np.zeros(281)
votes = np.linspace(0.5, 0.995, 100)
# One prompt for each share of votes: all of them are one call.
prompts, ones = np.arange(100), np.ones(100, dtype=int)
asked = Comparisons(prompts, ones, 0 * ones, prob=votes)
both = TabularPolicy.uniform(100, 2)
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for name, loss in links.items():
    pulls = pair_derivatives(loss, PairLogps(margins, zero, zero, zero)).chosen
    axes[0].plot(margins, pulls, color=COLOURS[name], label=name)
    ended = fit(both, loss, asked, reference=both).policy.log_probs
    ends = ended[:, 1] - ended[:, 0]
    axes[1].plot(votes, ends, color=COLOURS[name], label=name)
axes[0].set(xlabel="margin h", ylabel="pull", ylim=(-1.5, 3.2), title="How hard one pair pulls")
axes[1].set(xlabel="share of votes for the chosen one", ylabel="margin at the minimum")
axes[1].set_title("Where a vote ends")
axes[0].legend()
plt.show()
reached = {line.get_label(): line.get_ydata()[-1] for line in axes[1].lines}
print("at 99.5 % of the votes:", ", ".join(f"{name} {h:.2f}" for name, h in reached.items()))
assert np.isclose(reached["dpo"], np.log(0.995 / 0.005) / BETA)
assert np.isclose(reached["ipo"], (2 * 0.995 - 1) / (2 * 0.5))
assert np.isclose(reached["exo_pair"], (2 * 0.995 - 1) * np.log(0.999 / 0.001) / BETA)

# %% [markdown]
# DPO's margin is the log-odds of the votes. IPO's and EXO's are straight in the votes, EXO's with a
# slope that only its ε decides; the hinge hears the majority and nothing else.
#
# The surprise is at the right edge. With certain labels DPO's margin has no end, *whatever β*: the
# penalty that the derivation started from has gone. A pair that was compared three times and won
# three times is enough. `fit` says so rather than return a number; IPO stops at $1/(2\tau)$.

# %%
three = Comparisons([0, 0, 0], [1, 1, 1], [0, 0, 0])
two = TabularPolicy.uniform(1, 2)
for name, loss in (
    ("DPO, β = 0.5", dpo),
    ("DPO, β = 50", functools.partial(losses.dpo, beta=50.0)),
    ("IPO", ipo),
):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = fit(two, loss, three, reference=two)
    ended = float(found.policy.log_probs[0, 1] - found.policy.log_probs[0, 0])
    print(f"{name:13} diverges: {bool(found.diverges)!s:5}", end="   ")
    print(f"margin where the search ended {ended:.2f}, loss there {float(found.value):.0e}")

# %% [markdown]
# ## What the pairs do not say
#
# Four answers, of which two were compared. The loss depends on the policy through one margin, and
# so every division of the rest of the mass has the same loss. Which one comes out is decided by the
# parameters: in a table the logits of the others stand still, and normalisation takes from them.

# %%
four = TabularPolicy.from_probs([[0.05, 0.05, 0.45, 0.45]])
seen = Comparisons([0], [0], [1], prob=[0.9])
for name, loss in (
    ("DPO", dpo),
    ("DPO + likelihood of the chosen", functools.partial(losses.rpo, beta=BETA, eta=0.2)),
    ("no reference: ORPO", functools.partial(losses.orpo, lambda_=1.0)),
):
    reference_of = None if name.startswith("no") else four
    result, _ = gradient_descent(
        four, loss, seen, reference=reference_of, step=1.0, iterations=3000
    )
    probs = result.policy.probs[0]
    print(f"{name:31} chosen {probs[0]:.3f}, rejected {probs[1]:.4f},", end=" ")
    print(f"never compared {probs[2:].sum():.3f}")

# %% [markdown]
# A network has no such rest: what its answers share moves together, and mass may go where no pair
# ever was. The lecture on analyses (`notebooks/analyses.ipynb`) measures that.
#
# ## One plane
#
# Eight answers, one set of comparisons, β = ½ for all. No policy is above the curve: it is the most
# reward that can be had at a divergence, the optima of all β. Where does each loss stop?

# %%
world = ContextualBandit(reward=np.random.default_rng(0).standard_normal((1, 8)))
eight = TabularPolicy.uniform(1, 8)
pairs = Comparisons.population(world, eight, distinct=True)
thumbs = Feedback.population(pairs.prob.reshape(1, 8, 7).mean(axis=-1), eight)
front = optimal_frontier(world, eight.log_probs, np.geomspace(0.15, 20, 200))
beta = {"beta": BETA}
stops = {
    "dpo": (functools.partial(losses.dpo, **beta), pairs),
    "exo_pair": (functools.partial(losses.exo_pair, **beta), pairs),
    "ipo": (functools.partial(losses.ipo, tau=BETA), pairs),
    "conservative dpo": (functools.partial(losses.dpo, **beta, label_smoothing=0.2), pairs),
    "nca": (functools.partial(losses.nca_pair, **beta), pairs),
    "bco": (functools.partial(losses.bco_pair, **beta), pairs),
    "rpo": (functools.partial(losses.rpo, **beta, eta=0.2), pairs),
    "f_dpo, forward KL": (functools.partial(losses.f_dpo, **beta, divergence="forward_kl"), pairs),
    "bco on thumbs": (functools.partial(losses.bco_unpaired, **beta, shift=0.0), thumbs),
}
SHIFTS = {"dpo": (-14, 9), "conservative dpo": (9, -12), "nca": (9, -6), "ipo": (9, -6)}
figure, axis = plt.subplots(figsize=(7, 4.6), layout="constrained")
axis.plot(front.reverse_kl, front.reward, color="0.5")
axis.annotate("optima of all β", (1.1, 1.1), (12, -14), textcoords="offset points")
ends = {}
for name, (loss, data) in stops.items():
    ends[name] = fit(eight, loss, data, reference=eight).policy.log_probs
    kl = float(kl_to_reference(ends[name], eight.log_probs, world))
    reward = float(expected_reward(ends[name], world))
    below = float(front.largest_reward(kl)) - reward
    axis.plot(kl, reward, "o", color="#0072B2")
    if name != "bco on thumbs":
        shift = SHIFTS.get(name, (8, -4))
        axis.annotate(name, (kl, reward), shift, textcoords="offset points")
    print(f"{name:18} KL {kl:.3f}, reward {reward:.3f}, below the curve by {below:.1e}")
axis.set(xlabel="KL(π‖μ), nats", ylabel="expected reward", xlim=(-0.05, 2.1))
axis.set_title("Same comparisons, same β: the link decides how far")
plt.show()
apart = np.abs(ends["bco"] - ends["bco on thumbs"]).max()
print(f"bco on pairs and on thumbs differ by {apart:.0e}")

# %% [markdown]
# DPO alone stops where RLHF with β does. The other links go less far or farther along nearly the
# same curve: compare losses at one KL divergence, not at one β. Below the curve are those that
# change *what* is fitted: another divergence (which is on a curve of its own), the likelihood of
# the winner, or the two answers one by one.
#
# One of these is a theorem to be seen in the last line. BCO's loss of a pair is a loss of each of
# its answers, so that comparisons say no more to it than thumbs that go up as often as an answer
# wins: no pairs are needed. It is an upper bound of DPO's, too:

# %%
a, b = rng.normal(0, 3, (2, 1000))
drawn = PairLogps(a, b, 0 * a, 0 * a)
over = losses.bco_pair(drawn, beta=BETA, shift=0.4) - dpo(drawn)
print(f"BCO less DPO on a thousand pairs: at least {over.min():.1e}")
assert (over >= 0).all()

# %% [markdown]
# ## Only bad answers
#
# Where there is nothing to choose, there is still something to push down. Gradient ascent pushes
# ever the same, long after the answer is gone. NPO is the rejected half of a logistic loss: its
# push dies with the answer, the sooner the larger β, and β → 0 is gradient ascent.

# %%
lost = -np.array([0.0, 5.0, 20.0, 100.0])
pushed = PairLogps(0 * lost, lost, 0 * lost, 0 * lost)
print("log-ratio of the bad answer      ", lost)
for name, loss in (
    ("gradient ascent", losses.gradient_ascent),
    ("NPO, β = 0.5", functools.partial(losses.npo, beta=0.5)),
    ("NPO, β = 0.001", functools.partial(losses.npo, beta=1e-3)),
):
    print(f"{name:16} pushes by        ", pair_derivatives(loss, pushed).rejected.round(4))

# %% [markdown]
# ## The same call on a language model
#
# A transformer with random weights, seven completions of at most two tokens, and `fit` with the
# same losses: by gradient steps here, by Newton's method on the table. It lands where theory says,
# whichever the loss.

# %%
from transformers import GPT2Config

from prefsim.lm import CausalLM, tree_pairs, tree_policy

tree, PROMPTS = TokenTree.random(3, 2, seed=0, end_token=2), [[0]]
shape = {"n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 8, "initializer_range": 0.1}
lm = CausalLM.from_config(
    GPT2Config(vocab_size=3, bos_token_id=None, eos_token_id=2, **shape), seed=0
)
table = tree_policy(lm, tree, PROMPTS)
population = Comparisons.population(tree.to_bandit(), table)
asked = tree_pairs(tree, population, PROMPTS)
for name, loss in (("dpo", dpo), ("ipo", ipo), ("rpo", stops["rpo"][0])):
    exact = fit(table, loss, population, reference=table).policy.probs
    trained = fit(
        lm,
        loss,
        asked,
        reference=lm,
        steps=120,
        batch_size=len(asked),
        order="given",
        learning_rate=1e-2,
        warmup=0.05,
        progress=False,
    )
    before, after = (
        float(total_variation(tree_policy(each, tree, PROMPTS).probs, exact)[0])
        for each in (lm, trained.policy)
    )
    print(f"{name}: total variation to the exact minimum {before:.3f} before, {after:.3f} after")

# %% [markdown]
# On the command line this is `prefsim train --loss ipo --set tau=0.5 --model … --data pairs.jsonl`,
# and `prefsim list --by constraint` names the losses by the part that they change.
#
# ## Exercises
#
# 1. Find the β at which `exo_pair` stops where DPO stops at ½. Is it the same for all of the two
#    hundred worlds? What does its minimum say of a preference of probability p?
# 2. Label each pair three times and let the majority decide. Where does IPO stop now, and where
#    DPO? Which of the two has lost more?
# 3. Sample forty pairs (`Comparisons.sample`) of the eight answers. How often does DPO diverge, and
#    what does a likelihood term of the chosen do about it?
# 4. Draw the curve of the forward KL into the plane (`optimal_frontier(..., divergence=...)`). Is
#    `f_dpo` on it?
# 5. Take two answers to be one: let a pair be (A, A′) where A′ says the same in other words. What
#    do labels of such pairs teach each link?
