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
# # The best answer when preferences go in circles
#
# A reward ranks all answers. People who are asked about pairs need not: most may prefer A to B, B
# to C, and C to A. Which policy should such people be given, and how is it found by training? Each
# step here is exact, and the last one trains a language model. The map of the Nash methods
# (`docs/explanation/nash-map.md`) has the methods side by side; `prefsim list --family nash` names
# the papers.

# %%
import functools

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.analysis import bradley_terry_winner
from prefsim.data import Comparisons
from prefsim.divergences import total_variation
from prefsim.loops import play_rounds
from prefsim.numerics import categorical_kl
from prefsim.policies import TabularPolicy
from prefsim.solvers import (
    decompose_skew,
    exploitability,
    fit,
    nash_path,
    preference_scores,
    solve_nash,
)
from prefsim.solvers.games.certificates import geometric_mixture
from prefsim.solvers.games.updates import mirror_descent_update, mwu_update
from prefsim.worlds import PreferenceGame, TokenTree, textbook_game

rng = np.random.default_rng(0)
NAMES = ("rock", "scissors", "paper")

# %% [markdown]
# ## A reward is an answer to the wrong question
#
# Three answers in a circle, with unequal odds. Fit a Bradley–Terry reward to their comparisons, as
# a reward model would be. Its favourite depends on *who wrote the answers that were compared*: here
# are a thousand laws of the sampler, and the share of them in which each answer has the largest
# reward.

# %%
game = textbook_game()
P = np.asarray(game.preference)
print(P)
samplers = rng.dirichlet(np.ones(3), size=1000)
favourite = bradley_terry_winner(P, samplers)
for name, share in zip(NAMES, np.bincount(favourite, minlength=3) / 1000, strict=True):
    print(f"{name:9} is the reward model's favourite for {share:.0%} of samplers")

# %% [markdown]
# A policy that is preferred to *every* other at least half of the time needs no sampler. It always
# exists (von Neumann): the game is symmetric, and its value is one half. Its certificate is its
# exploitability, what the best response wins beyond that half.

# %%
nash = solve_nash(game, method="lp")
print("equilibrium:", ", ".join(f"{n} {p:.3f}" for n, p in zip(NAMES, nash.policy, strict=True)))
print(f"exploitability {nash.exploitability:.0e}, of each pure answer:", end=" ")
print(exploitability(P, np.eye(3)))

# %% [markdown]
# ## The surprise: self-play runs away
#
# Let a policy play itself, and raise each answer by how often it wins:
# $\pi_{t+1}\propto\pi_t\,e^{\eta P\pi_t}$. This is multiplicative weights; SPPO and DNO make this
# step by regression, and what they return is the last policy.

# %%
ROUNDS, STEP, TAU = 2000, 0.5, 0.1
start = np.array([0.5, 0.25, 0.25])
options = {"iterations": ROUNDS, "initial": start, "step": STEP}
paths = {
    "multiplicative weights": nash_path(game, method="mwu", **options),
    "with a KL penalty": nash_path(
        game, method="mirror_descent", tau=TAU, **options | {"step": 0.3}
    ),
    "extragradient": nash_path(game, method="egpo", **options),
}
corners = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
COLOURS = dict(zip(paths, ("#D55E00", "#0072B2", "#009E73"), strict=True))

figure, axes = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
axes[0].fill(*corners.T, fill=False, edgecolor="0.6")
for name, (x, y), shift in zip(NAMES, corners, ((0, -12), (0, -12), (0, 5)), strict=True):
    axes[0].annotate(name, (x, y), shift, textcoords="offset points", ha="center")
for name, path in paths.items():
    wide = 3 if name == "with a KL penalty" else 1
    points = (path.policy @ corners).T
    axes[0].plot(*points, color=COLOURS[name], linewidth=wide, label=name, zorder=1 + wide)
    gap = np.maximum(path.exploitability, 1e-12)
    axes[1].loglog(path.iteration[1:], gap[1:], color=COLOURS[name], label=name)
