"""What is measured on data that is not trained on, against the policy's own numbers."""

import functools
import shutil

import numpy as np
import pytest
import torch
from lm_made import small_llama

from prefsim import losses
from prefsim.lm import (
    CausalLM,
    Evaluation,
    TextComparisons,
    TextFeedback,
    TextRankings,
    references_of,
)
from prefsim.lm.training.evaluation import BEST_BY
from prefsim.solvers import fit

dpo = functools.partial(losses.dpo, beta=0.5)
OPTIONS = {
    "steps": 5,
    "batch_size": 3,
    "learning_rate": 1e-2,
    "progress": False,
    "log_every": 4,
    "warmup": 0.0,
}


def texts(n, *, seed):
    rng = np.random.default_rng(seed)
    return [rng.integers(3, 64, rng.integers(2, 8)).tolist() for _ in range(n)]


def pairs(n=6, *, seed=0, **columns):
    return TextComparisons(*(texts(n, seed=[seed, side]) for side in range(3)), **columns)


HELD_OUT = pairs(7, seed=1, weight=np.arange(1.0, 8.0))


def evaluated(result):
    return {line["step"]: line for line in result.metrics if "eval_loss" in line}


def trained(policy, evaluation=None, *, loss=dpo, data=None, reference=None, **options):
    """Train with an evaluation, of the held-out pairs every two steps unless given."""
    return fit(
        policy,
        loss,
        pairs() if data is None else data,
        reference=policy if reference is None else reference,
        evaluation=Evaluation(data=HELD_OUT, every=2) if evaluation is None else evaluation,
        **(OPTIONS | options),
    )


def test_all_rows_are_measured_before_meanwhile_and_at_the_end(tiny64):
    result = trained(tiny64)
    found = evaluated(result)
    assert list(found) == [0, 2, 4, 5]
    weight = torch.as_tensor(HELD_OUT.weight)
    sides = (HELD_OUT.chosen, HELD_OUT.rejected)
    ref, now = (
        [each.log_prob(HELD_OUT.prompt, side) for side in sides] for each in (tiny64, result.policy)
    )
    chosen, rejected = (after - before for after, before in zip(now, ref, strict=True))

    def mean(values):
        return float((weight * values).sum() / weight.sum())

    expected = {
        "eval_loss": mean(-torch.nn.functional.logsigmoid(0.5 * (chosen - rejected))),
        "eval_chosen_logp": mean(now[0]),
        "eval_rejected_logp": mean(now[1]),
        "eval_ranking_accuracy": mean(now[0] > now[1]),
        "eval_chosen_log_ratio": mean(chosen),
        "eval_rejected_log_ratio": mean(rejected),
        "eval_margin": mean(chosen - rejected),
        "eval_reward_accuracy": mean(chosen > rejected),
    }
    measured = {name: value for name, value in found[5].items() if name.startswith("eval_")}
    assert measured == pytest.approx(expected, rel=1e-12)
    assert 0 < expected["eval_reward_accuracy"] < 1
    assert found[0]["eval_margin"] == 0
    # One that is not due with the others has a line of its own.
    assert "loss" in found[4]
    assert "loss" not in found[2]


def test_training_is_not_changed(tiny64):
    plain = fit(tiny64, dpo, pairs(), reference=tiny64, **OPTIONS)
    np.testing.assert_array_equal(trained(tiny64).history, plain.history)


