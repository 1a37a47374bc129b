"""Self-play preference optimisation: multiplicative weights in the preference game as a regression on win rates."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from paper_repros import _sppo_experiments as experiments
from prefsim import losses
from prefsim.backend import to_numpy
from prefsim.data import Comparisons
from prefsim.numerics import logsumexp
from prefsim.papers import Claim, Criterion, Paper, Reproduction, Run, Verdict
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit
from prefsim.solvers.games.certificates import expected_preference, mirror_step, payoff
from prefsim.testing.games import preference_games, references
from prefsim.worlds import ContextualBandit
from prefsim.worlds.game import PreferenceGame

PAPER = Paper(
    slug="sppo",
    title="Self-Play Preference Optimization for Language Model Alignment",
    arxiv="2405.00675",
    year=2024,
    family="nash",
    summary=(
        "Multiplicative weights against oneself in the preference game, each step a least-squares"
        " regression of the log-ratio to the last policy on the centred win rate. The average"
        " policy converges to the equilibrium; chosen responses go up and rejected ones down."
    ),
    implements=(
        "prefsim.losses.sppo",
        "prefsim.losses.sppo_hard",
        "prefsim.solvers.solve_nash",
        "prefsim.loops.self_play",
        "prefsim.data.Comparisons.self_play",
    ),
)

GOLDEN = np.array([[0.5, 0.8, 0.3], [0.2, 0.5, 0.9], [0.7, 0.1, 0.5]])
LAST = np.array([0.4, 0.4, 0.2])


class Step(NamedTuple):
    """Preferences ``(n, n)``, the last policy, the step η, and what stands in for log Z: itself, or η/2."""

    preference: np.ndarray
    last: np.ndarray
    step: float
    exact: bool = True

    def policy(self) -> np.ndarray:
        """Return the next log-policy."""
        return mirror_step(
            np.log(self.last), None, payoff(self.preference, self.last), step=self.step
        )


def _steps(
    *, n: int | None = None, high: float = 5.0, exact: bool = True
) -> st.SearchStrategy[Step]:
    def build(game: PreferenceGame) -> st.SearchStrategy[Step]:
        step = st.floats(0.05, high)
        return st.builds(
            Step,
            st.just(to_numpy(game.preference)),
            references(game.n_responses),
            step,
            st.just(exact),
        )

    return preference_games(n, min_n=2).flatmap(build)


def log_normaliser(case: Step) -> float:
    """Return log Z_t."""
    return float(logsumexp(np.log(case.last) + case.step * payoff(case.preference, case.last)))


def regression(case: Step, log_policy: Any) -> Any:
    """Return E_{y~π_t}(log π(y)/π_t(y) − ηP(y ≻ π_t) + log Z)² on torch, with η/2 in place of log Z unless exact."""
    import torch

    normaliser = log_normaliser(case) if case.exact else case.step / 2
    target = torch.tensor(
        np.log(case.last) + case.step * payoff(case.preference, case.last) - normaliser
    )
    return (torch.tensor(case.last) * (log_policy - target) ** 2).sum()


def _check_minimiser(case: Step) -> Verdict:
    import torch

    logits = torch.tensor(case.policy(), requires_grad=True)
    value = regression(case, torch.log_softmax(logits, 0))
    (gradient,) = torch.autograd.grad(value, logits)
    return Verdict(
        max(float(value.detach()), float(gradient.abs().max())),
        f"value {float(value.detach()):.2e}",
    )


def _check_normaliser(case: Step) -> Verdict:
    wins, eta, log_z = payoff(case.preference, case.last), case.step, log_normaliser(case)
    variance = float(case.last @ (wins - case.last @ wins) ** 2)
    # The third cumulant of a variable in [0, 1], under any tilt, is at most √3/18 in size: Taylor's
    # remainder.
    remainder = abs(log_z - eta / 2 - eta**2 * variance / 2) - eta**3 * np.sqrt(3) / 108
    return Verdict(
        max(0.0, eta / 2 - log_z, log_z - eta / 2 - eta**2 / 8, float(remainder)),
        f"log Z {log_z:.6f} at η = {eta:.3f}",
    )


class Cubic(NamedTuple):
    """A game, the last policy, and falling step sizes."""

    preference: np.ndarray
    last: np.ndarray
    steps: tuple[float, ...]


def shortfalls(case: Cubic) -> list[float]:
    """Return the largest difference in probability of the loss's minimiser from multiplicative weights, for each step size."""
    world, policy = (
        ContextualBandit(preference=case.preference[None]),
        TabularPolicy.from_probs(case.last[None]),
    )
    data, found = Comparisons.self_play(world, policy), []
    for step in case.steps:
        fitted = fit(
            policy, functools.partial(losses.sppo, beta=1 / step), data, reference=policy
        ).policy
        found.append(
            float(
                np.abs(
                    fitted.probs[0] - np.exp(Step(case.preference, case.last, step).policy())
                ).max()
            )
        )
    return found


