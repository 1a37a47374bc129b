"""What arXiv:2403.03419 says about the loss and its optimum, as measurable instances; the last two are about log-linear worlds."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _d2o_paths as paths
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Negatives
from prefsim.losses.anchored import anchor_log_ratio
from prefsim.numerics import categorical_kl, log_softmax
from prefsim.papers import Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.testing import betas, tables


class Sets(NamedTuple):
    """Log-probabilities of rejected responses and their samples, other samples (None: the same), β and α."""

    logps: losses.AnchoredLogps
    other: np.ndarray | None
    beta: float
    alpha: float


def sets(k: int, *, other: bool = False, low: float = -15.0) -> st.SearchStrategy[Sets]:
    """Three rejected responses with ``k`` samples each, equally weighted; ``other``: a second set of log-probabilities of samples."""
    single, many = tables((3,), low=low, high=0.0), tables((3, k), low=low, high=0.0)
    logps = st.builds(losses.AnchoredLogps, single, single, many, many, st.none())
    return st.builds(Sets, logps, many if other else st.none(), betas(0.05, 2.0), betas(0.05, 2.0))


def below_instance(case: Sets) -> Verdict:
    distribution = losses.d2o(case.logps, beta=case.beta, alpha=case.alpha)
    compared = case.logps if case.other is None else case.logps._replace(samples=case.other)
    instance = losses.d2o(compared, beta=case.beta, alpha=case.alpha, level="instance")
    return Verdict(
        max(0.0, float(((distribution - instance) / (1 + instance)).max())),
        f"{distribution.mean():.6g} <= {instance.mean():.6g}",
    )


def special_cases(case: Sets) -> Verdict:
    rejected, ref_rejected, samples, ref_samples, _ = case.logps
    found = losses.d2o(case.logps, beta=case.beta, alpha=case.beta)
    pair = losses.PairLogps(samples[:, 0], rejected, ref_samples[:, 0], ref_rejected)
    dpo = losses.dpo(pair, beta=case.beta)
    silent = losses.d2o(case.logps._replace(samples=ref_samples), beta=case.beta, alpha=case.beta)
    npo = case.beta / 2 * losses.npo(pair, beta=case.beta)
    return Verdict(
        float(
            max((np.abs(found - dpo) / (1 + dpo)).max(), (np.abs(silent - npo) / (1 + npo)).max())
        )
    )


class Unlearn(NamedTuple):
    """log π_ref ``(Y,)``, β, α as a share of βπ_ref(y_l), and counts of finitely many samples (None: the exact expectation); y_l is 0."""

    log_ref: np.ndarray
    beta: float
    share: float
    counts: np.ndarray | None = None

    @property
    def rho(self) -> float:
        """π_ref(y_l)."""
        return float(np.exp(self.log_ref[0]))

    @property
    def alpha(self) -> float:
        """Weight of the rejected response."""
        return self.share * self.beta * self.rho


def solve(case: Unlearn, **options: Any) -> np.ndarray:
    """Return the fitted probabilities ``(Y,)``."""
    reference = TabularPolicy.from_logits(case.log_ref[None])
    data = Negatives.population([0], [0], reference)
    if case.counts is not None:
        data = Negatives([0], [0], data.samples, (case.counts / case.counts.sum())[None])
    loss = functools.partial(losses.d2o, beta=case.beta, alpha=case.alpha)
    return fit(reference, loss, data, reference=reference, **options).policy.probs[0]


def optimum(case: Unlearn) -> Verdict:
    probs, rho = solve(case), case.rho
    q = (case.beta * rho - case.alpha) / (case.beta - case.alpha)
    rest = np.exp(log_softmax(case.log_ref[1:]))
    error = max(
        abs(float(probs[0]) - q), float(np.abs(probs[1:] / probs[1:].sum() - rest).max()), q - rho
    )
    return Verdict(error, f"π_ref(y_l) {rho:.5f}, q* {q:.6f}, fitted {probs[0]:.6f}")


def unlearns(
    low: float, high: float, counts: st.SearchStrategy[Any] | None = None
) -> st.SearchStrategy[Unlearn]:
    return st.builds(
        Unlearn,
        tables((5,), low=-1.5, high=1.5).map(log_softmax),
        betas(0.3, 3.0),
        st.floats(low, high),
        st.none() if counts is None else counts,
    )


# Each response at least three times: the share of y_l stays above the least α/β, and the minimiser
# stays finite.
COUNTS = st.lists(st.integers(3, 6), min_size=5, max_size=5).map(np.asarray)


def against_samples(case: Unlearn, log_probs: np.ndarray) -> np.ndarray:
    """Return the exact loss of policies with log-probabilities ``(..., Y)``."""
    y = case.log_ref.size
    reference = np.broadcast_to(case.log_ref, log_probs.shape)
    shares = np.broadcast_to(np.exp(case.log_ref), (*log_probs.shape[:-1], y))
    logps = losses.AnchoredLogps(log_probs[..., 0], reference[..., 0], log_probs, reference, shares)
    return losses.d2o(logps, beta=case.beta, alpha=case.alpha)


def split(log_q: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Return the log-probabilities with π(y_l) = q and the other mass in proportions ``rest`` (log)."""
    return np.concatenate([log_q[..., None], rest + np.log(-np.expm1(log_q))[..., None]], axis=-1)