def test_dropout_is_off_while_it_measures_and_on_again_after():
    from transformers import GPT2Config

    sizes = {"vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}
    config = GPT2Config(**sizes, bos_token_id=0, eos_token_id=1, resid_pdrop=0.5)
    policy = CausalLM.from_config(config, seed=0, dtype="float64")
    result = trained(policy)
    assert evaluated(result)[0]["eval_margin"] == 0
    plain = fit(policy, dpo, pairs(), reference=policy, **OPTIONS)
    np.testing.assert_array_equal(result.history, plain.history)


def test_a_soft_label_counts_both_ways(tiny64):
    soft = pairs(5, seed=1, prob=np.asarray([0.5, 0.5, 0.8, 1.0, 0.0]))
    result = trained(tiny64, Evaluation(data=soft))
    now = result.policy
    chosen, rejected = (now.log_prob(soft.prompt, side) for side in (soft.chosen, soft.rejected))
    prob = torch.as_tensor(soft.prob)
    share = torch.where(chosen > rejected, prob, 1 - prob).mean()
    found = evaluated(result)[5]["eval_ranking_accuracy"]
    assert found == pytest.approx(float(share), rel=1e-12)


def test_token_losses_have_the_measures_of_sequences(tiny64):
    loss = functools.partial(losses.tdpo1, beta=0.5)
    first, same = (evaluated(trained(tiny64, loss=each))[0] for each in (loss, dpo))
    for name in ("eval_chosen_logp", "eval_rejected_logp", "eval_margin", "eval_ranking_accuracy"):
        assert first[name] == pytest.approx(same[name], rel=1e-12)


def test_single_judgements(tiny64):
    label = np.asarray([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    data = TextFeedback(texts(6, seed=2), texts(6, seed=3), label)
    loss = functools.partial(losses.kto, beta=0.5)
    result = trained(tiny64, Evaluation(data=data), loss=loss, data=data)
    last = evaluated(result)[5]
    now, ref = (each.log_prob(data.prompt, data.completion) for each in (result.policy, tiny64))
    good = torch.as_tensor(label == 1)
    assert last["eval_desirable_logp"] == pytest.approx(float(now[good].mean()))
    assert last["eval_undesirable_log_ratio"] == pytest.approx(float((now - ref)[~good].mean()))


def test_lists_have_their_loss(tiny64):
    data = TextRankings(
        texts(3, seed=4), [texts(2, seed=[5, i]) for i in range(3)], np.eye(3)[:, :2]
    )
    result = trained(tiny64, Evaluation(data=data), loss=losses.pl_dpo, data=data)
    assert np.isfinite(evaluated(result)[5]["eval_loss"])
    best_by = Evaluation(data=data, best_by="ranking_accuracy")
    with pytest.raises(ValueError, match="not measured of ListLogps"):
        trained(tiny64, best_by, loss=losses.pl_dpo, data=data)


def test_stored_references_are_of_the_rows_that_are_measured(tiny64):
    stored = references_of(tiny64, pairs(), dpo)
    of_held_out = references_of(tiny64, HELD_OUT, dpo)
    evaluation = Evaluation(data=HELD_OUT, every=2, reference=of_held_out)
    result = trained(tiny64, evaluation, reference=stored)
    found, expected = (evaluated(each)[5]["eval_margin"] for each in (result, trained(tiny64)))
    assert found == pytest.approx(expected, rel=1e-9)
    cases = [
        (stored, None, "give the evaluation those of its rows"),
        (stored, stored, "the evaluation's data: .* in their order"),
        (tiny64, of_held_out, "one reference serves both"),
    ]
    for reference, own, message in cases:
        with pytest.raises(ValueError, match=message):
            trained(tiny64, Evaluation(data=HELD_OUT, reference=own), reference=reference)


OPPOSED = TextComparisons(pairs().prompt, pairs().rejected, pairs().chosen)


@pytest.mark.parametrize("best_by", BEST_BY)
def test_training_ends_when_patience_has_run_out(tiny64, tmp_path, best_by):
    """What is learned makes the opposite labels worse from the first step on."""
    evaluation = Evaluation(data=OPPOSED, every=1, patience=2, best_by=best_by, keep_best=True)
    result = trained(tiny64, evaluation, steps=50, out=tmp_path)
    losses_seen = [line["eval_loss"] for line in result.metrics]
    assert losses_seen[0] == min(losses_seen)
    values = [line[f"eval_{best_by}"] for line in result.metrics]
    best = int(np.argmin(values) if best_by == "loss" else np.argmax(values))
    assert result.best_step == best
    assert result.steps == best + 2 < 50
    assert len(result.history) == result.steps
    assert result.metrics[-1]["step"] == result.steps
    assert "loss" in result.metrics[-1]
    kept = CausalLM.load(tmp_path / "best", dtype="float64")
    again = fit(kept, dpo, pairs(), reference=tiny64, evaluation=evaluation_of(OPPOSED), **OPTIONS)
    assert again.metrics[0][f"eval_{best_by}"] == pytest.approx(values[best], rel=1e-9)


def evaluation_of(data):
    return Evaluation(data=data, every=100)


def test_the_best_has_the_dtype_that_the_model_was_given_in(tiny, tmp_path):
    from safetensors.torch import load_file

    narrow = CausalLM.from_config(small_llama(64), seed=0, dtype="bfloat16")
    evaluation = Evaluation(data=HELD_OUT, every=2, keep_best=True)
    result = trained(narrow, evaluation, reference=tiny, out=tmp_path)
    for folder in ("best", "model"):
        stored = load_file(tmp_path / folder / "model.safetensors")
        assert {value.dtype for value in stored.values()} == {torch.bfloat16}
    # And training went on from the precise ones.
    plain = fit(narrow, dpo, pairs(), reference=tiny, **OPTIONS)
    np.testing.assert_array_equal(result.history, plain.history)


def without_times(lines):
    return [{name: value for name, value in line.items() if "second" not in name} for line in lines]


@pytest.mark.parametrize("is_best", [False, True])
def test_an_evaluation_at_an_end_that_was_none_is_not_waited_for(tiny64, tmp_path, is_best):
    """The last one of six steps, where every fourth is evaluated and thirty are asked for."""

    def run(folder, steps, **options):
        data = pairs() if is_best else OPPOSED
        evaluation = Evaluation(data=data, every=4, patience=2, keep_best=True)
        options |= {"evaluation": evaluation, "schedule": "constant", "save_every": 1}
        return trained(tiny64, **options, out=tmp_path / folder, steps=steps)

    run("parts", 6)
    parts = run("parts", 10, resume=True)
    whole = run("whole", 10)
    assert sorted(evaluated(whole)) == ([0, 4, 8, 10] if is_best else [0, 4, 8])
    np.testing.assert_array_equal(parts.history, whole.history)
    # Its model lies there as the best.
    assert parts.best_step == (6 if is_best else whole.best_step)


def test_a_resumed_training_has_not_lost_its_patience(tiny64, tmp_path):
    def run(folder, steps=50, **options):
        evaluation = Evaluation(data=OPPOSED, every=1, patience=4)
        return trained(
            tiny64,
            evaluation,
            steps=steps,
            schedule="constant",
            out=tmp_path / folder,
            save_every=2,
            keep=9,
            **options,
        )

    whole = run("whole")
    assert whole.steps == 4
    copied = tmp_path / "cut"
    shutil.copytree(tmp_path / "whole", copied)
    shutil.rmtree(copied / "checkpoints" / "step-00000004")
    shutil.rmtree(copied / "model")
    resumed = run("cut", resume=True)
    assert resumed.best_step == whole.best_step == 0
    np.testing.assert_array_equal(resumed.history, whole.history)
    assert without_times(resumed.metrics) == without_times(whole.metrics)
    # One that had ended does nothing more.
    assert run("whole", resume=True).steps == 4
    with pytest.raises(ValueError, match="evaluation must be what it was before"):
        trained(tiny64, steps=50, schedule="constant", out=tmp_path / "whole", resume=True)


def test_bad_evaluations(tiny64, tmp_path):
    cases = [
        ({"every": 0}, "every must be an integer >= 1, got 0"),
        ({"patience": 0}, "patience must be an integer >= 1, got 0"),
        ({"best_by": "accuracy"}, "best_by must be one of"),
        ({"keep_best": 1}, "keep_best must be"),
    ]
    for options, message in cases:
        with pytest.raises(ValueError, match=message):
            Evaluation(data=HELD_OUT, **options)
    cases = [
        (pairs(0), "the evaluation's data must hold at least one row"),
        (TextFeedback([[1]], [[2]], [1.0]), "feed losses of"),
        ([1, 2], "the evaluation's data must be TextComparisons or the like"),
        (TextComparisons([[3]], [[4]], [[99]]), "the evaluation's data: example 0"),
    ]
    for data, message in cases:
        with pytest.raises(ValueError, match=message):
            trained(tiny64, Evaluation(data=data))
    with pytest.raises(ValueError, match="keep_best of the evaluation needs out"):
        trained(tiny64, Evaluation(data=HELD_OUT, keep_best=True))
    with pytest.raises(TypeError, match="evaluation must be a Evaluation, got TextComparisons"):
        trained(tiny64, HELD_OUT)
    soft = pairs(4, prob=np.full(4, 0.5))
    with pytest.raises(ValueError, match="the evaluation's data must have hard labels"):
        trained(tiny64, Evaluation(data=soft), loss=losses.aot)
    for best_by in ("reward_accuracy",):
        with pytest.raises(ValueError, match="without a reference"):
            fit(
                tiny64,
                losses.simpo,
                pairs(),
                reference=None,
                evaluation=Evaluation(data=HELD_OUT, best_by=best_by),
                **OPTIONS,
            )
