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
# # Whose preferences?
#
# Labels come from people who disagree, and a reward model is fitted to all of them. Whom does it
# serve? What would an election have chosen? And what can a policy do for groups that want different
# things? Exact worlds first, then people: an election, listeners to music, and students who compare
# schools, where their data are at hand (`PREFSIM_DATA`). The map of people
# (`docs/explanation/people-map.md`) says what to use when.

# %%
import functools

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize_scalar

from prefsim import losses
from prefsim.analysis import borda_scores, bradley_terry_winner, elect
from prefsim.data import Comparisons, data_folder
from prefsim.data.paired import read_paired
from prefsim.divergences import total_variation
from prefsim.numerics import categorical_kl
from prefsim.policies import TabularPolicy
from prefsim.raters import (
    UserPopulation,
    bradley_terry_gap,
    mixture_preference,
    pairwise_preference,
)
from prefsim.solvers import fit, fit_bradley_terry, gibbs_log_policy, solve_nash
from prefsim.worlds import ContextualBandit, PreferenceGame, TokenTree
from prefsim.worlds.ballots import preference_of_ranks

rng = np.random.default_rng(0)

# %% [markdown]
# ## Nobody is confused, and all of them are
#
# Three users, each with a reward and Bradley–Terry labels. Asked in equal shares, together they
# prefer A to B, B to C, and C to A (Condorcet 1785). No reward says that. How far from one are
# they?

# %%
rewards = 2.0 * np.array([[2.0, 1.0, 0.0], [0.0, 2.0, 1.0], [1.0, 0.0, 2.0]])
users = UserPopulation(np.full(3, 1 / 3), pairwise_preference(rewards))
pairs = users.preference[[0, 1, 2], [1, 2, 0]]
print("A over B {:.3f}, B over C {:.3f}, C over A {:.3f}".format(*pairs))
for name, table in (("one user", users.preferences[0]), ("all three", users.preference)):
    gap = float(bradley_terry_gap(table))
    print(f"{name:9} distance from a Bradley–Terry rater {gap:.3f} nats")

# %% [markdown]
# ## What a reward model is: a count
#
# Fit a reward to labels of such people all the same. Where pairs are drawn evenly, the theorem is
# that it ranks answers by how often they win, which is *Borda's count* of 1770: an election method,
# and not the one that respects majorities. Checked on a thousand electorates, and then held against
# the answer that beats every other one, where there is such a one (fifteen voters, four answers).

# %%
orders = rng.permuted(np.tile(np.arange(4), (1000, 15, 1)), axis=-1)
electorates = PreferenceGame(preference_of_ranks(orders))
counts = np.asarray(electorates.preference) * (1 - np.eye(4))
fitted = fit_bradley_terry(counts + 1e-3 * (1 - np.eye(4))).reward  # nobody wins for certain
borda = borda_scores(electorates.preference)
ahead, better = (np.sign(each[:, :, None] - each[:, None]) for each in (fitted, borda.round(9)))
print(f"pairs of answers ranked against Borda: {np.sum((ahead != better) & (better != 0))}")

winner = electorates.condorcet_winner()
some = winner >= 0
short = fitted.max(axis=-1) - fitted[np.arange(1000), winner] > 1e-6
print(f"electorates in which one answer beats all others: {some.mean():.0%}")
print(f"of these the reward model prefers another one in {short[some].mean():.0%}")
played = solve_nash(electorates, method="lp").policy
print(f"and the equilibrium in {np.mean(played[some, winner[some]] < 1 - 1e-9):.0%}")

# %% [markdown]
# ## The surprise: copies vote
#
# Add answers that say the same as one that is there, as a language model does all day. Nobody's
# opinion has changed. The reward model's favourite changes, and the equilibrium gives all copies
# together what the one had.

# %%
NAMES = np.array(["A", "B", "C"])
circle = np.array([[0.5, 0.8, 0.35], [0.2, 0.5, 0.9], [0.65, 0.1, 0.5]])
print("copies of C   the reward prefers   equilibrium of A, B and all of C")
for copies in (1, 2, 4, 8):
    which = np.array([0, 1, *[2] * copies])
    P = circle[which[:, None], which]
    favourite = NAMES[which[int(bradley_terry_winner(P, np.full(len(P), 1 / len(P))))]]
    shares = np.bincount(which, weights=solve_nash(P, method="lp").policy)
    print(f"{copies:11}   {favourite:18}   {shares.round(3)}")

