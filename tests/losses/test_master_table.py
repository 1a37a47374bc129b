"""Golden values of the survey's master table (float64), for every row that is a function of sequence or token log-probabilities."""

import functools

import numpy as np
import pytest
import torch

from prefsim import losses

LW, LL = np.asarray([-12.5, -30.25, -8.0]), np.asarray([-14.0, -28.5, -20.75])
RW, RL = np.asarray([-13.0, -29.0, -9.5]), np.asarray([-13.5, -30.0, -18.25])
NW, NL = np.asarray([10.0, 25.0, 6.0]), np.asarray([12.0, 20.0, 15.0])
BATCH = losses.PairLogps(LW, LL, RW, RL, NW, NL)
SCORES = BATCH._replace(
    chosen_score=np.asarray([3.0, 2.0, 5.0]), rejected_score=np.asarray([1.0, 1.5, 0.0])
)
WINS = BATCH._replace(
    chosen_score=np.asarray([0.8, 0.3, 0.9]), rejected_score=np.asarray([0.2, 0.7, 0.1])
)

# name, options, batch, values, gradient of pair 2 with respect to (chosen, rejected)
TABLE = [
    ("dpo", {}, BATCH, (0.64439666, 0.84007067, 0.51301525), (-0.05683200, 0.05683200)),
    (
        "dpo",
        {"label_smoothing": 0.1},
        BATCH,
        (0.65439666, 0.81257067, 0.55301525),
        (-0.04683200, 0.04683200),
    ),
    ("rdpo", {}, BATCH, (0.63189666, 0.87444567, 0.46301525), (-0.06933200, 0.06933200)),
    (
        "soft",
        {"target": 0.7},
        BATCH,
        (0.67439666, 0.75757067, 0.63301525),
        (-0.02683200, 0.02683200),
    ),
    ("ipo", {}, BATCH, (16, 60.0625, 1), (-15.5, 15.5)),
    ("ipo", {"average": True}, BATCH, (24.09173611, 26.265625, 21.00694444), (-0.41, 0.5125)),
    ("hinge", {}, BATCH, (0.9, 1.275, 0.6), (-0.1, 0.1)),
    ("slic", {}, BATCH, (1.25, 5.775, 0.8), (-1.1, 1)),
    ("rrhf", {}, BATCH, (12.58333333, 30.25, 8), (-1, 0)),
    ("apo_zero", {}, BATCH, (0.97500521, 1.06863922, 0.90039365), (-0.02490260, 0.02485990)),
    ("apo_down", {}, BATCH, (0.98751821, 1.03711061, 0.93874219), (0.00036936, 0.02453324)),
    ("orpo", {}, BATCH, (1.32543385, 1.26569143, 1.39933932), (-0.04243388, 0.00281126)),
    ("asft", {}, BATCH, (1.41230994, 1.35851061, 1.49553377), (-0.04400000, 0.00158335)),
    ("cpo", {}, BATCH, (1.87095705, 1.99447043, 1.57974876), (-0.09436387, 0.05436387)),
    ("simpo", {}, BATCH, (1.08103675, 0.72875956, 0.91301525), (-0.04139943, 0.05174929)),
    ("rdpo_length", {}, BATCH, (0.69314718, 0.70572530, 0.71845965), (-0.05062497, 0.05062497)),
    ("odpo", {}, SCORES, (1.03306876, 0.50577208, 1.47054365), (-0.03969602, 0.03969602)),
    ("dpop", {}, BATCH, (0.55435524, 19.575, 0.26328247), (-15.29999995, 0.3)),
    ("exo_pair", {}, BATCH, (2.58995403, 3.24246459, 2.09922623), (-0.17619170, 0.17619170)),
    ("nca_pair", {}, BATCH, (1.36191930, 1.45937708, 1.29440528), (-0.02968141, 0.02687149)),
    ("bco_pair", {}, BATCH, (1.33691930, 1.52855608, 1.19689647), (-0.05312094, 0.05374298)),
    ("bco", {}, BATCH, (1.33695833, 1.52867271, 1.19662579), (-0.01760318 * 3, 0.01801786 * 3)),
    ("aot", {}, BATCH, (0.81196200, 0.66845965, 0.51301525), (-0.01853380 * 3, 0.01853380 * 3)),
    (
        "aot_unpaired",
        {},
        BATCH,
        (0.63259904, 0.64439666, 0.69314718),
        (-0.01562635 * 3, 0.01666667 * 3),
    ),
    ("cal_dpo", {}, BATCH, (40.81326169, 84.12446759, 18.51814993), (-13.43991335, 13.93991335)),
    ("sppo_hard", {}, BATCH, (40.5, 81.3125, 18.5), (-12.5, 13)),
    ("sppo", {}, WINS, (6.25, 0.40625, 4.25), None),
    ("discopop", {}, BATCH, (0.87518092, 0.78728039, 0.81476314), (-0.00691946, 0.00691946)),
    ("sigmoid_norm", {}, BATCH, (0.68857435, 0.69941671, 0.67253085), (-0.00201250, 0.00251562)),
    ("drdpo", {}, BATCH, (0.65691370,) * 3, (-0.01577348 * 3, 0.01577348 * 3)),
    (
        "beta_dpo",
        {"margin_mean": 1.0},
        BATCH,
        (0.65155003, 0.81683657, 0.53752811),
        (-0.04744469, 0.04744469),
    ),
    (
        "f_dpo",
        {"divergence": "forward_kl"},
        BATCH,
        (0.64239474, 0.86979224, 0.26422456),
        (-0.20277545, 0.01296300),
    ),
    (
        "f_dpo",
        {"divergence": "jensen_shannon"},
        BATCH,
        (0.66845965, 0.76028566, 0.58132227),
        (-0.04138866, 0.00971356),
    ),
    (
        "f_dpo",
        {"divergence": "alpha", "alpha": 0.3},
        BATCH,
        (0.64421834, 0.83862476, 0.47667853),
        (-0.08259919, 0.03619785),
    ),
    (
        "f_dpo",
        {"divergence": "mixed_chi_squared"},
        BATCH,
        (0.59624179, 1.09952666, 0.35888184),
        (-0.08580618, 0.36561294),
    ),
    ("chipo", {}, BATCH, (0.59624179, 1.09952666, 0.35888184), (-0.08580618, 0.36561294)),
    ("rpo", {}, BATCH, (0.65064666, 0.85519567, 0.51701525), (-0.05733200, 0.05683200)),
    (
        "rpo",
        {"reduction": "mean", "eta": 0.2},
        BATCH,
        (0.89439666, 1.08207067, 0.77968192),
        (-0.06483200, 0.05683200),
    ),
    ("npo", {}, BATCH, (13.36919296, 15.41914096, 11.51878840), (0, 1.07485969)),
    ("simnpo", {}, BATCH, (0.04216031, 0.02237832, 0.02479743), (0, 0.00275853)),
]


