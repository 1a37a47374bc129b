"""Metrics go where they are asked to: to functions, to trackers of accelerate, to the boards."""

import numpy as np
import pytest

from prefsim import losses
from prefsim.lm import Evaluation, TextComparisons
from prefsim.solvers import fit

OPTIONS = {"steps": 3, "batch_size": 2, "learning_rate": 1e-3, "log_every": 2, "progress": False}


def trained(policy, **options):
    rng = np.random.default_rng(0)
    made = [[rng.integers(3, 64, 5).tolist() for _ in range(4)] for _ in range(3)]
    data = TextComparisons(*made)
    return fit(policy, losses.dpo, data, reference=policy, **(OPTIONS | options))


def test_a_function_is_called_with_every_line(tiny):
    seen = []
    result = trained(tiny, trackers=[seen.append], diagnostics=["accuracy"])
    assert tuple(seen) == result.metrics
    assert [line["step"] for line in seen] == [0, 2, 3]


def test_what_a_function_does_to_a_line_stays_with_it(tiny):
    result = trained(tiny, trackers=[lambda line: line.clear()])
    assert all("loss" in line for line in result.metrics)


def test_a_function_ends_the_training(tiny, tmp_path):
    def enough(line):
        return line["step"] >= 2

    options = {"steps": 9, "log_every": 1, "save_every": 100}
    result = trained(tiny, trackers=[lambda line: 1, enough], out=tmp_path, **options)
    assert result.steps == 2 and result.metrics[-1]["step"] == 2
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    # What was asked for may be gone on with.
    again = trained(tiny, out=tmp_path, resume=True, **options)
    assert again.steps == 9 and again.metrics[:2] == result.metrics


def test_a_function_ends_it_at_a_line_of_evaluation_too(tiny):
    rng = np.random.default_rng(1)
    made = [[rng.integers(3, 64, 5).tolist() for _ in range(4)] for _ in range(3)]
    evaluation = Evaluation(data=TextComparisons(*made), every=1)
    result = trained(
        tiny,
        trackers=[lambda line: "eval_loss" in line and line["step"] == 1],
        steps=9,
        log_every=5,
        evaluation=evaluation,
    )
    assert result.steps == 1


def test_a_tracker_of_ones_own(tiny):
    from accelerate.tracking import GeneralTracker

    class Kept(GeneralTracker):
        name, requires_logging_directory = "kept", False

        def __init__(self):
            super().__init__()
            self.lines, self.settings, self.ended = {}, {}, False

        @property
        def tracker(self):
            return self.lines

        def store_init_configuration(self, values):
            self.settings = values

        def log(self, values, step=None, **kwargs):
            self.lines[step] = values

        def finish(self):
            self.ended = True

    kept = Kept()
    result = trained(tiny, trackers=[kept])
    assert {step: line["loss"] for step, line in kept.lines.items()} == {
        line["step"]: line["loss"] for line in result.metrics
    }
    assert kept.settings["learning_rate"] == 1e-3
    assert "dpo" in kept.settings["loss"]
    assert kept.ended
    broken = Kept()
    with pytest.raises(ValueError, match="must be finite"):
        trained(tiny, trackers=[broken], learning_rate=1e30, warmup=0.0)
    assert broken.ended


def test_tensorboard_has_the_same_numbers(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = trained(tiny, out=tmp_path, trackers=["tensorboard"])
    read = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    found = {event.step: event.value for event in read.Scalars("loss")}
    assert found == pytest.approx({line["step"]: line["loss"] for line in result.metrics})


def test_wandb_offline(tiny, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trained(tiny, out=tmp_path, trackers=["wandb"])
    assert list((tmp_path / "wandb").glob("offline-run-*/*.wandb"))


@pytest.mark.parametrize(
    ("trackers", "message"),
    [
        ("wandb", "must be a list of names or functions, got 'wandb'"),
        (["bord"], "trackers must be one of .* got 'bord'"),
        ([3], "trackers must be one of"),
    ],
)
def test_bad_trackers(tiny, trackers, message):
    with pytest.raises(ValueError, match=message):
        trained(tiny, trackers=trackers)


def test_one_that_is_not_installed_is_told(tiny):
    import accelerate.tracking

    missing = set(accelerate.tracking.LOGGER_TYPE_TO_CLASS) - {
        str(getattr(each, "value", each)) for each in accelerate.tracking.get_available_trackers()
    }
    if not missing:
        pytest.skip("every tracker that accelerate knows is installed")
    name = min(missing)
    with pytest.raises(ValueError, match=f"tracker '{name}' is not installed"):
        trained(tiny, trackers=[name])
