"""A daemon that is started with this on PYTHONPATH has strace follow it: Python imports it itself.

From before its first call that touches anything of a session. `PDFS_TEST_STRACE` is a JSON list:
the id that the session gets, the log, the paths that count, and what strace is to tamper with.
Segments are small, so that a few writes make the journal roll and a checkpoint due.
"""

import json
import os
import sys
import uuid
from functools import partial
from itertools import chain, count
from pathlib import Path

if sys.orig_argv[-2:] == ["-m", "pdfs.mount"] and "PDFS_TEST_STRACE" in os.environ:
    import pdfs.mount.daemon
    import pdfs.mount.workspace
    from pdfs.local.sizes import JournalSizes
    from tests.local.strace import follow_this_process

    small = JournalSizes(segment=64 << 10, growth=8 << 10, reserve=4 << 10, garbage=64 << 10)
    setattr(pdfs.mount.workspace, "sizes_for", lambda free: small)  # noqa: B010 - as tests do
    session, log, only, *tampering = json.loads(os.environ.pop("PDFS_TEST_STRACE"))
    ids = chain([session], (uuid.uuid4().hex for _ in count()))
    setattr(pdfs.mount.daemon, "new_id", partial(next, ids))  # noqa: B010 - as tests do
    follow_this_process(Path(log), *tampering, only=only)