def _check_cubic(case: Cubic) -> Verdict:
    errors = shortfalls(case)
    slope = float(np.polyfit(np.log(case.steps), np.log(np.maximum(errors, 1e-300)), 1)[0])
    return Verdict(
        abs(slope - 3), f"differences {', '.join(f'{e:.2e}' for e in errors)}: slope {slope:.3f}"
    )


def _drawn(seed: int) -> Cubic:
    last = np.random.default_rng(seed).dirichlet(np.ones(5))
    return Cubic(
        to_numpy(PreferenceGame.random(5, seed=seed).preference),
        0.8 * last + 0.04,
        (0.1, 0.05, 0.025),
    )


class Games(NamedTuple):
    """Twenty games from a seed, of a kind, a horizon, and which policy is held against the bound."""

    seed: int
    kind: str
    horizon: int
    policy: str


def _check_rate(case: Games) -> Verdict:
    found = experiments.play(
        PreferenceGame.random(6, seed=case.seed, batch_shape=(20,), kind=case.kind), [case.horizon]
    )
    gap, bound = 2 * getattr(found, case.policy)[0], 2 * found.bound[0]
    return Verdict(
        max(0.0, float(gap.max() - bound)),
        f"largest duality gap {gap.max():.4f}, bound {bound:.4f}",
    )


class Ahead(NamedTuple):
    """A step to repeat, and how many policies back the opponent stands."""

    first: Step
    back: int


def _check_monotone(case: Ahead) -> Verdict:
    policies, current = [case.first.last], case.first
    for _ in range(12):
        current = current._replace(last=np.exp(current.policy()))
        policies.append(current.last)
    later, earlier = (
        np.stack(policies[case.back :]),
        np.stack(policies[: len(policies) - case.back]),
    )
    wins = expected_preference(case.first.preference, later, earlier)
    return Verdict(max(0.0, float(0.5 - wins.min())), f"least win rate {wins.min():.6f}")


class Gradients(NamedTuple):
    """Log-ratios of a pair, their win rates, β, a common shift of the log-ratios, and the loss that is said not to see it."""

    ratios: tuple[float, float]
    wins: tuple[float, float]
    beta: float
    shift: float
    blind: str


def gradient(name: str, case: Gradients, ratios: tuple[float, float]) -> np.ndarray:
    """Return the derivatives of a loss in the two log-ratios."""
    import torch

    u = torch.tensor(ratios, dtype=torch.float64, requires_grad=True)
    zero, wins = torch.zeros(1, dtype=torch.float64), torch.tensor(case.wins, dtype=torch.float64)
    pair = losses.PairLogps(
        u[:1], u[1:], zero, zero, chosen_score=wins[:1], rejected_score=wins[1:]
    )
    if name == "ipo":
        value = losses.ipo(pair, tau=case.beta)
    else:
        value = (losses.sppo if name == "sppo" else losses.dpo)(pair, beta=case.beta)
    return to_numpy(torch.autograd.grad(value.sum(), u)[0])


