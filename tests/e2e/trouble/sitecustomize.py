"""Trouble for the daemon, in every Python process that has this directory in its PYTHONPATH.

PDFS_TEST_TROUBLE is a JSON object: `at` is the step at which `what` happens, `file` a file that
has the daemon's process id and how many steps it has taken. A step is the beginning or the end of a
request to the bucket, a line of the session's log, or a record of its journal.

    what    SIGTERM, SIGINT, SIGHUP     that signal
            logout                      SIGTERM and SIGHUP in one breath
            shutdown                    SIGTERM; the bucket is silent from then on
            twice                       the same, and another SIGTERM later
            anything else               that exception, raised there; with `in`, only in such a step
"""

import builtins
import json
import os
import signal
import sys
import threading

TROUBLE = json.loads(os.environ.get("PDFS_TEST_TROUBLE", "null"))
LATER = 0.3
GIVE_BACK = 1.0


def plant() -> None:
    import trio

    import pdfs.session
    from pdfs.local.ledger import Ledger
    from pdfs.mount import stopping
    from pdfs.mount.logbook import Logbook
    from pdfs.store.retry import Patience

    pdfs.session._GIVE_BACK = GIVE_BACK
    stopping.ONE_BREATH = LATER / 2
    told = os.open(TROUBLE["file"], os.O_WRONLY | os.O_CREAT)
    steps, is_silent = 0, False

    def step(where: str) -> None:
        nonlocal steps
        if where != TROUBLE.get("in", where):
            return
        steps += 1
        os.pwrite(told, f"{os.getpid()} {steps:8}".encode(), 0)
        if steps == TROUBLE["at"]:
            happen(TROUBLE["what"])

    def happen(what: str) -> None:
        nonlocal is_silent
        if what == "logout":
            send(signal.SIGTERM)
            send(signal.SIGHUP)
        elif what in ("shutdown", "twice"):
            is_silent = True
            send(signal.SIGTERM)
            if what == "twice":
                later = threading.Timer(LATER, send, (signal.SIGTERM,))
                later.daemon = True
                later.start()
        elif what.startswith("SIG"):
            send(signal.Signals[what])
        else:
            raise getattr(builtins, what)("planted")

    def send(number: int) -> None:
        os.kill(os.getpid(), number)

    once, note, commit = Patience.once, Logbook.note, Ledger.commit

    async def asked(self, attempt, **given):
        step("request")
        if is_silent:
            await trio.sleep_forever()
        answer = await once(self, attempt, **given)
        step("answer")
        if is_silent:
            await trio.sleep_forever()
        return answer

    def noted(self, event):
        note(self, event)
        step("note")

    def committed(self, record, *given):
        found = commit(self, record, *given)
        step("record")
        return found

    Patience.once, Logbook.note, Ledger.commit = asked, noted, committed


if TROUBLE and sys.orig_argv[-2:] == ["-m", "pdfs.mount"]:
    plant()
