"""Trouble for the daemon, in every Python process that has this directory in its PYTHONPATH.

PDFS_TEST_TROUBLE is a JSON object: `at` is the step at which `what` happens, `file` a file that
has, as JSON, the daemon's `pid` and how many steps of each kind it has taken: `request` and
`answer` of the bucket, `note` in the session's log, `record` in its journal; `any` counts them all.

    what    SIGTERM, SIGINT, SIGHUP     that signal
            logout                      SIGTERM and SIGHUP in one breath
            shutdown                    SIGTERM; the bucket is silent from then on
            twice                       the same, and another SIGTERM later
            anything else               that exception, raised there
    of      the kind of step that `at` counts
"""

import builtins
import json
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

TROUBLE = json.loads(os.environ.get("PDFS_TEST_TROUBLE", "null"))
LATER = 0.3
GIVE_BACK = 1.0


class Steps:
    """What the daemon has done, and the trouble that this brings."""

    def __init__(self) -> None:
        self.is_silent = False
        self._file = os.open(TROUBLE["file"], os.O_WRONLY | os.O_CREAT)
        self._taken = dict.fromkeys(("any", "request", "answer", "note", "record"), 0)

    def take(self, kind: str) -> None:
        for each in (kind, "any"):
            self._taken[each] += 1
        told = json.dumps({"pid": os.getpid(), **self._taken})
        os.pwrite(self._file, told.encode(), 0)
        counted = TROUBLE.get("of", "any")
        if counted in (kind, "any") and self._taken[counted] == TROUBLE["at"]:
            self._happen(TROUBLE["what"])

    def _happen(self, what: str) -> None:
        if what == "logout":
            send(signal.SIGTERM)
            send(signal.SIGHUP)
        elif what in ("shutdown", "twice"):
            self.is_silent = True
            send(signal.SIGTERM)
            if what == "twice":
                later = threading.Timer(LATER, send, (signal.SIGTERM,))
                later.daemon = True
                later.start()
        elif what.startswith("SIG"):
            send(signal.Signals[what])
        else:
            raise getattr(builtins, what)("planted")

    async def ask(self, kind: str) -> None:
        """A request of that kind; it never comes back from a bucket that is silent."""
        import trio

        self.take(kind)
        if self.is_silent:
            await trio.sleep_forever()


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def plant() -> None:
    import pdfs.session
    from pdfs.core.ids import Sequence
    from pdfs.core.notes import Note
    from pdfs.core.record import Record
    from pdfs.local.ledger import Ledger
    from pdfs.mount import stopping
    from pdfs.mount.logbook import Logbook
    from pdfs.store.retry import Patience

    pdfs.session._GIVE_BACK = GIVE_BACK
    stopping.ONE_BREATH = LATER / 2  # type: ignore[misc]  # final for the product
    steps = Steps()
    once, note, commit = Patience.once, Logbook.note, Ledger.commit

    async def asked(self: Patience, attempt: Callable[[], Awaitable[Any]], **given: int) -> Any:
        await steps.ask("request")
        answer = await once(self, attempt, **given)
        await steps.ask("answer")
        return answer

    def noted(self: Logbook, event: Note) -> None:
        note(self, event)
        steps.take("note")

    def committed(self: Ledger, record: Record, *given: bytes) -> Sequence:
        found = commit(self, record, *given)
        steps.take("record")
        return found

    for owner, name, planted in (
        (Patience, "once", asked),
        (Logbook, "note", noted),
        (Ledger, "commit", committed),
    ):
        setattr(owner, name, planted)


if TROUBLE and sys.orig_argv[-2:] == ["-m", "pdfs.mount"]:
    plant()
