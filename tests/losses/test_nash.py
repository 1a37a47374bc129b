"""Losses of self-play: reference values, columns and errors."""

import functools

import numpy as np
import pytest
from self_play_losses import GAME, LAST, minimiser, one_step, policy, world

from prefsim import losses
from prefsim.data import Comparisons
from prefsim.losses import PairLogps
from prefsim.policies import TabularPolicy
from prefsim.solvers import fit, objective
from prefsim.worlds import TEXTBOOK_REFERENCE, ContextualBandit

REFERENCE = TEXTBOOK_REFERENCE
HERE = np.array([0.2, 0.5, 0.3])


def value(loss, last, reference, here=HERE):
    return float(
        objective(
            policy(here),
            loss,
            Comparisons.self_play(world(GAME), policy(last)),
            reference=policy(reference),
        )
    )


# --- reference values ---


def test_inpo():
    loss = functools.partial(losses.inpo, step=1 / 0.3, tau=0.1)
    np.testing.assert_allclose(
        minimiser(loss, GAME, LAST, REFERENCE),
        [0.5441682671, 0.3076563168, 0.1481754161],
        atol=1e-10,
    )
    assert value(loss, LAST, REFERENCE) == pytest.approx(3.8589586371, abs=1e-10)
    # The soft loss of the paper plays against the other response rather than the last policy, which
    # changes the value alone.
    data = Comparisons.self_play(world(GAME), policy(LAST))
    columns = (data.prompt, data.chosen, data.rejected, data.prob, data.weight)
    old = {"old_chosen": data.old_chosen, "old_rejected": data.old_rejected}
    against_each_other = Comparisons(
        *columns, chosen_score=data.prob, rejected_score=np.full(9, 0.5), **old
    )
    soft = functools.partial(losses.mirror_descent, step=1 / 0.3, tau=0.1)
    assert float(
        objective(policy(HERE), soft, against_each_other, reference=policy(REFERENCE))
    ) == pytest.approx(1.7567364149, abs=1e-10)
    pair = PairLogps(
        chosen=np.log(HERE[:1]),
        rejected=np.log(HERE[1:2]),
        ref_chosen=np.log(REFERENCE[:1]),
        ref_rejected=np.log(REFERENCE[1:2]),
        old_chosen=np.log(LAST[:1]),
        old_rejected=np.log(LAST[1:2]),
    )
    assert loss(pair)[0] == pytest.approx((-1.0865659398 - 1 / 0.6) ** 2, abs=1e-9)


def test_dno():
    loss = functools.partial(losses.dno, step=2.0)
    np.testing.assert_allclose(
        minimiser(loss, GAME, LAST, LAST), [0.4651806731, 0.3659240779, 0.1688952489], atol=1e-9
    )
    assert value(loss, LAST, LAST) == pytest.approx(0.7156440066, abs=1e-10)
    assert value(loss, LAST, LAST, one_step("dno", GAME, LAST, LAST, step=2.0)) == pytest.approx(
        0.6920298559, abs=1e-10
    )


def test_sppo():
    pair = PairLogps(
        *(np.asarray([x]) for x in (0.3, -0.2, 0.0, 0.0)),
        chosen_score=np.asarray([0.7]),
        rejected_score=np.asarray([0.4]),
    )
    assert losses.sppo(pair, beta=0.5)[0] == pytest.approx(0.005, abs=1e-12)
    assert losses.sppo_hard(pair, beta=0.5)[0] == pytest.approx(1.13, abs=1e-12)
    # One value per pair is half the sum of two responses, each of which the paper counts once.
    assert value(functools.partial(losses.sppo, beta=0.5), LAST, LAST) == pytest.approx(
        0.3918526075, abs=1e-10
    )


def test_online_ipo():
    pairs = Comparisons.population(world(GAME), TabularPolicy.uniform(1, 3))
    data = Comparisons.self_play(world(GAME), policy(HERE), pairs=pairs)
    loss = functools.partial(losses.online_ipo, tau=0.1)
    assert float(objective(policy(HERE), loss, data, reference=policy(REFERENCE))) == pytest.approx(
        4.8836140390, abs=1e-10
    )


# --- columns and errors ---


def test_self_play_columns():
    data = Comparisons.self_play(world(GAME), policy(LAST), opponent=policy(REFERENCE))
    wins = GAME @ REFERENCE
    np.testing.assert_allclose(data.chosen_score, wins[data.chosen])
    np.testing.assert_allclose(data.rejected_score, wins[data.rejected])
    np.testing.assert_allclose(np.exp(data.old_rejected), LAST[data.rejected])
    np.testing.assert_allclose(data.prob, GAME[data.chosen, data.rejected])
    assert data.weight.sum() == pytest.approx(1.0)
    never = Comparisons.self_play(world(GAME), policy([0.5, 0.5, 0.0]))
    assert (never.old_chosen[never.chosen == 2] == -np.inf).all() and never.weight[
        (never.chosen == 2) | (never.rejected == 2)
    ].sum() == 0
    relabelled = data.relabelled(1.0)
    np.testing.assert_array_equal(relabelled.chosen_score, data.chosen_score)


def test_batches_of_games_are_solved_together():
    games = np.stack([GAME, GAME.T])[:, None]
    data = Comparisons.self_play(ContextualBandit(preference=games), policy(LAST))
    loss = functools.partial(losses.mirror_descent, step=0.7, tau=0.2)
    together = fit(policy(LAST), loss, data, reference=policy(REFERENCE)).policy.probs[:, 0]
    alone = [minimiser(loss, game[0], LAST, REFERENCE) for game in games]
    np.testing.assert_allclose(together, alone, atol=1e-10)


def test_soft_labels_swap_every_column():
    data = Comparisons(
        [0],
        [1],
        [0],
        prob=[0.25],
        chosen_score=[0.9],
        rejected_score=[0.2],
        old_chosen=[-1.0],
        old_rejected=[-2.0],
    )
    container, weight = data.examples(TabularPolicy.uniform(1, 2), None, PairLogps)
    np.testing.assert_allclose(container.chosen_score, [0.9, 0.2])
    np.testing.assert_allclose(container.old_chosen, [-1.0, -2.0])
    np.testing.assert_allclose(container.old_rejected, [-2.0, -1.0])
    np.testing.assert_allclose(weight, [0.25, 0.75])


PAIR = PairLogps(*(np.zeros(2) for _ in range(4)))
WINS = {"chosen_score": np.asarray([0.5, 1.2]), "rejected_score": np.asarray([0.5, 0.2])}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.inpo(PAIR), "old_chosen is needed by this loss, got None"),
        (
            lambda: losses.inpo(PAIR, step=10.0, tau=0.2),
            r"step \* tau must be <= 1, got step=10.0 times tau=0.2",
        ),
        (lambda: losses.mirror_descent(PAIR), "chosen_score is needed"),
        (lambda: losses.mirror_descent(PAIR, step=3.0, tau=0.5), r"step \* tau must be <= 1"),
        (lambda: losses.dno(PAIR), "chosen_score is needed"),
        (
            lambda: losses.dno(PAIR._replace(**WINS)),
            r"chosen_score must be a probability in \[0, 1\], got 1.2 at index 1",
        ),
        (lambda: losses.sppo(PAIR._replace(**WINS)), "chosen_score must be a probability"),
        (lambda: losses.online_ipo(PAIR._replace(**WINS)), "chosen_score must be a probability"),
        (lambda: losses.online_ipo(PAIR, tau=0.0), "tau must be a finite number > 0"),
        (
            lambda: Comparisons([0], [1], [0], chosen_score=[0.3]),
            "columns of both responses or of none are needed, got chosen_score alone",
        ),
        (
            lambda: Comparisons([0], [1], [0], old_chosen=[-0.3, -0.1], old_rejected=[-0.1]),
            "old_chosen must have n = 1 entries",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
