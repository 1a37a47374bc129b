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
# # What preference learning does
#
# Losses are easy to write down; what training with them does is less so. Which pairs can the
# optimum rank? When do both likelihoods fall? Where does the mass go, and can it be foretold? Each
# question here is one function of `prefsim.analysis` or `prefsim.logic`, exact on tables, and most
# are measured on a language model while it is trained (`prefsim train --diagnostics`).

# %%
import functools

import matplotlib.pyplot as plt
import numpy as np

from prefsim import logic, losses
from prefsim.analysis import (
    displacement,
    entanglement,
    idealised_ranking_accuracy,
    kl_gradients,
    largest_ranking_beta,
    noisy_token_accuracy,
    pair_derivatives,
    sharpening_slope,
    token_rates,
    utility_probability,
)
from prefsim.data import Comparisons
from prefsim.loops import self_consuming
from prefsim.policies import NetworkPolicy
from prefsim.solvers import gradient_descent

# %% [markdown]
# ## The optimum ranks few pairs right
#
# The optimum of RLHF and of DPO stays near the reference. Where the reference ranks a pair wrongly
# by c nats, only votes with $\mathrm{logit}(\alpha) > \beta c$ turn it (Chen et al. 2024). Sequence
# log-probabilities differ by tens of nats, and so most wrong pairs stay wrong.

# %%
rng = np.random.default_rng(0)
ref_chosen, ref_rejected = rng.normal(-100, 20, (2, 2000))
betas = np.geomspace(0.003, 1, 60)
figure, axis = plt.subplots(figsize=(6, 4))
for votes in (0.6, 0.75, 0.9):
    share = idealised_ranking_accuracy(ref_chosen, ref_rejected, votes, beta=betas[:, None])
    axis.semilogx(betas, share, label=f"{votes:.0%} of the votes")
axis.axhline(0.5, color="black", linewidth=0.8)
axis.set(xlabel="β", ylabel="share of pairs", title="What the optimum ranks as people do")
axis.legend()
plt.show()

hard = largest_ranking_beta(ref_chosen, ref_rejected, 0.75)
print(
    "median of the largest β that turns a wrong pair:", np.median(hard[np.isfinite(hard)]).round(4)
)

# %% [markdown]
# ## Pulling up and pushing down
#
# A loss pulls the chosen response with $d_w = -\partial\ell/\partial\log\pi_w$ and pushes the
# rejected one with $d_l = \partial\ell/\partial\log\pi_l$. Losses of the margin do both alike.

# %%
pair = losses.PairLogps(
    chosen=np.array([-42.0]),
    rejected=np.array([-60.0]),
    ref_chosen=np.array([-40.0]),
    ref_rejected=np.array([-65.0]),
    chosen_length=np.array([30.0]),
    rejected_length=np.array([40.0]),
)
for loss in (losses.dpo, losses.ipo, losses.slic, losses.simpo, losses.orpo, losses.dpop):
    slopes = pair_derivatives(loss, pair)
    up, down = float(slopes.chosen[0]), float(slopes.rejected[0])
    print(f"{loss.__name__:6} pulls {up:8.4f}   pushes {down:8.4f}")

# %% [markdown]
# ## Both may fall
#
# A step moves the two log-probabilities through one set of parameters. To first order the chosen
# one moves by $d_w\|\nabla\log\pi_w\|^2 - d_l\langle\nabla\log\pi_w,\nabla\log\pi_l\rangle$: where
# the gradients are alike, the push wins (Yuan et al. 2024).

# %%
for inner in (0.0, 0.8, 1.2):
    found = entanglement(1.0, 2.0, inner)
    print(
        f"inner product {inner}: chosen {float(found.chosen_rate):+.1f},"
        f" rejected {float(found.rejected_rate):+.1f}, as wanted: {bool(found.wanted)}"
    )

# %% [markdown]
# So it happens on a small network that all prompts share: DPO widens the margins, and the chosen
# log-probabilities fall with the rejected ones (*likelihood displacement*, Razin et al. 2024). The
# mass goes to responses that no pair has.

