"""EGPO as its authors run it: one gradient step of online IPO a round, on pairs of a sampler."""

import functools

import numpy as np
from lm_tree import EXACT, GAME, LEAVES, PLACES, PROMPTS, TREE, total_variation

from prefsim import losses
from prefsim.lm import draw_pairs, judged_completions, trainer, tree_policy
from prefsim.loops.rounds import play_rounds
from prefsim.solvers import solve_nash

# As near to all tokens alike as makes no difference.
UNIFORM = {"temperature": 1e4}
TAU = 0.5


def places(completions):
    return np.asarray([PLACES[tuple(ids)] for ids in completions])


def test_pairs_are_of_the_proposal_and_win_rates_of_the_policy(start, reference):
    n = 400
    samples = judged_completions(
        start, EXACT, PROMPTS, n_samples=n, proposal=UNIFORM, seed=0, max_new_tokens=2, batch_size=2
    )
    token = 1 / 3
    wanted = np.asarray([token ** len(leaf) for leaf in LEAVES])
    assert abs(wanted.sum() - 1) < 1e-12
    for k in range(len(PROMPTS)):
        place = places(samples.completions[k])
        found = np.bincount(place, minlength=len(LEAVES)) / n
        assert total_variation(found, wanted) < 0.1
        assert total_variation(reference.probs[k], wanted) > 0.2
        rate = GAME[k] @ reference.probs[k]
        assert np.abs(samples.win_rate[k] - rate[place]).max() < 0.08
        assert np.abs(samples.logp[k] - np.log(reference.probs[k])[place]).max() < 1e-4


def test_gradient_steps_of_online_ipo_approach_the_equilibrium(start, reference):
    draw = draw_pairs(
        PROMPTS * 64, EXACT, n_samples=2, proposal=UNIFORM, max_new_tokens=2, batch_size=128
    )
    step = {
        "steps": 1,
        "batch_size": 128,
        "learning_rate": 1e-2,
        "schedule": "constant",
        "warmup": 0.0,
        "max_grad_norm": None,
    }
    *_, last = play_rounds(
        start,
        draw,
        functools.partial(losses.online_ipo, tau=TAU),
        rounds=40,
        seed=0,
        reference=start,
        extragradient=True,
        train=trainer(**step),
    )
    found = tree_policy(last.policy, TREE, PROMPTS).probs
    exact = solve_nash(GAME, method="regularised", reference=reference.probs, tau=TAU).policy
    start_at = total_variation(reference.probs, exact)
    assert start_at > 0.1
    assert total_variation(found, exact) < 0.5 * start_at