away = paths["multiplicative weights"]
axes[1].loglog(
    away.iteration[1:],
    away.average_exploitability[1:],
    "--",
    color=COLOURS["multiplicative weights"],
    label="multiplicative weights, average",
)
axes[0].plot(*(nash.policy @ corners), "k*", markersize=11, label="equilibrium", zorder=6)
axes[0].set(aspect="equal", title="The last policy circles outwards")
axes[0].axis("off")
axes[0].legend(loc="upper left", bbox_to_anchor=(-0.15, 1.0), fontsize=8)
axes[1].set(
    xlabel="round", ylabel="exploitability", title="Its average settles; extragradient arrives"
)
axes[1].legend(fontsize=8)
plt.show()
for name, path in paths.items():
    last, mean = float(path.exploitability[-1]), float(path.average_exploitability[-1])
    print(f"{name:23} exploitability of the last policy {last:.1e}, of the average {mean:.1e}")

# %% [markdown]
# The theorem, in two halves. Where the equilibrium $\pi^*$ plays every answer,
# $\mathrm{KL}(\pi^*\|\pi_t)$ rises in every round, whatever the step: a policy that plays itself
# *leaves*. And the mean of what was played is exploited by at most $\log n/(\eta T)+\eta/8$, which
# is the regret of Hedge. Both, on a thousand games at once.

# %%
circles = PreferenceGame.random(3, seed=0, batch_shape=(1000,), kind="cyclic")
exact = solve_nash(circles, method="lp")
assert exact.policy.min() > 0
path = nash_path(circles, method="mwu", iterations=200, step=STEP)
distance = categorical_kl(np.log(exact.policy), np.log(path.policy))
print(f"KL to the equilibrium: least change in a round {np.diff(distance, axis=0).min():+.1e}")
assert (np.diff(distance, axis=0) > -1e-12).all()

tens = PreferenceGame.random(10, seed=1, batch_shape=(1000,))
T, eta = 400, np.sqrt(8 * np.log(10) / 400)
path = nash_path(tens, method="mwu", iterations=T, step=eta, record=T)
bound = np.log(10) / (eta * T) + eta / 8
worst = path.average_exploitability[-1].max()
print(f"exploitability of the average: worst of 1000 {worst:.4f}, promised {bound:.4f}")
assert (path.average_exploitability[-1] <= bound).all()

# %% [markdown]
# An average of *policies* is of no use to a language model: it would be a mixture of all
# checkpoints. Hence the two repairs of the figure, and nearly every paper of the family is one of
# them.
#
# ## Repair one: stay near the reference
#
# With a penalty $\tau\,\mathrm{KL}(\pi\|\mu)$ for both players the game is strongly monotone, and
# its equilibrium $\pi^*_\tau$ is where the last policy goes, at a linear rate for steps up to
# $4\tau/(1+4\tau^2)$. It is another equilibrium: in the game without penalty it may be exploited,
# though by no more than $\tau\log n$ where μ is uniform.

# %%
print("   τ    exploitability of π*_τ    at most")
for tau in (1.0, 0.3, 0.1, 0.03, 0.01):
    found = solve_nash(game, method="regularised", tau=tau)
    print(f"{tau:5}    {float(found.exploitability):.4f}                   {tau * np.log(3):.4f}")
    assert found.exploitability <= tau * np.log(3)

# %% [markdown]
# The counterexample is the step. The bound is safe and not tight; but six times as far, on a circle
# that is decided, the last policy keeps circling whatever the penalty promised.

