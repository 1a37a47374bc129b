"""What a training says while it runs.

JSON lines on disk, TensorBoard where it is installed, other trackers, a bar where somebody watches.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from prefsim.lm.training.trackers import Listener
from prefsim.progress import Bars

__all__ = ["Reporter", "read_metrics"]


def read_metrics(file: str | Path) -> list[dict[str, float]]:
    """Return the lines of a ``metrics.jsonl``; a last line that was cut off is left out."""
    lines = []
    for line in Path(file).read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


class Reporter:
    """Writes metrics; use as a context manager, on the main process only.

    Parameters
    ----------
    folder
        Of the training, or None to write nothing.
    done, total
        Steps done before and in all. Lines of later steps, left by a run that was killed, are
        removed.
    progress
        Whether a bar is shown (on a terminal).
    heard
        Functions that are called with every new line.
    """

    def __init__(
        self,
        folder: Path | None,
        done: int,
        total: int,
        *,
        progress: bool,
        heard: Sequence[Listener] = (),
    ) -> None:
        self.lines: list[dict[str, float]] = []
        self._bars = Bars("training steps", total) if progress else None
        self._total = total
        self._heard = heard
        self.stopped = False
        self._file = self._board = None
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "metrics.jsonl"
        if path.exists():
            # The step a run begins at is measured again.
            self.lines = [line for line in read_metrics(path) if line["step"] <= done and done > 0]
        partial = path.with_name(".metrics.jsonl.partial")
        partial.write_text(
            "".join(json.dumps(line) + "\n" for line in self.lines), encoding="utf-8"
        )
        os.replace(partial, path)
        self._file = path.open("a", encoding="utf-8")
        if importlib.util.find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)

    def __enter__(self) -> Reporter:
        if self._bars is not None:
            self._bars.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bars is not None:
            self._bars.__exit__(kind, error, trace)
        for stream in (self._file, self._board):
            if stream is not None:
                stream.close()

    def step(self, done: int) -> None:
        """Move the bar."""
        if self._bars is not None:
            self._bars.whole(done, self._total)

    def write(self, line: dict[str, Any]) -> None:
        """Write one line of metrics; ``step`` is among them."""
        self.lines.append(line)
        if self._file is not None:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
        if self._board is not None:
            for name, value in line.items():
                if name != "step":
                    self._board.add_scalar(name, value, line["step"])
        for hear in self._heard:
            self.stopped |= hear(dict(line)) is True