# %% [markdown]
# The counterexample to elections, in turn: they do not hear how much. Six in ten people gain a
# little by A and four in ten lose a lot. Bradley–Terry labels carry strength while it is small, and
# forget it where people are sure.

# %%
for mild, strong in ((0.2, 1.0), (0.2, 4.0), (4.0, 20.0)):
    gains = np.array([mild, -strong])
    chances = pairwise_preference(np.stack([gains, [0.0, 0.0]], axis=-1))
    pooled = float(mixture_preference(np.array([0.6, 0.4]), chances)[0, 1])
    print(f"A is worth {0.6 * mild - 0.4 * strong:+.2f} more on average; labels for A {pooled:.2f}")

# %% [markdown]
# ## Two groups, one policy
#
# Thirty answers, and two groups that want different ones of them. What a group gets from a policy
# is its expected reward less $\beta\,\mathrm{KL}(\pi\|\mu)$. All that *one* policy can give is
# below a curve, whose points are optima of weighted rewards.

# %%
BETA, N = 0.5, 30
place = np.linspace(-1, 1, N)
wanted = np.stack([2 - 4 * (place + 0.7) ** 2, 2 - 2 * (place - 0.5) ** 2])
mu = np.full(N, -np.log(N))


def best_for(weight, rewards=wanted):
    """The optimum where the first group's reward counts so much, and its value."""
    return gibbs_log_policy(weight * rewards[0] + (1 - weight) * rewards[1], mu, beta=BETA)


def fairest(rewards=wanted):
    """The weight whose optimum is worth least: that of the policy whose worse group has most."""
    return minimize_scalar(
        lambda weight: BETA * float(best_for(weight, rewards)[1]),
        bounds=(0, 1),
        method="bounded",
        options={"xatol": 1e-10},
    )


def given(log_policy):
    """What each of the groups gets."""
    return np.exp(log_policy) @ wanted.T - BETA * float(categorical_kl(log_policy, mu))


def taught(shares):
    """What DPO makes of the labels of both, in these shares."""
    world = ContextualBandit(
        preference=mixture_preference(shares, pairwise_preference(wanted))[None]
    )
    start = TabularPolicy(mu[None])
    data = Comparisons.population(world, start)
    loss = functools.partial(losses.dpo, beta=BETA)
    return fit(start, loss, data, reference=start).policy.log_probs[0]


dual = fairest()
policies = {
    "for the first": best_for(1.0)[0],
    "for the second": best_for(0.0)[0],
    "mean reward": best_for(0.5)[0],
    "max–min": best_for(dual.x)[0],
    "one of two at random": np.logaddexp(best_for(1.0)[0], best_for(0.0)[0]) - np.log(2),
    "pooled labels, 50 : 50": taught(np.array([0.5, 0.5])),
    "pooled labels, 60 : 40": taught(np.array([0.6, 0.4])),
}
SHIFTS = {
    "for the first": ((-8, -3), "right"),
    "for the second": ((8, -14), "left"),
    "one of two at random": ((-8, -3), "right"),
    "pooled labels, 50 : 50": ((-9, -3), "right"),
    "pooled labels, 60 : 40": ((-6, -14), "right"),
    "max–min": ((8, 5), "left"),
}
curve = np.array([given(best_for(w)[0]) for w in np.linspace(0, 1, 200)])
figure, axis = plt.subplots(figsize=(7, 5), layout="constrained")
axis.plot(*curve.T, color="0.5", label="most that one policy can give")
axis.axline((0, 0), slope=1, color="0.8", linewidth=0.8)
for name, policy in policies.items():
    first, second = given(policy)
    colour = "#D55E00" if "labels" in name else "#0072B2"
    axis.plot(first, second, "o", color=colour)
    shift, side = SHIFTS.get(name, ((8, 3), "left"))
    axis.annotate(name, (first, second), shift, textcoords="offset points", ha=side)
    print(
        f"{name:23} first {first:+.3f}, second {second:+.3f}, the worse {min(first, second):+.3f}"
    )
axis.set(xlabel="what the first group gets", ylabel="what the second group gets", xlim=(-4.3, 2))
axis.set_title("Labels that are pooled serve neither as well as could be")
axis.legend(loc="lower left")
plt.show()