@pytest.mark.parametrize(
    ("name", "options", "batch", "values", "gradient"),
    TABLE,
    ids=[f"{r[0]}-{i}" for i, r in enumerate(TABLE)],
)
def test_row(name, options, batch, values, gradient):
    loss = functools.partial(getattr(losses, name), **options)
    np.testing.assert_allclose(loss(batch), values, atol=6e-9)
    if gradient is None:
        return
    moved = losses.PairLogps(*(None if x is None else torch.as_tensor(x.copy()) for x in batch))
    moved = moved._replace(
        chosen=moved.chosen.requires_grad_(), rejected=moved.rejected.requires_grad_()
    )
    loss(moved).sum().backward()
    found = [0.0 if g is None else float(g[1]) for g in (moved.chosen.grad, moved.rejected.grad)]
    np.testing.assert_allclose(found, gradient, atol=2e-8)


def test_kto_row():
    def half(logp, ref_logp, desirable):
        container = losses.UnpairedLogps(logp, ref_logp, np.full(3, desirable))
        return losses.kto(container, reference_point=0.3)

    np.testing.assert_allclose(
        half(LW, RW, True) + half(LL, RL, False), (0.97501083, 1.06863666, 0.90048972), atol=6e-9
    )


H = np.asarray([[0.3, -0.7, 1.2, 0.4]])


