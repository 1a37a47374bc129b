"""Progress on the terminal.

Live bars on stderr where somebody watches, one line a paper where nobody does.
"""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

__all__ = ["Bars"]


class Bars:
    """A bar for the whole and one for each loop inside it; use as a context manager.

    Parameters
    ----------
    what, total
        What the whole counts, such as ``"papers"``, and how many there are if that is known yet.
    console
        Of stderr, unless another is given: stdout is for data.
    """

    def __init__(
        self, what: str, total: int | None = None, *, console: Console | None = None
    ) -> None:
        self.console = console or Console(stderr=True)
        self.live = self.console.is_terminal
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        self._progress = Progress(
            *columns, console=self.console, transient=True, disable=not self.live
        )
        self._whole = self._progress.add_task(what, total=total)
        self._tasks: dict[tuple[str, str], TaskID] = {}
        # Calls that run in threads tell of their loops from there.
        self._lock = threading.Lock()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def loop(self, name: str, description: str, done: int, total: int | None) -> None:
        """Show how far a loop of ``name`` has come."""
        key = name, description
        with self._lock:
            if key not in self._tasks:
                self._tasks[key] = self._progress.add_task(f"{name}: {description}", total=total)
            self._progress.update(self._tasks[key], completed=done, total=total)

    def whole(self, done: int, total: int | None) -> None:
        """Show how far the whole has come."""
        self._progress.update(self._whole, completed=done, total=total)

    def finished(self, name: str, line: str) -> None:
        """Take the bars of ``name`` away, print its line, and count it."""
        with self._lock:
            for key in [key for key in self._tasks if key[0] == name]:
                self._progress.remove_task(self._tasks.pop(key))
        self.console.print(line, markup=False, highlight=False, soft_wrap=True)
        self._progress.advance(self._whole)
