"""The run from nothing to a frontier, in small.

Reviews, judge, bounds, training, and going on where it stopped.
"""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip(
    "vaderSentiment", reason="the frontier needs the VADER lexicon: pip install vaderSentiment"
)
EXAMPLES = str(Path(__file__).resolve().parents[2] / "examples")


@pytest.fixture(scope="module")
def frontier():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        import frontier

        yield frontier
    for name in ("frontier", "frontier_runs", "reviews", "attainable"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def runs(frontier):
    return sys.modules["frontier_runs"]


@pytest.fixture(scope="module")
def small(runs):
    return runs.Settings(
        count=240,
        hidden=32,
        pretraining_steps=12,
        atoms=30,
        pairs=48,
        steps=4,
        rounds=2,
        batch_size=8,
        evaluation=4,
        max_new_tokens=6,
        rows=64,
        seeds=(3,),
        dpo=(1.0,),
        ipo=(0.1,),
        inpo=(0.1,),
    )


@pytest.fixture(scope="module")
def done(frontier, runs, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("frontier")
    runs.everything(small, folder)
    return folder, frontier.collected(small, folder)


def test_reviews_are_seeded_and_judged_by_their_words(frontier):
    import reviews

    asked, written = reviews.reviews(400, seed=1)
    assert (asked, written) == reviews.reviews(400, seed=1)
    assert written != reviews.reviews(400, seed=2)[1]
    assert set(asked) == set(reviews.prompts())
    score = reviews.sentiment(written)
    # Neither good nor bad on the whole, and both among them: there is something to gain and
    # something to lose.
    assert abs(score.mean()) < 0.1 and (score > 0.5).mean() > 0.1 and (score < -0.5).mean() > 0.1
    praise, blame = reviews.sentiment(
        [" The plot was great. I loved the cast.", " The plot was awful. I hated the cast."]
    )
    assert praise > 0.7 and blame < -0.7


def test_the_tokenizer_gives_the_text_back(frontier):
    import reviews

    asked, written = reviews.reviews(100, seed=0)
    tokenizer = reviews.make_tokenizer(
        [prompt + text for prompt, text in zip(asked, written, strict=True)], 500
    )
    text = asked[0] + written[0]
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id and len(ids) < len(text) / 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_bounds(runs):
    """On rewards at random.

    Nothing is above the optimal curve, DPO's target lies on it, IPO's is its closed form.
    """
    rng = np.random.default_rng(0)
    settings = dataclasses.replace(runs.Settings(), sharpness=4.0, rounds=3)
    bounds = runs.Bounds(rng.normal(size=(3, 40)) / 2, settings.sharpness)
    curve = bounds.optimal(np.geomspace(8.0, 0.02, 400))
    assert (np.diff(curve[:, 0]) > 0).all() and (np.diff(curve[:, 1]) > 0).all()
    points = {("best", n): bounds.best_of(n) for n in (1, 2, 5)}
    trainings = [
        runs.Run(method, strength, 0)
        for method, strength in (("dpo", 2.0), ("ipo", 0.2), ("inpo", 0.2), ("inpo", 0.05))
    ]
    points |= {run: runs.target(run, bounds, settings) for run in trainings}
    for kl, reward in points.values():
        assert reward <= np.interp(kl, curve[:, 0], curve[:, 1]) + 1e-4
    assert points["best", 1] == pytest.approx((0.0, bounds.reward.mean()), abs=1e-12)
    # Independent of the solvers: exponential weights, normalised by hand.
    for run, tilt in (
        (trainings[0], 4.0 * bounds.reward / 2.0),
        (
            trainings[1],
            (1 / (1 + np.exp(-4.0 * (bounds.reward[:, :, None] - bounds.reward[:, None, :])))).mean(
                axis=-1
            )
            / 0.2,
        ),
    ):
        weight = np.exp(tilt) / np.exp(tilt).sum(axis=1, keepdims=True)
        expected = (
            (weight * np.log(40 * weight)).sum(axis=1).mean(),
            (weight * bounds.reward).sum(axis=1).mean(),
        )
        assert points[run] == pytest.approx(expected, abs=1e-10)
    # Many rounds of INPO end where the policy is the best response to itself.
    wins = 1 / (1 + np.exp(-4.0 * (bounds.reward[:, :, None] - bounds.reward[:, None, :])))
    log_policy = np.full((3, 40), -np.log(40))
    for _ in range(400):
        log_policy = 0.9 * log_policy + 0.1 * (wins @ np.exp(log_policy)[:, :, None])[:, :, 0] / 0.2
        log_policy -= np.log(np.exp(log_policy).sum(axis=1, keepdims=True))
    assert bounds.self_play(tau=0.2, step=1 / 0.3, rounds=60) == pytest.approx(
        bounds.point(log_policy), abs=1e-8
    )


def test_pairs_are_labelled_by_the_model_of_bradley_and_terry(runs, small):
    import reviews

    model = reviews.language_model(count=240, hidden=32, steps=12)
    pairs = runs.pairs_of(480, small)(model, model, np.random.default_rng(0))
    assert len(pairs) == 480 and set(pairs.prompt) == set(reviews.prompts())
    gap = [
        reviews.sentiment([model.decode(ids) for ids in side])
        for side in (pairs.chosen, pairs.rejected)
    ]
    gap = np.abs(gap[0] - gap[1]), gap[0] > gap[1]
    apart = gap[0] > 0
    expected = 1 / (1 + np.exp(-small.sharpness * gap[0][apart]))
    assert apart.sum() > 30
    assert gap[1][apart].mean() == pytest.approx(
        expected.mean(), abs=4 * np.sqrt((expected * (1 - expected)).sum()) / apart.sum()
    )
    assert np.allclose(
        pairs.old_chosen, model.log_prob(pairs.prompt, pairs.chosen).numpy(), atol=1e-4
    )


def test_the_reference_is_no_nats_from_itself(runs, small):
    import reviews

    model = reviews.language_model(count=240, hidden=32, steps=1)
    found = runs.measured(model, model, 0, small)
    assert (found["kl"], found["kl_error"]) == (0.0, 0.0)
    assert 0 < found["tokens"] <= small.max_new_tokens


def test_everything_is_written_and_nothing_is_done_twice(frontier, runs, small, done):
    folder, found = done
    names = {"reference.json", "dpo-1-3.json", "ipo-0.1-3.json", "inpo-0.1-3.json"}
    assert {path.name for path in (folder / "runs").iterdir()} == names
    assert [row["method"] for row in found["runs"]] == ["dpo", "inpo", "ipo"]
    assert json.loads((folder / "frontier.json").read_text())["runs"] == found["runs"]
    assert len((folder / "frontier.csv").read_text().splitlines()) == 1 + len(found["runs"])
    assert all(
        np.isfinite([row["kl"], row["reward"], row["optimal_reward"]]).all()
        for row in found["runs"]
    )
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").iterdir()}
    again = folder / "runs" / "inpo-0.1-3.json"
    kept = json.loads(again.read_text())
    again.unlink()
    runs.everything(small, folder)
    assert {path for path in before if path.stat().st_mtime_ns != before[path]} == {again}
    # From the stored reference model the lost run comes out the same.
    repeated = json.loads(again.read_text())
    assert {k: v for k, v in repeated.items() if k != "seconds"} == pytest.approx(
        {k: v for k, v in kept.items() if k != "seconds"}
    )


def test_results_of_other_settings_are_not_mixed(runs, small, done):
    with pytest.raises(ValueError, match="holds results of other settings"):
        runs.everything(dataclasses.replace(small, steps=6), done[0])


def test_at_the_same_divergence(frontier, small):
    """Interpolated along the frontier of each seed, and left out where one does not reach."""
    rows = [
        {"method": "dpo", "seed": seed, "kl": kl, "reward": reward}
        for seed, points in ((3, [(0.2, 0.1), (1.2, 0.6)]), (4, [(0.2, 0.2), (0.9, 0.9)]))
        for kl, reward in points
    ]
    rows += [
        {"method": name, "seed": seed, "kl": 0.0, "reward": 0.0}
        for name in ("ipo", "inpo")
        for seed in (3, 4)
    ]
    found = frontier.at_kl(rows, dataclasses.replace(small, seeds=(3, 4)), kl=(0.7, 1.0, 2.0))
    assert found[0] == pytest.approx(
        {
            "method": "dpo",
            "kl": 0.7,
            "seeds": 2,
            "mean": (0.35 + 0.7) / 2,
            "least": 0.35,
            "most": 0.7,
        }
    )
    assert found[1] == pytest.approx(
        {"method": "dpo", "kl": 1.0, "seeds": 1, "mean": 0.5, "least": 0.5, "most": 0.5}
    )
    assert len(found) == 2


def test_the_figure_says_what_it_shows(frontier, small, done, tmp_path):
    figure = frontier.figure_of(done[1], small)
    figure.savefig(tmp_path / "frontier.png")
    (axis,) = figure.axes
    assert "nats" in axis.get_xlabel() and "VADER" in axis.get_ylabel()
    legend = " ".join(text.get_text() for text in axis.get_legend().get_texts())
    assert all(word in legend for word in ("DPO", "IPO", "INPO", "best of n", "reference"))