# %%
start = NetworkPolicy.mlp(rng.normal(size=(12, 4)), 6, hidden=(16,), seed=0)
prompts = np.arange(12)
chosen, rejected = rng.permuted(np.tile(np.arange(6), (12, 1)), axis=1)[:, :2].T
data = Comparisons(prompts, chosen, rejected)


def drift(policy):
    now, then = (
        [table[prompts, side] for side in (chosen, rejected)]
        for table in (policy.log_probs, start.log_probs)
    )
    moved = displacement(*now, *then)
    return float(moved.chosen), float(moved.rejected)


_, path = gradient_descent(
    start,
    functools.partial(losses.dpo, beta=0.1),
    data,
    reference=start,
    optimiser="adam",
    step=1e-2,
    iterations=300,
    record=drift,
)
up, down = np.transpose(path)
figure, axis = plt.subplots(figsize=(6, 4))
axis.plot(up, label="chosen")
axis.plot(down, label="rejected")
axis.axhline(0, color="black", linewidth=0.8)
axis.set(
    xlabel="step of Adam", ylabel="drift (nats)", title="DPO on a network that all prompts share"
)
axis.legend()
plt.show()

# %% [markdown]
# ## Where the mass goes
#
# With hidden states that are parameters, the rates of all tokens have a closed form. "Never" has
# the longer embedding: training on "No" over "Never" lowers "No", and "Yes" and "Sure" gain most,
# because their embeddings are aligned with the difference of the two.

# %%
words = ["No", "Never", "Yes", "Sure", "Other"]
embedding = np.array([[2, 1, 0], [2, 2.5, 0], [2, -2, 0], [1, -2, 0.5], [-1, 0, 1]])
rates = token_rates(embedding, np.array([0.8, 0.1, 0.0]), chosen=0, rejected=1)
for word, rate in zip(words, rates.unembedding + rates.state, strict=True):
    print(f"{word:6} {rate:+.2f} nats a unit of time")

# %% [markdown]
# ## Covering modes and seeking them
#
# Maximum likelihood follows the forward divergence, reinforcement learning the reverse one (Tajwar
# et al. 2024). From a policy that is sure of the wrong response, the reverse gradient hardly sees
# the target; from one that is even, it takes mass from what is unlikely fastest.

# %%
target = np.log([0.6, 0.3, 0.1])
for policy in ([0.98, 0.01, 0.01], [1 / 3, 1 / 3, 1 / 3], [0.01, 0.01, 0.98]):
    found = kl_gradients(np.log(policy), target)
    print(
        np.round(policy, 2), "forward", -found.forward.round(3), "reverse", -found.reverse.round(3)
    )

# %% [markdown]
# ## Likely and bad
#
# What maximum likelihood learns first is an order: it lifts what was observed over what the model
# would pick (Huang and Yuan 2023). With noise in every token the order is right, and samples are
# wrong. The conversion here, a softmax of utilities at a temperature, is a candidate of ours: the
# paper's own is not known to us. Sharper helps only where quality and utility agree.

# %%
temperatures = np.array([1.0, 0.5, 0.2])
right = noisy_token_accuracy(0.15, temperatures, vocabulary_size=5)
for temperature, share in zip(temperatures, right**6, strict=True):
    print(f"τ = {temperature}: {share:.1%} of outputs of six tokens are right")

utility, against = np.array([2.0, 1.0, 0.0, -1.0]), np.array([0.0, 1.0, 1.0, 1.0])
print("sampled by", utility_probability(utility, 0.5).round(3))
for name, quality in (("utility", utility), ("another quality", against)):
    print(f"{name}: {-sharpening_slope(utility, quality, 1.0):+.3f} a unit of sharpening")

# %% [markdown]
# ## What a loss says
#
# Read with the model's probabilities as those of two statements, W "the chosen response is valid"
# and L "the rejected one is", a loss compares the weighted counts of two formulas (Richardson et
# al. 2024). Stronger statements have larger losses, and any structure is a loss to train with.