@pytest.mark.parametrize(
    ("name", "scores", "beta", "value"),
    [
        ("pl_dpo", [[4.0, 3.0, 2.0, 1.0]], 1.0, 4.33629212),
        ("pl_dpo", [[4.0, 3.0, 2.0, 1.0]], 0.1, 3.24413259),
        ("infonca", [[2.0, 0.0, 3.0, 1.0]], 1.0, 1.03969841),
        ("nca", [[2.0, 0.0, 3.0, 1.0]], 1.0, 1.28938126),
        ("exo_rw", [[2.0, 0.0, 3.0, 1.0]], 1.0, 0.11548658),
    ],
)
def test_lists(name, scores, beta, value):
    container = losses.ListLogps(H, np.zeros_like(H), np.asarray(scores))
    np.testing.assert_allclose(getattr(losses, name)(container, beta=beta), [value], atol=6e-9)


def log_softmax(rows):
    rows = np.asarray(rows, dtype=float)
    return rows - np.log(np.exp(rows).sum(-1, keepdims=True))


def test_token_rows():
    policy = {
        "w": log_softmax([[0.2, -0.1, 0.5], [1, 0, -1]]),
        "l": log_softmax([[0.2, -0.1, 0.5], [0, 0.3, 0.6]]),
    }
    reference = {
        "w": log_softmax([[0, 0.1, 0.2], [0.5, 0.5, -0.5]]),
        "l": log_softmax([[0, 0.1, 0.2], [0.4, -0.2, 0.1]]),
    }
    tokens = {"w": [2, 0], "l": [1, 2]}
    picked = {k: (policy[k][[0, 1], t], reference[k][[0, 1], t]) for k, t in tokens.items()}
    kl = {k: (np.exp(reference[k]) * (reference[k] - policy[k])).sum(-1) for k in tokens}
    collision = {k: np.log((np.exp(policy[k]) ** 2).sum(-1)) for k in tokens}
    np.testing.assert_allclose(
        [kl["w"].sum(), kl["l"].sum()], [0.1459131411, 0.1156974142], atol=1e-10
    )
    mask = np.ones((1, 2), bool)
    container = losses.TokenPairLogps(
        picked["w"][0][None], picked["l"][0][None], picked["w"][1][None], picked["l"][1][None], mask, mask,
        kl["w"][None], kl["l"][None], collision["w"][None], collision["l"][None],
    )  # fmt: skip
    expected = {"tdpo1": 0.6595026921, "tdpo2": 0.6602325231}
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(losses, name)(container), [value], atol=1e-10)
    np.testing.assert_allclose(losses.wpo(container, beta=0.1), [0.6609629240], atol=1e-10)
    np.testing.assert_allclose(
        losses.wpo(container, beta=0.1, clamp=False), [0.7695738885], atol=1e-10
    )


@pytest.mark.parametrize(
    ("alpha", "value"), [(1.0, 0.6709002842), (0.5, 0.6782596763), (0.0, 0.6856753053)]
)
def test_length_desensitised_row(alpha, value):
    def padded(row):
        return np.asarray([row + [0.0] * (5 - len(row))])

    container = losses.TokenPairLogps(
        padded([-0.5, -1.0, -0.25]), padded([-0.7, -0.2, -1.1, -0.9, -0.4]), padded([-0.6, -0.9, -0.5]),
        padded([-0.8, -0.3, -1.0, -0.7, -0.3]), np.asarray([[True] * 3 + [False] * 2]), np.ones((1, 5), bool),
    )  # fmt: skip
    np.testing.assert_allclose(losses.ld_dpo(container, alpha=alpha), [value], atol=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.simpo(BATCH._replace(chosen_length=None)), "chosen_length is needed"),
        (lambda: losses.odpo(BATCH), "chosen_score is needed"),
        (
            lambda: losses.odpo(SCORES._replace(chosen_score=SCORES.rejected_score)),
            "chosen_score must exceed rejected_score",
        ),
        (lambda: losses.exo_pair(BATCH, epsilon=0.0), r"epsilon must lie in \(0.0, 0.5\)"),
        (lambda: losses.chipo(BATCH, clip=-1.0), "clip must be"),
        (
            lambda: losses.pl_dpo(
                losses.ListLogps(np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((2, 0)))
            ),
            "at least one candidate",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