# %%
decided = PreferenceGame([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
goal = solve_nash(decided, method="regularised", tau=TAU).policy
largest = 4 * TAU / (1 + 4 * TAU**2)
state, reference = np.log(start), np.full(3, -np.log(3))
for factor in (1, 5, 6):
    play = (state,)
    for _ in range(3000):
        play = mirror_descent_update(
            play, decided.preference, reference, step=factor * largest, tau=TAU
        )
    away = float(total_variation(np.exp(play[0]), goal))
    print(f"{factor} times the largest step: total variation to π*_τ {away:.1e}")

# %% [markdown]
# Nash-MD steps from the mixture $\pi^{1-\eta\tau}\mu^{\eta\tau}$, and plays against it. With a step
# that does not fall, where does it end? Not at $\pi^*_\tau$: its mixture ends at the equilibrium of
# the penalty $\tau/(1-\eta\tau)$.

# %%
eta = 0.5
last = solve_nash(game, method="nash_md", tau=TAU, step=eta, max_iterations=5000, tolerance=0.0)
mixed = np.exp(geometric_mixture(np.log(last.policy), reference, weight=eta * TAU))
for name, tau in (("τ", TAU), ("τ/(1 − ητ)", TAU / (1 - eta * TAU))):
    wanted = solve_nash(game, method="regularised", tau=tau).policy
    print(f"equilibrium of {name:10}", end=" ")
    print(f"from Nash-MD's last policy {float(total_variation(last.policy, wanted)):.1e},", end=" ")
    print(f"from its mixture {float(total_variation(mixed, wanted)):.1e}")

# %% [markdown]
# ## Repair two: look one step ahead
#
# The extragradient method plays against a trial step of itself (EGPO). Its last policy converges
# with a penalty, and without. Momentum looks ahead as well, but in the direction in which the
# policy *went*: in a game with a best answer it saves rounds, on a circle it goes away faster.

# %%
transitive = PreferenceGame.from_reward([1.0, 0.5, 0.0])
for name, each in (("a reward decides", transitive), ("a circle", game)):
    print(name)
    for method, options in (("mwu", {}), ("apo", {"momentum": 0.5}), ("egpo", {})):
        path = nash_path(each, method=method, iterations=60, step=0.5, initial=start, **options)
        ends = float(path.exploitability[-10:].mean())
        print(f"   {method:5} mean exploitability of the last ten of 60 policies {ends:.1e}")

# %% [markdown]
# ## A step is a loss
#
# A language model has no table to multiply by $e^{\eta P\pi}$. But the step is the *minimiser of a
# loss* on pairs that the last policy drew, and of labels alone: the square loss of INPO knows
# neither P nor win rates.

# %%
world = game.to_bandit()
policy, uniform = TabularPolicy.from_probs(start[None]), TabularPolicy.uniform(1, 3)
pairs = Comparisons.self_play(world, policy)
(step,) = mirror_descent_update((policy.log_probs,), P, uniform.log_probs, step=STEP, tau=TAU)
(plain,) = mwu_update((policy.log_probs,), P, uniform.log_probs, step=STEP, tau=0.0)
for name, loss, reference_of, wanted in (
    ("inpo", functools.partial(losses.inpo, step=STEP, tau=TAU), uniform, step),
    ("dno", functools.partial(losses.dno, step=STEP), policy, plain),
    ("sppo", functools.partial(losses.sppo, beta=1 / STEP), policy, plain),
):
    fitted = fit(policy, loss, pairs, reference=reference_of).policy
    apart = float(np.abs(fitted.probs - np.exp(wanted)).max())
    print(f"{name:5} minimiser and the exact step differ by {apart:.0e}")

# %% [markdown]
# SPPO's is near the step and not on it: it centres win rates by ½ where the step has a normaliser,
# and the two differ by $O(\eta^3)$. Halve the step, and an eighth is left:

# %%
for eta in (0.4, 0.2, 0.1):
    fitted = fit(policy, functools.partial(losses.sppo, beta=1 / eta), pairs, reference=policy)
    (wanted,) = mwu_update((policy.log_probs,), P, uniform.log_probs, step=eta, tau=0.0)
    print(f"η = {eta}: {np.abs(fitted.policy.log_probs - wanted).max():.2e}")

# %% [markdown]
# ## How much must a preference model know?
#
# A reward is one number an answer. Give each answer a vector, and let a fixed skew form of two
# vectors be the log-odds of the preference (GPM): two numbers hold a circle. Ten answers of drawn
# preferences need all ten, and how much fewer of them miss is in the spectrum.

# %%
form = decompose_skew(preference_scores(P))
print(f"three answers in a circle: rank {int(form.rank)}, error {float(form.residual):.0e}")
scores = preference_scores(np.asarray(PreferenceGame.random(10, seed=5).preference))
for dim in (2, 4, 6, 8, 10):
    cut = decompose_skew(scores, dim=dim)
    print(
        f"ten answers, {dim:2} numbers each: log-odds are off by at most {float(cut.residual):.2f}"
    )

# %% [markdown]
# ## The same calls on a language model
#
# A transformer with random weights whose completions are the answers: seven of at most two tokens.
# INPO plays rounds: the model's own pairs, labelled, and the loss from above. The exact updates
# know nothing of gradient steps, and the model goes where they go.

# %%
from transformers import GPT2Config

from prefsim.lm import CausalLM, trainer, tree_pairs, tree_policy

tree, PROMPTS = TokenTree(3, 2, end_token=2), [[0]]
many = PreferenceGame.random(tree.n_sequences, seed=0, batch_shape=(1,), kind="cyclic")
shape = {"n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 8, "initializer_range": 0.1}
lm = CausalLM.from_config(
    GPT2Config(vocab_size=3, bos_token_id=None, eos_token_id=2, **shape), seed=0
)
eta, tau = 0.8, 0.3


def judged(policy, opponent, rng):
    """All pairs of the model, each with its chance to be drawn and to win."""
    table = tree_policy(policy, tree, PROMPTS)
    return tree_pairs(tree, Comparisons.self_play(many.to_bandit(), table), PROMPTS)


first = tree_policy(lm, tree, PROMPTS)
goal = solve_nash(many, method="regularised", reference=first.probs, tau=tau)
exact = nash_path(
    many, method="inpo", iterations=5, reference=first.probs, initial=first.probs, tau=tau, step=eta
)
rounds = play_rounds(
    lm,
    judged,
    functools.partial(losses.inpo, step=eta, tau=tau),
    rounds=5,
    seed=0,
    reference=lm,
    train=trainer(
        steps=40, batch_size=28, order="given", learning_rate=5e-3, warmup=0.05, progress=False
    ),
)
print("round   model and exact update   model and equilibrium   exploitability")
for t, played in enumerate(rounds, start=1):
    probs = tree_policy(played.policy, tree, PROMPTS).probs
    step = float(total_variation(probs, exact.policy[t])[0])
    left = float(total_variation(probs, goal.policy)[0])
    print(f"{t:5}   {step:22.3f}   {left:21.3f}   {exploitability(many, probs)[0]:14.3f}")

# %% [markdown]
# With completions drawn and judged in place of all pairs this is `prefsim.lm.draw_pairs`, and on
# the command line `prefsim rounds --loss inpo`.
#
# ## Exercises
#
# 1. Copy an answer: add a fourth row to `game` that is `paper` once more. What becomes of the
#    equilibrium, and what of the reward model's favourites? (`solve_nash` returns the equilibrium
#    of largest support; which others are there?)
# 2. Return the average over the second half of the rounds only. Does the bound of Hedge still hold?
# 3. Let the penalty of mirror descent fall with the rounds, by solving again from the last policy.
#    That is COMAL (`method="comal"`): how many of its rounds reach an exploitability of 1e-6, and
#    what does each of them cost?
# 4. Draw labels in place of `Comparisons.self_play` (`prefsim.data.drawn.labelled_pairs`). How many
#    pairs a round keep INPO's last policy within .05 of $\pi^*_\tau$?
