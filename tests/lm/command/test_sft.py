"""``prefsim train --loss sft``: completions to imitate, and every turn of dialogues."""

import json
from pathlib import Path

import pytest
from lm_made import TWO_STEPS, report_of

from prefsim import losses
from prefsim.lm import CausalLM, TextDemonstrations, read_text_data
from prefsim.solvers import fit

HI, HELLO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello there"}
BYE, GOOD = {"role": "user", "content": "bye"}, {"role": "assistant", "content": "good film"}
FILMS = [
    {"prompt": f"was it {x}?", "completion": f" it was {x}"} for x in ("a film", "dull", "worse")
]


@pytest.mark.parametrize(
    "rows",
    [
        FILMS,
        [{"prompt": [5, 6], "completion": [7, 2]}, {"prompt": [8], "completion": [9, 2]}],
        [{"messages": [HI, HELLO, BYE, GOOD]}, {"messages": [BYE, GOOD]}],
    ],
    ids=["text", "ids", "messages"],
)
def test_a_run_is_the_call_of_fit(prefsim, write, rows):
    file = write(*rows)
    report = report_of(
        prefsim,
        "train",
        "--loss",
        "sft",
        "--model",
        "model",
        "--data",
        file,
        *TWO_STEPS,
        "--out",
        "run",
    )
    if "messages" in rows[0]:
        data = TextDemonstrations.from_dialogues([row["messages"] for row in rows])
    else:
        data = TextDemonstrations(*([row[name] for row in rows] for name in rows[0]))
    policy = CausalLM.load("model")
    options = {"steps": 2, "batch_size": 3, "learning_rate": 1e-3, "progress": False}
    expected = fit(policy, losses.sft, data, **options)
    assert report["loss"] == pytest.approx(expected.value, rel=1e-6)
    assert CausalLM.load("run/model").tokenizer is not None
    dry = report_of(
        prefsim, "train", "--loss", "sft", "--model", "model", "--data", file, "--dry-run", "--json"
    )
    assert dry["data"]["rows"] == len(data)
    assert dry["memory"]["reference"] == 0


def test_a_mean_over_tokens_and_adapters(prefsim, write):
    file = write(*FILMS)
    arguments = ("train", "--loss", "sft", "--model", "model", "--data", file, *TWO_STEPS)
    report = report_of(
        prefsim, *arguments, "--set", "reduction=mean", "--lora-rank", 2, "--out", "run"
    )
    policy = CausalLM.load("model")
    rows = read_text_data(file).data
    each = policy.log_prob(rows.prompt, rows.completion) / policy.length(
        rows.prompt, rows.completion
    )
    first = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert first["step"] == report["steps"] == 2
    # Two small steps from where it began.
    assert report["loss"] == pytest.approx(-float(each.mean()), rel=0.05)


@pytest.mark.parametrize(
    ("row", "prompts", "completions"),
    [
        ({"messages": [HI, HELLO, BYE, GOOD]}, [[HI], [HI, HELLO, BYE]], [[HELLO], [GOOD]]),
        ({"messages": [HI, HELLO, BYE]}, [[HI]], [[HELLO]]),
        ({"prompt": "hi", "messages": [HI, HELLO]}, [[HI]], [[HELLO]]),
        (
            {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]},
            [[HI]],
            [[{"role": "assistant", "content": "yes"}]],
        ),
        ({"prompt": [HI], "completion": [HELLO]}, [[HI]], [[HELLO]]),
        ({"prompt": "hi", "completion": [HELLO]}, [[HI]], [[HELLO]]),
        (
            {"messages": [HI, HELLO], "system": "be kind"},
            [[{"role": "system", "content": "be kind"}, HI]],
            [[HELLO]],
        ),
        ({"prompt": "hi", "completion": " yes", "id": 3}, ["hi"], [" yes"]),
    ],
)
def test_layouts(write, row, prompts, completions):
    source = read_text_data(write(row, row))
    assert isinstance(source.data, TextDemonstrations)
    assert source.data.prompt == prompts * 2
    assert source.data.completion == completions * 2
    n = len(prompts)
    assert source.place(n - 1).endswith("line 1")
    assert source.place(n).endswith("line 2")


def test_a_weight_is_of_every_turn(write):
    rows = [
        {"messages": [HI, HELLO, BYE, GOOD], "weight": 3},
        {"messages": [HI, HELLO], "weight": 1},
    ]
    assert read_text_data(write(*rows)).data.weight.tolist() == [3, 3, 1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "b", "label": True}],
            "line 2: expected the columns prompt, completion, as in the first row",
        ),
        (
            [{"prompt": "ho", "messages": [HI, HELLO]}],
            "prompt must be a message of messages, got 'ho'",
        ),
        ([{"messages": [HI]}], "line 1: a dialogue must hold a turn of the assistant"),
        ([{"prompt": "a", "completion": 3}], "line 1: completion must be text"),
        ([{"messages": [HI, HELLO], "tools": [{}]}], "tools would change what the row says"),
    ],
)
def test_bad_rows(write, rows, message):
    with pytest.raises(ValueError, match=message):
        read_text_data(write(*rows))


def test_a_loss_that_compares_is_refused(prefsim, write):
    file = write(*FILMS)
    code, _, err = prefsim(
        "train", "--loss", "dpo", "--model", "no", "--data", file, "--out", "run"
    )
    assert code == 2
    assert "have no rejected completion" in err
    assert len(err.strip().splitlines()) == 1
