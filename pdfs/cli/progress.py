"""How far a daemon is: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from pdfs.cli.words import one_line, printable
from pdfs.core.amounts import amount, count, size
from pdfs.core.moments import rough_span, span

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

_WORDS: Final = {
    "fetch": "fetching",
    "upload": "uploading",
    "wait": "waiting a minute before an earlier publish is finished",
    "publish": "publishing",
    "complete": "completing",
}
QUIET: Final = 10.0
"""Seconds between two lines, where there is no terminal."""
_LONGEST_PATH: Final = 40

Event = Mapping[str, Any]


class Progress:
    """Shows `progress` events on stderr while it is open. A context manager."""

    def __init__(self) -> None:
        self._shown: _Bars | Lines = Lines()

    def __enter__(self) -> "Progress":
        if sys.stderr.isatty():
            self._shown = _Bars()
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def show(self, event: Event) -> None:
        """Take in an event; kinds that are nothing to look at mean nothing here."""
        self._shown.show(event)


class Lines:
    """One line when a phase has gone on for a while, and then now and then.

    What takes no time is not worth a line, and a script's log should stay short.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        say: Callable[[str], None] = lambda line: click.echo(line, err=True),
    ) -> None:
        self._now = now
        self._say = say
        self._next = now() + QUIET

    def show(self, event: Event) -> None:
        """Take in an event."""
        match event.get("event"):
            case "waiting":
                self._say(waiting_line(event))
            case "silent":
                self._say(silent_line(event))
            case "progress" if self._now() >= self._next:
                self._next = self._now() + QUIET
                self._say(line_of(event))
            case _:
                pass

    def close(self) -> None:
        """Nothing is left to be put right."""


class _Bars:
    """One bar for each phase, gone at the end."""

    def __init__(self) -> None:
        self._bar = _bar()
        self._bar.start()
        self._tasks: dict[str, TaskID] = {}

    def close(self) -> None:
        """Give the terminal back."""
        self._bar.stop()

    def show(self, event: Event) -> None:
        """Take in an event."""
        match event.get("event"):
            case "state_changed":
                self._bar.console.print(f"[dim]{str(event.get('state', '')).lower()}…[/dim]")
            case "waiting":
                self._bar.console.print(waiting_line(event), markup=False, highlight=False)
            case "silent":
                self._bar.console.print(silent_line(event), markup=False, highlight=False)
            case "progress":
                self._advance(event)
            case _:
                pass

    def _advance(self, event: Event) -> None:
        what = str(event.get("message", ""))
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(
                _WORDS.get(what, what), total=None, files="", detail=""
            )
        self._bar.update(
            self._tasks[what],
            completed=event.get("bytes", 0),
            total=event.get("of_bytes") or None,
            files=f"{event.get('files', 0)}/{event.get('of_files', 0)} files",
            detail=_detail(event),
        )


def line_of(event: Event) -> str:
    """How far a phase is, which file is under way, and what is in its way.

    `uploading: 3 of 14 files, 1.0 MiB of 3.2 MiB; about 2 min to go; a.dxf; 2 retries, the last: …`
    """
    what = str(event.get("message", ""))
    files = f"{event.get('files', 0)} of {count(event.get('of_files', 0), 'file')}"
    moved = f"{size(event.get('bytes', 0))} of {size(event.get('of_bytes', 0))}"
    detail = _detail(event)
    return f"{_WORDS.get(what, what)}: {files}, {moved}" + (f"; {detail}" if detail else "")


def waiting_line(event: Event) -> str:
    """Whose publish is waited for, and what is left of it."""
    left = amount(int(event.get("files", 0)), int(event.get("bytes", 0)))
    return (
        f"{event.get('project')}/{event.get('stage')} is still being published by "
        f"{event.get('user')} on {event.get('machine')}: {left} left there, last seen "
        f"{span(float(event.get('age', 0)))} ago; waiting (Ctrl-C ends that)"
    )


def silent_line(event: Event) -> str:
    """Which bucket has not answered for a while, and why not, as far as that is known."""
    bucket = str(event.get("bucket"))
    trouble = one_line(event.get("trouble") or "it has not answered yet")
    said = trouble if trouble.startswith(bucket) else f"{bucket}: {trouble}"
    return printable(f"still waiting for {said}")


def _detail(event: Event) -> str:
    """How long it will take, the file that is under way, and what is in its way."""
    path, retries = _short(str(event.get("path") or "")), int(event.get("retries") or 0)
    left = event.get("seconds_left")
    said = [] if left is None else [f"about {rough_span(float(left))} to go"]
    said += [path] if path else []
    if retries:
        tried = f"{retries} {'retry' if retries == 1 else 'retries'}"
        trouble = event.get("trouble")
        said.append(f"{tried}, the last: {trouble}" if trouble else tried)
    return "; ".join(said)


def _short(path: str) -> str:
    """The end of a long path, and nothing that a terminal would obey."""
    shown = "".join(letter if letter.isprintable() else "?" for letter in path)
    return shown if len(shown) <= _LONGEST_PATH else f"…{shown[1 - _LONGEST_PATH :]}"


def _bar() -> "Bar":
    # Imported here: it takes a quarter of a second, and only a terminal has a use for it.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
    from rich.progress import Progress as Bar

    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TextColumn("{task.fields[files]}"),
        TextColumn("{task.fields[detail]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )
