"""The command line as a process: exit codes, interrupts, pipes that close, and quick starts."""

import functools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from cli_calls import FAILS, process


def test_exit_codes_of_the_process(fake_papers, tmp_path):
    fake_papers("good")
    fake_papers("bad", claims=FAILS, body="passed = False")
    good = process("check", "good", "--examples", 5, "--json", cwd=tmp_path)
    assert (good.returncode, good.stderr) == (0, "")
    assert json.loads(good.stdout)["good"]["zero"]["holds"]
    bad = process("check", "--all", "--examples", 5, "--json", "-j", 2, cwd=tmp_path)
    assert bad.returncode == 1
    assert list(json.loads(bad.stdout)) == ["bad", "good"]
    assert json.loads(bad.stdout)["good"] == json.loads(good.stdout)["good"]
    assert process("repro", "bad", "--json", cwd=tmp_path).returncode == 1
    unknown = process("show", "god", cwd=tmp_path)
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert unknown.stderr == "prefsim: paper 'god' is not known; did you mean 'good'?\n"


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_run_resumes(fake_papers, tmp_path, jobs):
    fake_papers("a_quick")
    fake_papers("b_slow", pause=20.0)
    command = [sys.executable, "-m", "prefsim", "repro", "--all", "--json", "-j", str(jobs)]
    running = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs the tests in the background lets its children ignore the interrupt.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "results" / "a_quick" / "result.json").exists():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=30)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 130
    assert out == ""
    assert (
        err.splitlines()[-1]
        == "prefsim: interrupted; what is finished is kept, and the same command resumes (train:"
        " with --resume)"
    )
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "a_quick",
        "index.html",
    ]
    fake_papers("b_slow")
    again = process("repro", "--all", "--json", cwd=tmp_path)
    assert again.returncode == 0
    assert {slug: result["reused"] for slug, result in json.loads(again.stdout).items()} == {
        "a_quick": True,
        "b_slow": False,
    }


def test_a_reader_that_leaves_is_no_error(fake_papers, tmp_path):
    file = fake_papers("long") / "__init__.py"
    file.write_text(file.read_text().replace("A [bold]summary", "long " * 100_000))
    command = [sys.executable, "-m", "prefsim", "list", "--json"]
    # Unbuffered, Python itself loses the rest of a write that a pipe took in part, and sees no
    # error.
    usual = {**os.environ, "PYTHONUNBUFFERED": ""}
    listing = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=usual
    )
    listing.stdout.readline()
    listing.stdout.close()
    assert listing.wait(30) == 141
    assert listing.stderr.read() == ""
    listing.stderr.close()


def shell(command, **environment):
    """Run a line of the shell, where `prefsim` is the command line of this library."""
    line = command.replace("prefsim", f"{sys.executable} -m prefsim")
    return subprocess.run(
        ["/bin/sh", "-c", line],
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["list", "list --json", "show p"])
def test_output_that_cannot_be_written_is_one_line(fake_papers, tmp_path, command):
    fake_papers("p")
    done = shell(f"cd {tmp_path} && prefsim {command} > /dev/full")
    assert (done.returncode, done.stderr) == (2, b"prefsim: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_change_nothing_else(fake_papers, tmp_path, closed):
    fake_papers("p")
    done = shell(f"cd {tmp_path} && prefsim repro p {closed}")
    assert done.returncode == 0
    assert done.stderr.count(b"Error") == 0
    assert json.loads((tmp_path / "results" / "p" / "result.json").read_text())["passed"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("command", ["check p --examples 5", "repro p", "show p"])
def test_a_console_of_another_alphabet(fake_papers, tmp_path, encoding, command):
    fake_papers("p")
    plain = shell(f"cd {tmp_path} && prefsim {command}", PYTHONIOENCODING=encoding)
    assert (plain.returncode, plain.stdout.decode(encoding) != "") == (0, True)
    as_json = shell(f"cd {tmp_path} && prefsim {command} --json", PYTHONIOENCODING=encoding)
    assert as_json.returncode == 0
    json.loads(as_json.stdout.decode(encoding))


IS_STRUCK = """
import gc, os, signal

def strike(phase, info):
    gc.callbacks.remove(strike)
    os.kill(os.getpid(), signal.SIGINT)

@claim("once", "identity", source="s", stated="paper", given={"x": st.floats(0, 1)})
def is_struck_once(x):
    '''x = x'''
    if not getattr(gc, "struck", False):
        gc.struck = True
        gc.callbacks.append(strike)
        gc.collect()
    return apart(x, x)
"""


def test_an_interrupt_that_python_ignores_is_not_lost(fake_papers, tmp_path):
    # As if the signal came while Hypothesis' callback of the garbage collector runs.
    fake_papers("p", claims=IS_STRUCK)
    done = shell(f"cd {tmp_path} && prefsim check p --examples 5")
    assert done.returncode == 130, done.stderr


@pytest.mark.parametrize("arguments", [["list", "--json"], ["--version"], ["list"]])
def test_quick_commands_import_nothing_heavy(arguments):
    code = f"""
import sys
from prefsim.cli import main
try:
    main({arguments!r})
except SystemExit as stop:
    assert stop.code == 0
unwanted = ("torch", "cvxpy", "matplotlib", "gymnasium", "transformers", "hypothesis", "joblib")
heavy = {{"jinja2", "scipy", *unwanted}} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
