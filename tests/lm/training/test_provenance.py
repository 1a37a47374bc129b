"""A training goes on from what it was, with what it had; what is on disk is what was written."""

import functools
import multiprocessing
import re
import subprocess

import numpy as np
import pytest
import torch
from lm_made import adapted_llama, byte_tokenizer, random_ids, random_pairs, small_llama

from prefsim import losses
from prefsim.lm import CausalLM, ReferenceLogps, TextComparisons, reference_logps, references_of
from prefsim.lm.training.lock import LOCK, only_training_in
from prefsim.solvers import fit

dpo = functools.partial(losses.dpo, beta=0.5)
OPTIONS = {
    "steps": 4,
    "batch_size": 3,
    "learning_rate": 3e-3,
    "progress": False,
    "save_every": 2,
}


def of_lengths(seed):
    """Four pairs of tokens whose lengths do not depend on the seed."""
    rng = np.random.default_rng(seed)
    return TextComparisons(*([rng.integers(3, 64, 4).tolist() for _ in range(4)] for _ in range(3)))


def test_log_probabilities_of_other_rows_are_refused(tiny):
    options = {"steps": 1, "progress": False}
    own, other = (references_of(tiny, of_lengths(seed), dpo) for seed in (0, 1))
    first = fit(tiny, dpo, of_lengths(0), reference=own, **options).value
    assert first == pytest.approx(np.log(2), abs=1e-6)
    with pytest.raises(ValueError, match="of the data's own prompts and completions"):
        fit(tiny, dpo, of_lengths(0), reference=other, **options)
    # Completions alone are not enough, nor are the rows in another order.
    data = of_lengths(0)
    asked_otherwise = TextComparisons(data.prompt[::-1], data.chosen, data.rejected)
    turned = data.take([3, 2, 1, 0])
    for changed in (asked_otherwise, turned):
        with pytest.raises(ValueError, match="of the data's own prompts and completions"):
            fit(tiny, dpo, changed, reference=own, **options)
    # Numbers of one's own say nothing of where they are from.
    mine = ReferenceLogps(own.values, own.offsets)
    assert fit(tiny, dpo, data, reference=mine, **options).value == first


def test_a_reference_with_another_tokenizer_is_refused():
    policy = CausalLM.from_config(small_llama(320), byte_tokenizer(), seed=0)
    text = "zebras and quails exchange vowels"
    others = byte_tokenizer()
    vocabulary = others.get_vocab()
    data = TextComparisons(["the cat"], [" sat on the mat"], [" sat on the log"])
    options = {"steps": 1, "progress": False}
    fit(policy, dpo, data, reference=CausalLM(policy.log_prob_model, others), **options)
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([text] * 20, vocab_size=320, show_progress=False)
    strange = PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer)
    assert strange.get_vocab() != vocabulary
    with pytest.raises(ValueError, match=r"must have the policy's tokenizer, where token \d+ is"):
        fit(policy, dpo, data, reference=CausalLM(policy.log_prob_model, strange), **options)


def changed_alpha():
    from peft import LoraConfig

    lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=64, target_modules=["q_proj"])
    return CausalLM.from_config(small_llama(64), seed=0, adapter=lora)


def changed_rank():
    from peft import LoraConfig

    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_alpha=8, target_modules=["q_proj"])
    return CausalLM.from_config(small_llama(64), seed=0, adapter=lora)


def wide():
    return CausalLM.from_config(small_llama(64), seed=0, dtype="float64")


def other():
    return CausalLM.from_config(small_llama(64), seed=1)