def _check_gradient(case: Gradients) -> Verdict:
    centred = np.subtract(case.wins, 0.5)
    formula = np.subtract(case.ratios, centred / case.beta)
    wrong = float(np.abs(gradient("sppo", case, case.ratios) - formula).max())
    descent = -gradient("sppo", case, (0.0, 0.0))
    against = float(np.maximum(-descent * np.sign(centred), 0).max())
    moved = (case.ratios[0] + case.shift, case.ratios[1] + case.shift)
    seen = float(
        np.abs(gradient(case.blind, case, case.ratios) - gradient(case.blind, case, moved)).max()
    )
    # Derivatives of the quadratic loss are as large as 1/β: their rounding error grows with them.
    return Verdict(
        max(wrong, against, seen) / max(1.0, float(np.abs(formula).max()), 1 / case.beta),
        f"{case.blind} sees {seen:.2e}",
    )


def _gradients(blind: str, least_shift: float = -3.0) -> st.SearchStrategy[Gradients]:
    ratio, win = st.floats(-2, 2), st.floats(0, 1)
    return st.builds(
        Gradients,
        st.tuples(ratio, ratio),
        st.tuples(win, win),
        st.floats(0.05, 2),
        st.floats(least_shift, 3),
        st.just(blind),
    )


def _check_two(case: Step) -> Verdict:
    log_next = case.policy()
    moved = (log_next[0] - log_next[1]) - np.log(case.last[0] / case.last[1])
    return Verdict(
        abs(float(moved - case.step * (case.preference[0, 1] - 0.5))),
        f"log-odds move by {moved:.6f}",
    )


@st.composite
def _unfair(draw: st.DrawFn) -> Step:
    case = draw(_steps())
    cells = st.floats(0, 1)
    return case._replace(
        preference=np.array([[draw(cells) for _ in row] for row in case.preference])
    )


CLAIMS = (
    Claim(
        "C1", "identity", "The regression with the exact log Z is 0 at π_t exp(ηP(y ≻ π_t))/Z_t, where its gradient vanishes.",
        "exact regression", _steps(), _check_minimiser, 1e-12, breaks=_steps(exact=False),
    ),
    Claim(
        "C2", "inequality", "η/2 <= log Z_t <= η/2 + η²/8, and log Z_t = η/2 + η² Var/2 up to η³√3/108 (derived constant).",
        "choice of η/2 for log Z", _steps(), _check_normaliser, 1e-12, breaks=_unfair(),
    ),
    Claim(
        "C3", "rate", "With η/2 for log Z the minimiser over normalised policies misses multiplicative weights by O(η³): slope 3.",
        "SPPO loss; derived", st.just(Cubic(GOLDEN, LAST, (0.4, 0.2, 0.1))) | st.integers(0, 3).map(_drawn), _check_cubic, 0.1,
        breaks=st.just(Cubic(GOLDEN, LAST, (40.0, 20.0, 10.0))), examples=5,
    ),
    Claim(
        "C4", "rate", "The duality gap of the average of T policies is at most √(2 log n/T), with η = √(8 log n/T) and a uniform start.",
        "theorem 4.1; constant derived", st.builds(Games, st.integers(0, 99), st.sampled_from(["uniform", "cyclic", "tournament"]),
        st.sampled_from([16, 64, 256]), st.just("average")), _check_rate, 1e-12, examples=8,
        breaks=st.builds(Games, st.integers(0, 99), st.just("cyclic"), st.just(256), st.just("last")),
    ),
    Claim(
        "C5", "monotone", "P(π_{t+1} ≻ π_t) >= ½ for every exact step.", "monotone improvement; derived",
        st.builds(Ahead, _steps(), st.just(1)), _check_monotone, 1e-12, breaks=st.builds(Ahead, _steps(n=3), st.integers(2, 11)),
    ),
    Claim(
        "C6", "identity", "∂ℓ/∂u_w = u_w − (p_w − ½)/β: at the start what wins more than half goes up and the rest down. The gradients of "
        "DPO and IPO do not see a common shift of both log-ratios.", "loss; comparison with DPO and IPO",
        _gradients("dpo") | _gradients("ipo"), _check_gradient, 1e-12, breaks=_gradients("sppo", least_shift=1.0),
    ),
    Claim(
        "C7", "identity", "With two responses an exact step adds η(P(1 ≻ 2) − ½) to log π(1)/π(2), whatever π_t.", "derived",
        _steps(n=2), _check_two, 1e-12, breaks=_steps(n=3),
    ),
)  # fmt: skip

