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
# # What a label is worth
#
# Labels are wrong, ambiguous, or somebody else's. Which loss can bear that, which labels give
# themselves away, and what can be had without any? Each question here is one function, and the
# papers behind them are reproduced by `prefsim repro`. Real people come in where their data are at
# hand: set `PREFSIM_DATA` to the folder that holds them.

# %%
import functools

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.analysis import (
    expectation_bounds,
    grid_posterior,
    highest_density_region,
    mixture_log_prob,
)
from prefsim.analysis.class_calibration import class_loss_profile
from prefsim.containers import DistillationLogits
from prefsim.data import data_folder
from prefsim.data.json_lines import read_json_lines
from prefsim.data.properties import compare_scores, tag_responses
from prefsim.data.strength import half_samples, preference_strength, strength_groups, treat_labels
from prefsim.losses.dro import kl_dro_dual
from prefsim.numerics import log_sigmoid, sigmoid
from prefsim.raters import relevance_reward, tfidf_embedding
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward

rng = np.random.default_rng(0)

# %% [markdown]
# ## One worst case behind many losses
#
# $\lambda\log\frac1K\sum_k e^{v_k/\lambda}$ is the worst mean of $v$ over laws that pay λ for every
# nat they are from uniform. Cross-entropy, its label-robust forms and the contrastive losses are
# this function of differences of scores. λ says how much one large score counts: a wrong label has
# one.

# %%
scores = np.array([0.0, 0.2, 0.4, 4.0])
for temperature in (0.1, 1.0, 10.0):
    value = float(losses.kl_dro(scores, lambda_=temperature))
    weights = kl_dro_dual(scores, lambda_=temperature).weights
    print(f"λ = {temperature:4}: value {value:.3f}, weights {weights.round(3)}")

# %% [markdown]
# ## Calibrated or robust
#
# A loss is calibrated if every error costs; it can bear uniformly flipped labels if its sum over
# labels is constant, so that flips add the same to every prediction. Both are found by evaluating
# it (`class_loss_profile`); the absolute error alone has both, and pays with slow learning.

# %%
for name, loss in {
    "cross-entropy": losses.cross_entropy,
    "LDR-KL, λ = 1": functools.partial(losses.ldr_kl, lambda_=1.0),
    "comp-sum, τ = 1.7": functools.partial(losses.comp_sum, tau=1.7),
    "absolute error": losses.mae,
    "Crammer–Singer": losses.crammer_singer,
}.items():
    found = class_loss_profile(loss, steps=24)
    print(f"{name:18} calibrated {found.calibrated!s:5}  noise term {found.noise:.3f}")

# %% [markdown]
# ## Labels that give themselves away
#
# Fit an ensemble of reward models, each to half of the pairs, and ask those that have not seen a
# pair (Wang et al. 2024). Where they agree against its label it is probably wrong. Found is not
# gained: models that are linear, as the truth is, were hardly misled by wrong labels, and what is
# done to them changes next to nothing.

# %%
features = rng.normal(size=(600, 8))
weights = rng.normal(size=8)
chosen_first = rng.random(600) < sigmoid(3 * features @ weights)
flipped = rng.random(600) < 0.25
signs = np.where(chosen_first ^ flipped, 1.0, -1.0)
pairs = signs[:, None] * features
right = pairs @ weights > 0

halves = half_samples(len(pairs), 10, seed=0)
ensemble = fit_linear_reward(pairs, weight=halves.astype(float))
strength = preference_strength(ensemble.weights @ pairs.T, fitted_to=halves)

figure, axis = plt.subplots(figsize=(6, 4))
bins = np.linspace(strength.mean.min(), strength.mean.max(), 40)
for chosen, label in ((right, "right"), (~right, "wrong")):
    axis.hist(strength.mean[chosen], bins, alpha=0.6, label=f"{label} labels")
axis.axvline(0.0, color="black", linewidth=0.8)
axis.set(xlabel="mean margin of models that have not seen the pair", ylabel="pairs")
axis.set_title("Wrong labels have a negative strength")
axis.legend()
plt.show()