# What is given, what is given when it goes on, and what the message names; a reference of None is
# the policy as it starts.
CHANGED = {
    "model": (CausalLM.from_config, other, None, "model must be what it was"),
    "reference": (CausalLM.from_config, None, other, "reference must be what it was"),
    "no reference": (CausalLM.from_config, None, lambda: "none", "reference must be .* got 'none'"),
    "dtype": (CausalLM.from_config, wide, None, "dtype must be .* 'float32', got 'float64'"),
    "adapters": (CausalLM.from_config, adapted_llama, None, "adapters must be .* 'none', got"),
    "alpha": (adapted_llama, changed_alpha, None, 'adapters must be .* got .*"lora_alpha": 64'),
    "rank": (adapted_llama, changed_rank, None, 'adapters must be .* got .*"r": 2'),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_a_training_started_from_cannot_change(tmp_path, what):
    start, then, reference, message = CHANGED[what]
    policy = start() if start is adapted_llama else start(small_llama(64), seed=0)
    options = {"out": tmp_path, **OPTIONS}
    fit(policy, dpo, random_pairs(), reference=policy.frozen(), **options)
    changed = policy if then is None else then()
    against = changed.frozen() if reference is None else reference()
    against = None if against == "none" else against
    with pytest.raises(ValueError, match=message):
        fit(changed, dpo, random_pairs(), reference=against, resume=True, **options)


def test_a_reference_is_the_same_in_every_form(tmp_path, tiny):
    """The model, a copy, or its numbers: which of them is given changes nothing."""
    for k, reference in enumerate((tiny, tiny.frozen(), references_of(tiny, random_pairs(), dpo))):
        resume = k > 0
        result = fit(
            tiny, dpo, random_pairs(), reference=reference, resume=resume, out=tmp_path, **OPTIONS
        )
        assert result.steps == 4


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_every_flipped_byte_of_a_checkpoint_is_noticed(tmp_path, tiny):
    options = {"reference": tiny, "out": tmp_path, **OPTIONS}
    fit(tiny, dpo, random_pairs(), **options)
    newest = tmp_path / "checkpoints/step-00000004"
    names = {path.relative_to(newest).as_posix() for path in files_of(newest)}
    assert {"SHA256SUMS", "model/model.safetensors", "optimizer.safetensors"} < names
    message = re.escape(f"checkpoint {str(newest)!r} cannot be read (")
    for file in files_of(newest):
        whole = file.read_bytes()
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        for damaged in (flipped, whole[:middle], b""):
            file.write_bytes(damaged)
            with pytest.raises(ValueError, match=message):
                fit(tiny, dpo, random_pairs(), resume=True, **options)
        file.unlink()
        if file.name != "state.json":  # without which it is none
            with pytest.raises(ValueError, match=message):
                fit(tiny, dpo, random_pairs(), resume=True, **options)
        file.write_bytes(whole)
    (newest / "model/more.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=message):
        fit(tiny, dpo, random_pairs(), resume=True, **options)
    (newest / "model/more.safetensors").unlink()
    assert fit(tiny, dpo, random_pairs(), resume=True, **options).steps == 4
    # Anybody can look.
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=newest, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize("state", ["[]", "{}", '{"step": "4"}', "[" * 100_000])
def test_a_state_that_is_none_is_one_error(tmp_path, tiny, state):
    options = {"reference": tiny, "out": tmp_path, **OPTIONS}
    fit(tiny, dpo, random_pairs(), **options)
    (tmp_path / "checkpoints/step-00000004/state.json").write_text(state)
    with pytest.raises(ValueError, match=r"cannot be read .*; delete it to resume"):
        fit(tiny, dpo, random_pairs(), resume=True, **options)


def test_a_flipped_byte_of_cached_log_probabilities_is_noticed(tmp_path, tiny):
    rng = np.random.default_rng(0)
    rows = tiny.encode(random_ids(rng, 4), random_ids(rng, 4))
    made = reference_logps(tiny, rows, cache=tmp_path)
    again = reference_logps(tiny, rows, cache=tmp_path)
    np.testing.assert_array_equal(made.values, again.values)
    assert (made.rows, made.model) == (again.rows, again.model)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    # In the numbers, which lie somewhere behind the header.
    place = whole.index(made.values.tobytes()) + 1
    file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(ValueError, match="are not those that were written; delete the file"):
        reference_logps(tiny, rows, cache=tmp_path)


def hold(folder, held, leave):
    with only_training_in(folder):
        held.set()
        leave.wait(60)


def test_two_trainings_in_one_folder_are_refused(tmp_path, tiny):
    context = multiprocessing.get_context("fork")
    held, leave = context.Event(), context.Event()
    process = context.Process(target=hold, args=(tmp_path, held, leave))
    process.start()
    assert held.wait(60)
    options = {"reference": tiny, "out": tmp_path, **OPTIONS}
    host = f"process {process.pid} on "
    with pytest.raises(ValueError, match=f"another training .{host}.*, [0-9a-f]{{16}}"):
        fit(tiny, dpo, random_pairs(), **options)
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    # However it ends, it lets go.
    process.kill()
    process.join()
    assert fit(tiny, dpo, random_pairs(), **options).steps == 4
    assert not (tmp_path / LOCK).exists()


def test_where_there_are_no_locks_the_file_is_one(tmp_path, monkeypatch):
    import errno
    import fcntl

    def none(handle, how):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with only_training_in(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith("process ")
        with pytest.raises(ValueError, match="remove the file if that training has ended"):
            only_training_in(tmp_path).__enter__()
    with only_training_in(tmp_path):
        assert (tmp_path / LOCK).exists()


def test_a_training_that_ended_meanwhile_is_not_written_over(tmp_path, tiny):
    from prefsim.lm.training.engine import run
    from prefsim.lm.training.options import TrainingOptions
    from prefsim.lm.training.setup import TrainingSetup

    options = TrainingOptions(out=tmp_path, **OPTIONS)
    late = TrainingSetup(tiny, dpo, random_pairs(), None, options)
    fit(tiny, dpo, random_pairs(), reference=None, out=tmp_path, **OPTIONS)
    before = (tmp_path / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match="was written to by another training meanwhile"):
        run(late)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before


def test_what_is_kept_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    import os
    from pathlib import Path

    from prefsim.lm.training.checkpoint import saved

    done = []
    names = {}
    opened, synced, renamed = os.open, os.fsync, Path.rename

    def note_open(path, *rest, **more):
        handle = opened(path, *rest, **more)
        names[handle] = Path(os.fsdecode(path)).name
        return handle

    def note_sync(handle):
        done.append(("sync", names[handle]))
        synced(handle)

    def note_rename(self, target):
        done.append(("rename", Path(target).name))
        return renamed(self, target)

    monkeypatch.setattr(os, "open", note_open)
    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "rename", note_rename)
    with saved(tmp_path / "it") as folder:
        (folder / "inner").mkdir()
        (folder / "inner/weights").write_text("1")
    place = done.index(("rename", "it"))
    assert {("sync", "weights"), ("sync", "inner"), ("sync", ".it.partial")} == set(done[:place])
    assert done[place + 1 :] == [("sync", tmp_path.name)]


def test_fingerprints_do_not_depend_on_where_a_model_lies(tmp_path, tiny):
    from prefsim.lm import model_hash

    tiny.save(tmp_path / "here")
    (tmp_path / "there").mkdir()
    tiny.save(tmp_path / "there/deep")
    here, there = (CausalLM.load(tmp_path / name) for name in ("here", "there/deep"))
    assert model_hash(here) == model_hash(there)
    with torch.no_grad():
        next(there.log_prob_model.parameters()).view(-1)[0].add_(1e-3)
    assert model_hash(here) != model_hash(there)