FOUND = {64: 0.0428, 256: 0.0223, 1024: 0.0109, 4096: 0.0057}


def reproduce(run: Run) -> Reproduction:
    """Play random games for several horizons; train small networks on their own samples, judged by the exact preferences."""
    horizons = (64, 256, 1024) if run.quick else (64, 256, 1024, 4096)
    rate = experiments.play(
        PreferenceGame.random(experiments.RESPONSES, seed=run.seed, batch_shape=(20,)), horizons
    )
    networks, iterations = (4, 40) if run.quick else (16, 100)
    features, preference = experiments.prompts(run.seed, networks)
    paths = {
        name: experiments.train(
            name, loss, preference, features, step=step, iterations=iterations, seed=run.seed
        )
        for name, (loss, step) in run.progress(experiments.methods().items(), "methods")
    }
    means, sppo = rate.average.mean(axis=1), paths["SPPO"]
    excess = float((rate.average - rate.bound[:, None]).max())
    right = (sppo.chosen > 0) & (sppo.rejected < 0)
    falls = {name: int((path.chosen < 0).sum()) for name, path in paths.items()}
    criteria = (
        Criterion(
            "bound of theorem 4.1",
            "e(π̄_T) <= √(log n/(2T)) in every game",
            f"largest excess {excess:.4f}",
            excess <= 0,
        ),
        Criterion(
            "rate of the average policy",
            "log–log slope in [−0.6, −0.4]",
            f"{rate.slope:.3f}",
            -0.6 <= rate.slope <= -0.4,
        ),
        Criterion(
            "size of the average's exploitability",
            "within 15% of "
            + ", ".join(f"{FOUND[t]:.4f}" for t in horizons)
            + " (other draws of games)",
            ", ".join(f"{m:.4f}" for m in means),
            bool(np.all(np.abs(means / [FOUND[t] for t in horizons] - 1) <= 0.15)),
        ),
        Criterion(
            "SPPO, K = 5 samples, small network",
            "mean log-likelihood of chosen up and of rejected down in every iteration",
            f"in {int(right.sum())} of {right.size} iterations of {networks} networks",
            bool(right.all()),
        ),
        Criterion(
            "the same is not trivial for symmetric pairwise losses",
            "DPO, set out with the same first gradient, lowers the chosen response too in some"
            " iteration",
            "chosen fell in "
            + ", ".join(f"{count} ({name})" for name, count in falls.items())
            + f" of {right.size} iterations",
            falls["SPPO"] == 0 and falls["iterative DPO"] > 0,
        ),
    )
    table: list[dict[str, str | float | int]] = [
        {"horizon T": int(t), "e(average)": float(a), "e(last)": float(b), "bound": float(c)}
        for t, a, b, c in zip(horizons, means, rate.last.mean(axis=1), rate.bound, strict=True)
    ]
    table += [
        {
            "method": name,
            "iteration": i + 1,
            "chosen, nats": round(float(path.chosen[i].mean()), 4),
            "rejected, nats": round(float(path.rejected[i].mean()), 4),
            "wins against the start": round(float(path.wins[i].mean()), 4),
        }
        for name, path in paths.items()
        for i in range(experiments.ROUNDS)
    ]
    return Reproduction(experiments.draw(rate, paths, iterations), table, criteria)