# %% [markdown]
# Pooled labels end below the curve: there is a policy that both groups would rather have. To draw
# one of the two groups' policies at random is worse still. And the policy whose worse-off group has
# most is the optimum of *some* weighted reward, that which makes the best weighted optimum least:
# the weights are a dual, and the gap certifies both.

# %%
gap = float(dual.fun) - float(given(policies["max–min"]).min())
print(f"weight of the first group {dual.x:.3f}, duality gap {gap:.0e}")
equal = float(np.ptp(given(policies["max–min"])))
print(f"the two groups differ by {equal:.0e}")

# %% [markdown]
# The counterexample is to fairness by arithmetic. Nobody knows the unit of another's reward; let
# the second group count its own in thirds, and the policy moves, though nobody's preference between
# two answers did.

# %%
thirds = np.stack([wanted[0], wanted[1] / 3])
other = fairest(thirds)
moved = np.exp(best_for(other.x, thirds)[0])
moved = float(total_variation(moved, np.exp(policies["max–min"])))
print(f"weight of the first group {other.x:.3f}, total variation to before {moved:.2f}")

# %% [markdown]
# ## People
#
# Developers have ranked candidates, students have compared six schools, listeners eight
# reproductions of music. Is there a circle among people?


# %%
def shares_won(judged):
    """Return how often each item was preferred to each other one."""
    n = len(judged.items)
    won = np.zeros((n, n))
    np.add.at(won, (judged.first, judged.second), judged.prob)
    np.add.at(won, (judged.second, judged.first), 1 - judged.prob)
    met = won + won.T
    return np.where(met > 0, won / np.maximum(met, 1), 0.5)


def told(name, game):
    """Print who wins."""
    found = elect(game)
    row = found.row()
    print(f"{name:14} beats all others: {row['Condorcet winner']:18}", end=" ")
    print(f"Borda: {found.labels[int(borda_scores(game.preference).argmax())]:18}", end=" ")
    print(f"equilibrium: {row['equilibrium']}")
    return found


if (folder := data_folder()) is None:
    print("no human data here")
else:
    for year, number in (("Debian 2002", 1), ("Debian 2012", 7)):
        told(year, PreferenceGame.from_preflib(folder / "preflib" / f"00002-{number:08}.soi"))
    schools = read_paired(folder / "paired" / "cems_choice.csv.gz")
    music = read_paired(folder / "paired" / "sound_quality.csv.gz")
    told("schools", PreferenceGame(shares_won(schools), labels=schools.items))
    sounds = told("music", PreferenceGame(shares_won(music), labels=music.items))
    some = np.flatnonzero(sounds.equilibrium > 1e-9)
    table = np.asarray(sounds.game.preference)
    for i, j in ((a, b) for a in some for b in some if table[a, b] > 0.5):
        print(f"   {sounds.labels[i]:8} over {sounds.labels[j]:8} {table[i, j]:.3f}")
    listeners = np.unique(music.about["rater"])
    own = [elect(PreferenceGame(shares_won(music.where(rater=each)))) for each in listeners]
    alone = [each.condorcet_winner for each in own]
    circling = np.mean(np.array(alone) < 0)
    print(f"of {len(listeners)} listeners {circling:.0%} go in circles themselves;")
    first = np.bincount([each for each in alone if each >= 0], minlength=len(music.items))
    liked = [f"{name} {count}" for name, count in zip(music.items, first, strict=True) if count]
    print("what beats all others, by listener:", ", ".join(liked))

# %% [markdown]
# The listeners' circle hangs on thousandths: it is there, and nobody should build on it. What is
# large is something else. Ask *who* compared the schools.