fresh = rng.normal(size=(4000, 8))


def accuracy(reward):
    return np.mean((fresh @ reward.weights > 0) == (fresh @ weights > 0))


weakest = strength_groups(strength.mean) == 0
print(f"wrong labels: {np.mean(~right):.2f}, in the weakest fifth {np.mean(~right[weakest]):.2f}")
print(f"as labelled   {accuracy(fit_linear_reward(pairs)):.3f}")
for treatment in ("flip", "soft", "margin", "flip+margin"):
    treated = treat_labels(strength.mean, treatment)
    print(f"{treatment:13} {accuracy(fit_linear_reward(pairs, treatment=treated)):.3f}")

# %% [markdown]
# People's labels: dialogues judged for harmlessness, and what code can read from an answer (its
# length, questions, refusals, apologies ...). Such models contradict a large share of the labels,
# and none of them strongly: they know too little to call people wrong.

# %%
if (folder := data_folder()) is None:
    print("no human data here")
else:
    rows = [row for _, row in read_json_lines(folder / "hh-rlhf" / "harmless-base-test.jsonl.gz")]
    chosen, rejected = (
        tag_responses([row[side].rsplit("Assistant:", 1)[-1] for row in rows])
        for side in ("chosen", "rejected")
    )
    human = compare_scores(chosen, rejected)
    halves = half_samples(len(human), 20, seed=0)
    ensemble = fit_linear_reward(human, weight=halves.astype(float))
    heard = preference_strength(ensemble.weights @ human.T, fitted_to=halves)
    figure, axis = plt.subplots(figsize=(6, 4))
    axis.hist(heard.mean, 60)
    axis.axvline(0.0, color="black", linewidth=0.8)
    axis.set(xlabel="mean margin of models that have not seen the pair", ylabel="pairs")
    axis.set_title(f"Of people's labels {np.mean(heard.mean < 0):.0%} are contradicted")
    plt.show()
    contradicted = [np.mean(heard.mean < -by) for by in (0.0, 1.0)]
    print(f"contradicted: {contradicted[0]:.3f}, by more than 1: {contradicted[1]:.3f}")

# %% [markdown]
# ## What a teacher's scores hold beyond its probabilities
#
# A constant added to all scores changes no probability. Distillation by probabilities cannot see
# it; a loss on each score can, and pulls the head accordingly (Yang et al. 2024).

# %%
pair = DistillationLogits(np.array([[2.0, 0.5, -1.0]]), np.array([[3.0, -1.0, -0.5]]))
shifted = DistillationLogits(pair.logits + 5.0, pair.teacher_logits)
for loss in (losses.distillation_kl, losses.binary_kl, losses.binary_kl_norm):
    print(f"{loss.__name__:16} {float(loss(pair)[0]):.4f}   shifted {float(loss(shifted)[0]):.4f}")

# %% [markdown]
# ## Many preferences, no training
#
# Keep the posterior of each task, and mix them as a preference asks: what the mixture holds most
# densely are the models to use (Lu et al. 2023). Bounds over all preferences lie at the corners.

# %%
grid = np.linspace(-4, 4, 201)
prior = np.full(201, -np.log(201.0))
posteriors = []
for truth in (-1.0, 0.5, 1.5):
    inputs = rng.normal(size=20)
    signs = np.where(rng.random(20) < sigmoid(truth * inputs), 1.0, -1.0)
    told = log_sigmoid(np.multiply.outer(grid, signs * inputs)).sum(axis=-1)
    posteriors.append(grid_posterior(prior, told).log_prob)
corners = np.stack(posteriors)
for preference in ([1.0, 0.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 1.0]):
    mixture = np.exp(mixture_log_prob(corners, np.array(preference)))
    region = highest_density_region(mixture, level=0.9)
    inside = grid[region.inside]
    print(preference, f"{inside.min():+.2f} to {inside.max():+.2f}, {region.inside.sum()} points")