# %%
likely = np.log([0.6, 0.3])
for name in ("CEUnl", "CE", "CPO", "ORPO", "cCPO", "unCPO"):
    structure = logic.named_structure(name)
    print(f"{name:6} ρ = {float(logic.log_count_ratio(structure, likely)):+.4f}   {structure}")
print(len(logic.covering_pairs(logic.NAMED_STRUCTURES)), "arrows between the sixteen losses")

new = losses.from_structure("cCPO", reference="log_ratio", average=True)
print("cCPO with a reference, as a loss:", new(pair).round(4))

# %% [markdown]
# ## Feeding on what users keep
#
# A model that is retrained on its own samples, of which users keep the best of four, ends on what
# they like best; real data among the samples keep the rest (Ferbach et al. 2024). The recursion is
# exact: no sample is drawn.

# %%
liked = np.array([0.0, 0.2, 0.4, 0.6, 0.8])
real = np.log([0.3, 0.25, 0.2, 0.15, 0.1])
figure, axis = plt.subplots(figsize=(6, 4))
for synthetic in (np.inf, 3.0, 1.0):
    path = np.exp(self_consuming(liked, real, candidates=4, rounds=25, synthetic=synthetic))
    axis.plot(path @ np.exp(liked), label=f"curated samples on a real one: {synthetic:g}")
axis.set(xlabel="round", ylabel="mean of e^r", title="Retrained on what users keep")
axis.legend()
plt.show()

# %% [markdown]
# ## The same questions of a language model
#
# Theory says that pairs whose responses are alike pull against each other. A transformer with
# random weights is trained on two sets of pairs: in one the responses of a pair differ in their
# last token alone, in the other in every token. `diagnostics` are the functions from above,
# measured while it is trained; on the command line `prefsim train --diagnostics ches`.

# %%
from transformers import LlamaConfig

from prefsim.lm import CausalLM, TextComparisons
from prefsim.solvers import fit

size = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 4}
size |= {"num_hidden_layers": 1, "initializer_range": 0.3}
lm = CausalLM.from_config(LlamaConfig(vocab_size=40, **size), seed=0)
asked = [[i] for i in range(1, 13)]
good = np.random.default_rng(0).integers(13, 40, (12, 2))


def other(token, by):
    """Another token of those that responses are made of."""
    return (token - 13 + by) % 27 + 13


alike = np.stack([good[:, 0], other(good[:, 1], 1)], axis=-1)
unlike = np.stack([other(good[:, 0], 9), other(good[:, 1], 1)], axis=-1)
for name, bad in (("alike", alike), ("unlike", unlike)):
    heard = []
    fit(
        lm,
        functools.partial(losses.dpo, beta=0.1),
        TextComparisons(asked, good.tolist(), bad.tolist()),
        reference=lm,
        steps=40,
        batch_size=12,
        order="given",
        learning_rate=3e-3,
        warmup=0.0,
        log_every=40,
        diagnostics=["displacement", "ches", "entanglement"],
        trackers=[heard.append],
        progress=False,
    )
    before, after = heard[0], heard[-1]
    print(f"{name:6} cosine of gradients {before['gradient_cosine']:.2f},", end=" ")
    print(
        f"CHES {before['ches']:+.1f}; after 40 steps chosen {after['chosen_drift']:+.2f},", end=" "
    )
    print(f"rejected {after['rejected_drift']:+.2f} nats")

# %% [markdown]
# Both measures, taken *before* training, tell the two sets apart: where responses are alike the
# chosen one gains less by the same training.
#
# ## Exercises
#
# 1. In the first figure, how many pairs does a β ten times smaller turn? What does it cost in KL?
# 2. Train the small network with `losses.dpop` or `losses.rpo` in place of `dpo`. Does the chosen
#    likelihood still fall? Where does the mass go now?
# 3. Choose an embedding of "Yes" for which training on "No" over "Never" leaves it where it is.
# 4. Write a seventeenth loss as a structure of `prefsim.logic`. Between which of the named ones
#    does it lie, and is its loss between theirs?
# 5. Leave out the pairs of highest CHES. Does what is left displace less, or only teach less?