# %%
if folder is not None:
    LANGUAGES = {"spanish": "Barcelona", "italian": "Milano", "french": "Paris"}
    COLOURS = {"spanish": "#D55E00", "italian": "#009E73", "french": "#0072B2", "all": "0.3"}
    groups = {"all": schools} | {each: schools.where(**{each: "good"}) for each in LANGUAGES}
    figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
    for row, (name, group) in enumerate(groups.items()):
        wins = borda_scores(shares_won(group))
        places = np.arange(len(schools.items)) + 0.14 * (row - 1.5)
        label = "all students" if name == "all" else f"those who speak {name.title()} well"
        axis.plot(places, wins, "o", color=COLOURS[name], label=label)
        print(f"{name:8} {len(np.unique(group.about['rater'])):3} students,", end=" ")
        favourite = elect(PreferenceGame(shares_won(group), labels=schools.items)).row()
        print(f"beats all others: {favourite['Condorcet winner']}")
    axis.axhline(0.5, color="black", linewidth=0.8)
    axis.set_xticks(range(len(schools.items)), schools.items)
    axis.set(ylabel="how often preferred to another", title="Each language has its school")
    axis.legend(loc="lower left")
    plt.show()

    # Is it chance? Give the languages to students by lot, each with all of his or her judgements.
    raters, of_row = np.unique(schools.about["rater"], return_inverse=True)

    def ahead(item, speaks):
        """How much more often a school is preferred by those who speak than by the others."""
        met = (schools.first == item) | (schools.second == item)
        won = np.where(schools.first == item, schools.prob, 1 - schools.prob)
        speaking = speaks[of_row]
        return won[met & speaking].mean() - won[met & ~speaking].mean()

    for language, school in LANGUAGES.items():
        item, speaks = schools.items.index(school), np.zeros(len(raters), dtype=bool)
        speaks[of_row] = schools.about[language] == "good"
        lots = [ahead(item, rng.permutation(speaks)) for _ in range(500)]
        print(f"{school:9} among {language:7} speakers {ahead(item, speaks):+.2f},", end=" ")
        print(f"by lot at most {max(lots):+.2f}")

# %% [markdown]
# One winner for all is the answer of whoever was asked most often. Where a policy can know whom it
# answers, it need not choose.
#
# ## The same calls on a language model
#
# Two users with opposite tastes, and a transformer with random weights. Once it is told who asks (a
# token of the prompt), once it is trained on their labels together. DPO, the same loss, the same
# completions.

# %%
from transformers import GPT2Config

from prefsim.lm import CausalLM, tree_pairs, tree_policy

leaves = TokenTree(4, 2, end_token=2)
taste = np.random.default_rng(1).standard_normal(leaves.n_sequences)
told_apart = TokenTree(4, 2, end_token=2, reward=np.stack([taste, -taste]))
shape = {"n_embd": 24, "n_layer": 1, "n_head": 2, "n_positions": 8, "initializer_range": 0.1}
lm = CausalLM.from_config(
    GPT2Config(vocab_size=4, bos_token_id=None, eos_token_id=2, **shape), seed=0
)
separate = told_apart.to_bandit()
both = mixture_preference(np.full(2, 0.5), np.asarray(separate.preference))
ASKED = {"told who asks": (told_apart, separate, [[0], [1]])}
ASKED["together"] = (leaves, ContextualBandit(preference=both[None]), [[3]])
for name, (tree, world, prompts) in ASKED.items():
    start = tree_policy(lm, tree, prompts)
    population = Comparisons.population(world, start)
    asked = tree_pairs(tree, population, prompts)
    loss = functools.partial(losses.dpo, beta=0.5)
    exact = fit(start, loss, population, reference=start).policy.probs
    trained = fit(
        lm,
        loss,
        asked,
        reference=lm,
        steps=160,
        batch_size=len(asked),
        order="given",
        learning_rate=1e-2,
        schedule="cosine",
        warmup=0.05,
        progress=False,
    ).policy
    now = tree_policy(trained, tree, prompts)
    probs = np.broadcast_to(now.probs, (2, leaves.n_sequences))
    before = np.broadcast_to(start.probs, (2, leaves.n_sequences))
    gained = np.sum((probs - before) * np.asarray(told_apart.reward), axis=-1)
    off = float(total_variation(now.probs, exact).max())
    print(
        f"{name:14} gain of each user {gained.round(2)}, total variation to the exact one {off:.3f}"
    )

# %% [markdown]
# ## Exercises
#
# 1. Find shares of the three users of the first section in which A beats every other answer, but
#    the reward model prefers B.
# 2. Whom does IPO serve with pooled labels of the two groups? Draw it into the figure. Which vote
#    counts more to it, a sure one or a mild one?
# 3. Give each group a weight in proportion to its size and its reward a mean of zero and a spread
#    of one. Which of the two groups gains by exaggerating?
# 4. Hold each group at a level that it has without the other, less a tenth
#    (`solvers.constrained_optimum`). Are there levels that no policy gives? How is that seen?
# 5. Take the listeners one by one, and let the reward of all be that of the median one. What is the
#    circle worth then?