def divergent(instance: tuple[Unlearn, np.ndarray]) -> Verdict:
    case, other = instance
    log_q = np.log(case.rho) - np.asarray([0.0, 1.0, 10.0, 100.0, 1e4, 1e7])
    kept = against_samples(case, split(log_q, log_softmax(case.log_ref[1:])))
    moved = against_samples(case, split(log_q, log_softmax(other)))
    error = max(0.0, float(np.diff(kept).max()), float((kept - moved).max()))
    if case.share > 1:
        error = max(error, float(kept[-1]))
    return Verdict(
        error,
        "loss at log π(y_l) of "
        + ", ".join(f"{x:.3g}: {y:.3g}" for x, y in zip(log_q, kept, strict=True)),
    )


class Laws(NamedTuple):
    """Log-probabilities ``(Y,)`` of the policy, its reference, and the sampler (None: as the claim says)."""

    policy: np.ndarray
    reference: np.ndarray
    sampler: np.ndarray | None = None


def anchor(case: Laws, sampler: np.ndarray) -> float:
    """Return the anchor term Σ sampler(y) log π(y)/π_ref(y) as the loss computes it."""
    base = TabularPolicy.from_logits(case.policy[None])
    data = Negatives.population([0], [0], TabularPolicy.from_logits(sampler[None]))
    ref_logps = data.log_probs(TabularPolicy.from_logits(case.reference[None]))
    return float(anchor_log_ratio(data.examples(base, ref_logps, losses.AnchoredLogps)[0])[0])


def forward_kl(case: Laws) -> Verdict:
    found = anchor(case, case.reference if case.sampler is None else case.sampler)
    kl = float(categorical_kl(case.reference, case.policy))
    return Verdict(max(abs(found + kl), found), f"anchor {found:.6g}, KL(π_ref‖π) {kl:.6g}")


def online(case: Laws) -> Verdict:
    import torch

    sampler = case.policy if case.sampler is None else case.sampler
    value, reverse = anchor(case, sampler), float(categorical_kl(case.policy, case.reference))
    jeffrey = reverse + float(categorical_kl(case.reference, case.policy))
    logits = torch.tensor(case.policy[None], requires_grad=True)
    data = Negatives.population([0], [0], TabularPolicy.from_logits(sampler[None]))
    logps, _ = data.examples(TabularPolicy(logits), None, losses.AnchoredLogps)
    (gradient,) = torch.autograd.grad(anchor_log_ratio(logps).sum(), logits)
    drift = float(np.abs(to_numpy(gradient)).max())
    gap = abs(value - anchor(case, case.reference) - jeffrey)
    return Verdict(
        max(abs(value - reverse), drift, gap),
        f"value {value:.5g}, KL(π‖π_ref) {reverse:.5g}, mean gradient {drift:.3g}",
    )


def laws(sampler: bool = False) -> st.SearchStrategy[Laws]:
    law = tables((5,), low=-2.0, high=2.0).map(log_softmax)
    return st.builds(Laws, law, law, law if sampler else st.none())


LEVELS = np.log([0.1, 0.01])


def least_disturbed(instance: tuple[int, int, int, int]) -> Verdict:
    seed, n, d, levels = instance
    case, asked = paths.draw(seed, n, d), LEVELS[:levels]
    found = {
        m: paths.disturbances(case, *paths.flow(case, m, asked[-1]), asked)
        for m in ("D²O", "GA", "NPO")
    }
    shown = "; ".join(f"{m} " + ", ".join(f"{x:.4f}" for x in kl) for m, kl in found.items())
    return Verdict(
        float(max(0.0, *(found["D²O"] - np.minimum(found["GA"], found["NPO"])))),
        f"KL(rest) at 0.1ρ, 0.01ρ: {shown}",
    )


def straight(case: paths.Unlearning) -> Verdict:
    path, last = paths.flow(case, "D²O", LEVELS[0])
    step = path(last) - case.start
    direction = paths.line(case)(1.0) - case.start
    parallel = step - (step @ direction) / (direction @ direction) * direction
    return Verdict(
        float(np.linalg.norm(parallel) / np.linalg.norm(step)),
        f"|θ − θ_0| = {np.linalg.norm(step):.4f}",
    )


def expected_losses(case: Unlearn, log_policy: np.ndarray, most: int) -> tuple[np.ndarray, float]:
    """Return E L for K = 1, …, ``most`` samples of π_ref, by enumerating all n^K draws, and the exact loss."""
    y, found = case.log_ref.size, []
    for k in range(1, most + 1):
        drawn = np.indices((y,) * k).reshape(k, -1).T
        rejected, ref_rejected = (
            np.full(drawn.shape[0], law[0]) for law in (log_policy, case.log_ref)
        )
        logps = losses.AnchoredLogps(rejected, ref_rejected, log_policy[drawn], case.log_ref[drawn])
        chance = np.exp(case.log_ref[drawn].sum(axis=-1))
        found.append(float(chance @ losses.d2o(logps, beta=case.beta, alpha=case.alpha)))
    return np.asarray(found), float(against_samples(case, log_policy[None])[0])


def monotone_in_k(instance: tuple[Unlearn, np.ndarray, int]) -> Verdict:
    case, log_policy, most = instance
    found, exact = expected_losses(case, log_policy, most)
    chain = np.append(found, exact)
    return Verdict(
        max(0.0, float(np.diff(chain).max())), "E L " + ", ".join(f"{x:.5f}" for x in chain)
    )
