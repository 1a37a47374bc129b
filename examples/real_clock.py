"""What each stage of a study takes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Says what each stage took as it ends, and keeps it.

    Attributes
    ----------
    stages
        Seconds that passed, and seconds of all processors, by stage.
    """

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, float]] = {}

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what is done within."""
        start, start_cpu = time.perf_counter(), time.process_time()
        yield
        took = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - start_cpu}
        self.stages[name] = took
        # At once, so that whoever waits sees where it is.
        print(_said(name, took), flush=True)

    def total(self) -> str:
        """Return a line of all stages together."""
        every = self.stages.values()
        return _said(
            "all stages",
            {unit: sum(took[unit] for took in every) for unit in ("seconds", "cpu")},
        )


def _said(name: str, took: dict[str, float]) -> str:
    return f"{name}: {took['seconds']:.0f} s, of processors {took['cpu']:.0f} s"
