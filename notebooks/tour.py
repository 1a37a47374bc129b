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
# # A tour of prefsim
#
# From a three-armed bandit to real people's preferences: a population fit and its certificate, a
# claim and its counterexample, a game and its equilibrium, an environment from gymnasium, and human
# comparisons where they are at hand.

# %%
import functools
import os
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective, optimal_policy, planning, solve_nash
from prefsim.worlds import ContextualBandit, PreferenceGame, TabularMDP, synthetic_ballots

# %% [markdown]
# ## A three-armed bandit
#
# One prompt, three responses with rewards 1, 0.2 and 0. A Bradley–Terry rater compares them. The
# *population* holds every pair with its probability, so that the DPO objective is a finite sum and
# its minimiser must be the optimum of the KL-regularised reward — to rounding.

# %%
reward = np.array([[1.0, 0.2, 0.0]])
ref = np.array([[0.2, 0.3, 0.5]])
world = ContextualBandit(reward=reward)
reference = TabularPolicy.from_probs(ref)
data = Comparisons.population(world, reference)

result = fit(reference, functools.partial(losses.dpo, beta=0.5), data, reference=reference)
best = optimal_policy(reward, ref, beta=0.5)
print(
    "DPO on the population:", result.policy.probs.round(6), " gradient:", f"{result.grad_norm:.1e}"
)
print(
    "closed form:          ",
    best.round(6),
    " largest difference:",
    f"{np.abs(result.policy.probs - best).max():.1e}",
)

# %% [markdown]
# ## A claim and its counterexample
#
# Flip one label in five. *Robust* DPO with the right flip rate still finds the same policy (claim
# R3 of `rdpo`); plain and conservative DPO end too close to the reference. Told a wrong rate,
# robust DPO errs as well: the assumption matters.

# %%
rates = np.linspace(0, 0.4, 9)


def gap(loss, rate):
    """Distance from the optimum when labels are flipped with this rate."""
    noisy = data.relabelled(rate + (1 - 2 * rate) * data.prob)
    return np.abs(fit(reference, loss, noisy, reference=reference).policy.probs - best).max()


curves = {
    "dpo": [gap(functools.partial(losses.dpo, beta=0.5), e) for e in rates],
    "conservative dpo": [
        gap(functools.partial(losses.dpo, beta=0.5, label_smoothing=e), e) for e in rates
    ],
    "rdpo, true rate": [
        gap(functools.partial(losses.rdpo, beta=0.5, flip_rate=e), e) for e in rates
    ],
    "rdpo, told 0.1": [
        gap(functools.partial(losses.rdpo, beta=0.5, flip_rate=0.1), e) for e in rates
    ],
}
fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for name, values in curves.items():
    ax.plot(rates, values, "o-", ms=4, label=name)
ax.set(
    xlabel="share of flipped labels",
    ylabel="max |π − π*|",
    title="Only the right flip rate removes the bias",
)
ax.legend()
plt.show()
print("worst error of rdpo with the true rate:", f"{max(curves['rdpo, true rate']):.1e}")

# %% [markdown]
# Every paper's claims are checked like this on random instances — and where a claim names an
# assumption, the harness must find a violation without it: `prefsim check rdpo`.
#
# ## A game and its certificate
#
# Preferences need not come from a reward. Around a cycle no response is best, but there is a Nash
# equilibrium, and its exploitability is the certificate.

# %%
election = PreferenceGame.from_preflib(synthetic_ballots())
solution = solve_nash(election, method="lp")
for label, share in zip(election.labels, solution.policy, strict=True):
    print(f"{label:<12} {share:.3f}")
print("exploitability:", f"{solution.exploitability:.1e}")

games = PreferenceGame.random(10, seed=0, batch_shape=(1000,))
batch = solve_nash(games, method="lp")
print("a thousand games in one call, worst exploitability:", f"{batch.exploitability.max():.1e}")

# %% [markdown]
# ## An environment
#
# Gymnasium's toy environments become exact decision processes; plans carry their Bellman residual.

# %%
mdp = TabularMDP.from_gymnasium("FrozenLake-v1", discount=0.97, is_slippery=True)
plan = planning.value_iteration(mdp)
fig, ax = plt.subplots(figsize=(4, 3.4), layout="constrained")
image = ax.imshow(plan.value[:16].reshape(4, 4), cmap="viridis")
fig.colorbar(image, label="optimal value")
ax.set(title="Slippery FrozenLake", xticks=[], yticks=[])
plt.show()
print("Bellman residual:", f"{plan.residual:.1e}")

# %% [markdown]
# ## Real people
#
# In 1,793 comparisons of short trajectories in a delivery task, do people judge by the reward they
# saw, or by how far a trajectory is from optimal (its *regret*)? The arrays are found through
# `PREFSIM_DATA`; without them this part says so and ends.

# %%
folder = Path(os.environ.get("PREFSIM_DATA", "")) / "delivery"
if (folder / "privileged_control_X.npy").exists():
    from scipy.optimize import minimize_scalar

    x, y = (np.load(folder / f"privileged_control_{part}.npy") for part in ("X", "Y"))
    scores = {"partial return": x[:, 0], "regret": x[:, 0] + x[:, 2] - x[:, 1]}

    def cross_entropy(beta, score):
        """Mean loss of the logistic model with scale beta; label 1 means the second trajectory."""
        margin = beta * score
        return np.mean(y * np.logaddexp(0, -margin) + (1 - y) * np.logaddexp(0, margin))

    fitted = {
        name: minimize_scalar(cross_entropy, bounds=(0, 5), method="bounded", args=(s,))
        for name, s in scores.items()
    }
    fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    ax.bar(list(fitted), [f.fun for f in fitted.values()], color=["tab:gray", "tab:green"])
    ax.axhline(np.log(2), color="k", ls=":", label="chance, log 2")
    ax.set(ylabel="cross-entropy in nats", ylim=(0.5, 0.72), title="People judge by regret")
    ax.legend()
    plt.show()
    print({name: round(float(f.fun), 4) for name, f in fitted.items()})
else:
    print(
        "no human data here: set PREFSIM_DATA to a folder with delivery/privileged_control_*.npy (docs/how-to/real-data.md)"
    )

# %% [markdown]
# ## The same loss on tensors
#
# A loss only ever sees log-probabilities. On torch it carries its gradient, on any device.

# %%
import torch

chosen = torch.tensor([-12.5], requires_grad=True)
pair = losses.PairLogps(
    chosen=chosen,
    rejected=torch.tensor([-14.0]),
    ref_chosen=torch.tensor([-13.0]),
    ref_rejected=torch.tensor([-13.5]),
)
losses.dpo(pair, beta=0.1).sum().backward()
print("gradient with respect to the chosen log-probability:", chosen.grad.item())
print(
    "the objective at the reference is log 2:",
    float(objective(reference, losses.dpo, data, reference=reference)),
)
