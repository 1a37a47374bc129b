"""What claims are checked on: drawn responses, trees with critics, restricted classes."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros.mdp.unpacking_dpo_ppo.training import optimum, shaped_rewards
from prefsim import losses
from prefsim.data import Comparisons
from prefsim.gradients import gradient
from prefsim.losses import TokenListLogps, TokenValues
from prefsim.numerics import categorical_kl, softmax
from prefsim.policies import TabularPolicy, TokenTreePolicy
from prefsim.solvers import FitResult, fit, objective
from prefsim.solvers.likelihood.linear_reward import fit_linear_reward
from prefsim.solvers.planning.tree_backup import soft_backup
from prefsim.testing import (
    bandits_with_reference,
    betas,
    tables,
    token_tree_policies,
    token_trees,
)
from prefsim.worlds import ContextualBandit, TokenTree

SHAPE = (2, 2, 3)
"""Prompts, responses and tokens of drawn batches."""

CUT_OFF = -7.5
"""The score of what did not end."""

ASKED = np.array([0.7, 0.3])
"""How often PPO is asked the two prompts of a restricted world."""

OTHERS = "the paper has no such option"
INSIDE = "the penalty is in the advantages: the loss is told that there is none"
ADAM = "what it makes is trained by Adam, whose steps know no factor"
HOW_FAR = "it says how far to go, or shows it, and not where"
OPTIMUM = "solvers.optimisers.log_linear_optimum.log_linear_optimum"
UNSEEN = {
    (f"prefsim.{where}", mutant): reason
    for where, mutant, reason in (
        ("losses.dpo", "ignores label_smoothing", OTHERS),
        ("losses.bradley_terry", "ignores label_smoothing", OTHERS),
        ("losses.bradley_terry", "ignores floor", OTHERS),
        ("losses.ppo", "no reference", INSIDE),
        ("losses.ppo", "ignores kl", INSIDE),
        ("losses.ppo", "ignores estimator", INSIDE),
        ("losses.value_loss", "half", ADAM),
        ("losses.value_loss", "double", ADAM),
        ("losses.value_loss", "attached", "returns are numbers here, without a derivative"),
        ("losses.value_loss", "ignores reduction", "the paper has the mean over tokens alone"),
        ("losses.gae", "ignores discount", "the paper has no discount"),
        ("losses.whitened", "half", ADAM),
        ("losses.whitened", "double", ADAM),
        ("losses.whitened", "ignores epsilon", "it is there against a division by zero"),
        (OPTIMUM, "ignores tolerance", HOW_FAR),
        (OPTIMUM, "ignores max_iterations", HOW_FAR),
        ("analysis.factorial.full_factorial", "ignores progress", HOW_FAR),
    )
}


class Drawn(NamedTuple):
    """Drawn responses, what a critic says of their tokens, and what lies behind their ends.

    ``tokens`` has log-probabilities, mask, scores and advantages; the tables are ``(n, K, T)``.
    """

    tokens: TokenListLogps[np.ndarray]
    values: np.ndarray
    old_values: np.ndarray
    garbage: np.ndarray

    @property
    def gain(self) -> np.ndarray:
        """Return the advantages of tokens."""
        return np.asarray(self.tokens.advantage)

    def spoilt(self, table: np.ndarray) -> np.ndarray:
        """Return a table with something else behind the ends."""
        return np.where(self.tokens.mask, table, self.garbage)

    def paid(self, scores: Any, beta: float) -> np.ndarray:
        """Return what the tokens are paid."""
        old, ref = self.tokens.old_logp, self.tokens.ref_logp
        assert old is not None
        return losses.kl_shaped_rewards(scores, old, ref, self.tokens.mask, beta=beta)

    def mixed_errors(self, paid: np.ndarray, trace: float) -> np.ndarray:
        """Return Σ_k λ^k times the critic's errors from each token on."""
        inside = np.where(self.tokens.mask, self.values, 0.0)
        after = np.concatenate([inside[..., 1:], np.zeros((*SHAPE[:2], 1))], axis=-1)
        ahead = np.arange(SHAPE[2]) - np.arange(SHAPE[2])[:, None]
        weights = np.where(ahead >= 0, trace ** np.maximum(ahead, 0), 0.0)
        return self.tokens.mask * ((paid + after - inside) @ weights.T)

    def costs(self, *, spoilt: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """Return the losses of policy and critic, with infinite values behind the ends or not."""
        tokens, values = self.tokens, self.values
        names = ("logp", "ref_logp", "old_logp", "advantage")
        if spoilt:
            tokens = tokens._replace(**{name: self.spoilt(getattr(tokens, name)) for name in names})
            values = np.where(tokens.mask, values, np.inf)
        returns = self.tokens.scores[..., None] + np.zeros_like(self.values)
        told = TokenValues(values, returns, tokens.mask)
        return losses.ppo(tokens, beta=0.1, whiten=True), losses.value_loss(told)


@st.composite
def drawn_responses(draw: st.DrawFn, *, lengths: tuple[int, ...] | None = None) -> Drawn:
    """Draw two responses of one to three tokens to each of two prompts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    counts = np.asarray(
        lengths or draw(st.tuples(*[st.integers(1, 3)] * 4)), dtype=np.int64
    ).reshape(2, 2)
    mask = np.arange(3) < counts[..., None]
    logp, ref, old = -rng.exponential(1.0, (3, *SHAPE))
    scores, advantage = rng.normal(size=SHAPE[:2]), rng.normal(size=SHAPE)
    tokens = TokenListLogps(logp, ref, mask, scores, old, advantage)
    values, old_values = rng.normal(size=(2, *SHAPE))
    return Drawn(tokens, values, old_values, 1e6 * rng.normal(size=SHAPE))


class Grown(NamedTuple):
    """A tree with its reward, a reference, and a policy that may be far from either."""

    tree: TokenTree
    reference: TokenTreePolicy
    policy: TokenTreePolicy

    def critic(self, kappa: float) -> np.ndarray:
        """Return the values of prefixes under the optimum, in units of the reward."""
        return kappa * np.asarray(
            soft_backup(self.reference, np.asarray(self.tree.reward) / kappa).value
        )

    def towards_the_best(self, kappa: float, share: float) -> TokenTreePolicy:
        """Return the optimum for a share of 1, and a mixture of log-probabilities for less."""
        best = optimum(self.tree, self.reference, kappa)
        logs = share * np.asarray(best.log_probs) + (1 - share) * np.asarray(self.policy.log_probs)
        return TokenTreePolicy.from_sequence_probs(self.tree, softmax(logs))

    def rewards(self, policy: TokenTreePolicy, kappa: float) -> np.ndarray:
        """Return what the tokens of a policy are paid."""
        return shaped_rewards(self.tree, policy, self.reference, kappa)

    def slope(self, kappa: float) -> np.ndarray:
        """Return the gradient of −(E R − κ KL) in the logits of the policy, by enumeration."""

        def cost(logits: Any) -> Any:
            import torch

            logs: Any = TokenTreePolicy(self.tree, logits).log_probs
            paid = torch.as_tensor(np.asarray(self.tree.reward)) - kappa * (
                logs - torch.as_tensor(np.asarray(self.reference.log_probs))
            )
            return -(logs.exp() * paid).sum(dim=-1).mean()

        return gradient(cost, self.policy.logits)


@st.composite
def grown(draw: st.DrawFn) -> Grown:
    """Draw a tree of up to three tokens with a reference and a policy of full support."""
    tree = draw(token_trees(scale=1.0))
    policies = token_tree_policies(tree, spread=1.5)
    return Grown(tree, draw(policies), draw(policies))


class Restricted(NamedTuple):
    """A world whose reward is no function of its first features, with all its pairs.

    ``features`` is ``(X, Y, 3)`` and ``reward`` ``(X, Y)``.
    """

    features: np.ndarray
    reward: np.ndarray

    @property
    def world(self) -> ContextualBandit:
        """The bandit."""
        return ContextualBandit(reward=self.reward)

    @property
    def reference(self) -> TabularPolicy:
        """The uniform policy."""
        return TabularPolicy.uniform(*self.reward.shape)

    def pairs(self) -> Comparisons:
        """Return all pairs of different responses with their chances."""
        return Comparisons.population(self.world, distinct=True)

    def fitted(self, kind: int) -> np.ndarray:
        """Return the Bradley–Terry reward in the first so many features, ``(X, Y)``."""
        pairs, phi = self.pairs(), self.features[..., :kind]
        apart = phi[pairs.prompt, pairs.chosen] - phi[pairs.prompt, pairs.rejected]
        # Every pair is there in both orders, each with the chance that it is labelled so.
        weights = fit_linear_reward(apart, weight=pairs.prob, ridge=1e-12).weights
        return np.asarray(phi @ weights)

    def value(self, log_policy: np.ndarray, kappa: float) -> float:
        """Return the objective of a policy for the true reward."""
        reference = np.asarray(self.reference.log_probs)
        earned = (np.exp(log_policy) * self.reward).sum(axis=-1)
        return float(ASKED @ (earned - kappa * categorical_kl(log_policy, reference)))

    def regressed(self, features: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Return the regression of the reward on features, an intercept for each prompt, ``(d,)``.

        Responses count as ``weights (X, Y)`` say, which sum to one at every prompt.
        """
        centred = features - (weights[..., None] * features).sum(axis=1, keepdims=True)
        columns = centred.reshape(-1, features.shape[-1])
        left = ((ASKED[:, None] * weights)[..., None] * centred).reshape(columns.shape)
        return np.linalg.solve(left.T @ columns, left.T @ self.reward.reshape(-1))


@st.composite
def restricted_worlds(draw: st.DrawFn) -> Restricted:
    """Draw a world of two prompts and four responses."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = rng.normal(size=(2, 4, 3))
    return Restricted(features, features @ rng.normal(size=3) + 0.5 * rng.normal(size=(2, 4)))


class Hole(NamedTuple):
    """Responses of which the last may never be compared: rewards and a reference, ``(Y,)`` each."""

    reward: np.ndarray
    start: np.ndarray

    @property
    def reference(self) -> TabularPolicy:
        """The reference as a policy."""
        return TabularPolicy.from_probs(self.start[None])

    @property
    def last(self) -> np.ndarray:
        """Which response is the last, ``(Y,)``."""
        return np.arange(self.reward.size) == self.reward.size - 1

    def fitted(self, seen: int, beta: float) -> tuple[np.ndarray, float]:
        """Return DPO of all pairs of some first responses, and what its loss sees of the last."""
        world = ContextualBandit(reward=self.reward[None, :seen])
        data, dpo = Comparisons.population(world, distinct=True), partial(losses.dpo, beta=beta)
        reference = self.reference
        lifted = TabularPolicy(reference.logits + 2.0 * self.last)
        change = objective(lifted, dpo, data, reference=reference) - objective(
            reference, dpo, data, reference=reference
        )
        found = fit(reference, dpo, data, reference=reference).policy
        return np.asarray(found.probs)[0], float(change)

    def left(self, beta: float) -> np.ndarray:
        """Return the policy whose logits of seen responses sum to what they summed to."""
        centred = np.where(self.last, 0.0, self.reward - self.reward[:-1].mean())
        mass = self.start * np.exp(centred / beta)
        return mass / mass.sum()


@st.composite
def holes(draw: st.DrawFn) -> Hole:
    """Draw rewards and a reference of three to five responses."""
    n = draw(st.integers(3, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return Hole(rng.normal(size=n), rng.dirichlet(np.full(n, 3.0)) * 0.9 + 0.1 / n)


def fitted_dpo(
    world: ContextualBandit, reference: TabularPolicy, beta: float
) -> tuple[FitResult, float]:
    """Return DPO of all pairs, and the entropy of their labels in nats."""
    data = Comparisons.population(world, reference)
    found = fit(reference, partial(losses.dpo, beta=beta), data, reference=reference)
    chance = data.prob
    entropy = -(chance * np.log(chance) + (1 - chance) * np.log1p(-chance)) @ data.weight
    return found, float(entropy)


# --- ways that are right and ways that are not ---


def replaced(scores: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Return scores of which those of cut-off responses are replaced."""
    return losses.finished_scores(scores, ended, unfinished=CUT_OFF)


def added(scores: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Return scores to which a penalty is added."""
    return scores + np.where(ended, 0.0, CUT_OFF)


def mean_of_tokens(values: np.ndarray, mask: Any) -> float:
    """Return the mean over the tokens of a batch."""
    return float(losses.reduced(values, mask, reduction="batch").mean())


def mean_of_places(values: np.ndarray, mask: Any) -> float:
    """Return the mean over all places, of tokens or not."""
    return float(values.mean())


# --- where the instances of claims come from ---

KAPPAS, TRACES = st.floats(0.2, 2.0), st.floats(0.0, 1.0)
REDUCTIONS = st.sampled_from(("batch", "response", "sum"))
MEANS = st.tuples(REDUCTIONS, st.sampled_from((1.0, 0.7)))
DRAWN = {"drawn": drawn_responses()}
UNEVEN = drawn_responses(lengths=(1, 2, 3, 2))
GROWN = {"grown": grown(), "kappa": KAPPAS}
RESTRICTED = {"restricted": restricted_worlds(), "kappa": st.floats(0.3, 1.0)}
TWO = {
    "instance": bandits_with_reference(n_contexts=1, max_responses=3, scale=1.5),
    "beta": betas(0.5, 2.0),
}
ONE_PAIR = TWO | {"instance": bandits_with_reference(n_contexts=1, n_responses=2, scale=1.5)}
HOLES = {"hole": holes(), "beta": betas(0.5, 2.0)}
SCORES = tables(SHAPE[:2], low=1.0, high=5.0)
COMPARED = {"rewards": tables((2, 3), low=-4.0, high=4.0), "margin": st.floats(0.0, 2.0)}
STEPS = {**DRAWN, "clip": st.floats(0.01, 0.9), "reduction": REDUCTIONS}
