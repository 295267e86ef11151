"""How far a daemon is: a bar on a terminal, nothing elsewhere."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_WORDS = {"fetch": "fetching", "upload": "uploading", "publish": "publishing"}


class Progress:
    """Shows `progress` events on stderr while it is open. A context manager."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            self._bar = _bar()
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Mapping[str, Any]) -> None:
        """Take in an event; other kinds than `progress` and `state_changed` mean nothing here."""
        if self._bar is None:
            return
        match event.get("event"):
            case "state_changed":
                self._bar.console.print(f"[dim]{str(event.get('state', '')).lower()}…[/dim]")
            case "progress":
                self._advance(self._bar, event)
            case _:
                pass

    def _advance(self, bar: "Bar", event: Mapping[str, Any]) -> None:
        what = str(event.get("message", ""))
        if what not in self._tasks:
            self._tasks[what] = bar.add_task(_WORDS.get(what, what), total=None, files="")
        done, total = event.get("files", 0), event.get("of_files", 0)
        bar.update(
            self._tasks[what],
            completed=event.get("bytes", 0),
            total=event.get("of_bytes") or None,
            files=f"{done}/{total} files",
        )


def _bar() -> "Bar":
    # Imported here: it takes a quarter of a second, and only a terminal has a use for it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[files]}"),
        console=Console(stderr=True),
        transient=True,
    )