bounds = expectation_bounds(np.exp(corners), (grid > 0).astype(float))
print(f"probability of a positive slope: {float(bounds.low):.3f} to {float(bounds.high):.3f}")

# %% [markdown]
# ## A reward without labels
#
# Relevance alone is best served by repeating the question; length alone by anything long. Their
# product with the share of distinct trigrams resists both (Kim and Seo 2024).

# %%
query = "why is the sky blue"
answers = {
    "echo": "why is the sky blue " * 6,
    "answer": "the sky is blue because air scatters the blue of sunlight more than its red",
    "off topic": "pancakes need flour and milk and eggs and a hot pan and some patience",
}
embed = tfidf_embedding([query, *answers.values()])
for name, text in answers.items():
    alone = relevance_reward(query, text, embed=embed, with_length=False, with_distinct=False)
    whole = relevance_reward(query, text, embed=embed)
    print(f"{name:9}  relevance {float(alone):.3f}   with length and repetition {float(whole):.3f}")

# %% [markdown]
# ## The same call on a language model
#
# Flip one label in five, and train a transformer with random weights on seven completions. With a
# loss that knows the rate (`losses.rdpo`) it lands where clean labels lead; plain DPO stops short,
# and smoothing shorter still (Chowdhury et al. 2024). The counterexample is a rate that is wrong.

# %%
from transformers import GPT2Config

from prefsim.data import Comparisons
from prefsim.divergences import total_variation
from prefsim.lm import CausalLM, tree_pairs, tree_policy
from prefsim.raters import flip_labels
from prefsim.solvers import fit
from prefsim.worlds import TokenTree

tree, PROMPTS, RATE = TokenTree.random(3, 2, seed=0, end_token=2), [[0]], 0.2
shape = {"n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 8, "initializer_range": 0.1}
lm = CausalLM.from_config(
    GPT2Config(vocab_size=3, bos_token_id=None, eos_token_id=2, **shape), seed=0
)
table = tree_policy(lm, tree, PROMPTS)
clean = Comparisons.population(tree.to_bandit(), table)
noisy = clean.relabelled(flip_labels(clean.prob, RATE))
dpo = functools.partial(losses.dpo, beta=0.5)
wanted = fit(table, dpo, clean, reference=table).policy.probs
asked = tree_pairs(tree, noisy, PROMPTS)
for name, loss in (
    ("dpo", dpo),
    ("smoothed dpo", functools.partial(losses.dpo, beta=0.5, label_smoothing=RATE)),
    ("rdpo, the true rate", functools.partial(losses.rdpo, beta=0.5, flip_rate=RATE)),
    ("rdpo, told 0.3", functools.partial(losses.rdpo, beta=0.5, flip_rate=0.3)),
):
    trained = fit(
        lm,
        loss,
        asked,
        reference=lm,
        steps=120,
        batch_size=len(asked),
        order="given",
        learning_rate=1e-2,
        schedule="cosine",
        warmup=0.05,
        progress=False,
    ).policy
    exact = fit(table, loss, noisy, reference=table).policy.probs
    off, rule = (
        float(total_variation(each, wanted)[0])
        for each in (tree_policy(trained, tree, PROMPTS).probs, exact)
    )
    print(f"{name:20} off by {off:.3f}, on the table {rule:.3f}")

# %% [markdown]
# ## Exercises
#
# 1. `kl_dro` of four scores with λ → 0 is their maximum, with λ → ∞ their mean. Which λ counts the
#    score of 4 twice as much as that of 0.4?
# 2. Find a loss that the profile calls calibrated and whose noise term is below .1, other than the
#    absolute error.
# 3. Let the ensemble be of models that can *not* say the truth (drop half of the features). Do its
#    treatments gain now? Do weak pairs still carry wrong labels?
# 4. Estimate the flip rate from the labels alone, and give it to `rdpo`. When can it be known?
# 5. Write an answer that `relevance_reward` likes and no person would.
