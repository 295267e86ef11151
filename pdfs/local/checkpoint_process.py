"""`python -m pdfs.local.checkpoint_process`: makes one checkpoint, beside the process that serves.

A process of its own, since reading and replaying a gigabyte would hold up every request, and begun
by exec, since a fork would hold /dev/fuse open. It only makes new files (`make_checkpoint`), and
ends when the process that began it is gone. Its priority is that of its session: with a lower one,
on a machine where others compute, it fell behind what was written meanwhile.

    standard input    the order, a JSON object
    standard output   what was made: a JSON object, a newline, and `<QQQQ` for each move
    exit code         that of the error, which is on the standard error
"""

import json
import os
import struct
import sys
from collections.abc import Mapping
from typing import Any, Final

import trio

from pdfs.core.ids import RunId, SessionId
from pdfs.core.intervals import Position
from pdfs.core.relocation import Move, Moves
from pdfs.disk import OsDisk
from pdfs.errors import DiskError, PdfsError
from pdfs.local.checkpoint import Checkpoint, Interrupted, Order, make_checkpoint
from pdfs.local.journal_format import Header

_COMMAND: Final = (sys.executable, "-m", "pdfs.local.checkpoint_process")
_MOVE: Final = struct.Struct("<QQQQ")
_SAID: Final = 2000


async def run_checkpoint_process(directory: int, order: Order) -> Checkpoint:
    """Make a checkpoint in a process of its own; cancelled, that process is ended.

    Raises DiskError with what it said where it made none.
    """
    try:
        result = await trio.run_process(
            _COMMAND,
            stdin=_encode_order(directory, order),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            pass_fds=(directory,),
        )
    except OSError as error:
        raise DiskError(f"a checkpoint can't be made: {error}") from error
    if result.returncode != 0:
        said = result.stderr[-_SAID:].decode(errors="replace").strip()
        raise DiskError(
            f"a checkpoint could not be made: {said or f'it ended with {result.returncode}'}",
            remedy="nothing was changed, and it will be tried again",
        )
    return _decode_checkpoint(result.stdout)


def _encode_order(directory: int, order: Order) -> bytes:
    header = order.header
    fields: Mapping[str, object] = {
        "directory": directory,
        "parent": os.getpid(),
        "last": order.last,
        "after": order.after,
        "session": header.session,
        "run": header.run,
        "project": header.project,
        "stage": header.stage,
        "user": header.user,
        "machine": header.machine,
        "base": dict(header.base),
    }
    return json.dumps(fields).encode()


def _decode_order(raw: bytes) -> tuple[int, int, Order]:
    """(directory, process that waits, order). For what `_encode_order` made only."""
    fields: dict[str, Any] = json.loads(raw)
    directory, parent = fields.pop("directory"), fields.pop("parent")
    last, after = fields.pop("last"), fields.pop("after")
    session, run = SessionId(fields.pop("session")), RunId(fields.pop("run"))
    header = Header(session=session, run=run, **fields)
    return directory, parent, Order(header=header, last=last, after=after)


def _encode_checkpoint(made: Checkpoint) -> bytes:
    boundary = made.boundary
    head = {
        "segment": made.moves.segment,
        "copied": sorted(made.moves.copied),
        "kept": sorted(made.moves.kept),
        "size": made.size,
        "boundary": None if boundary is None else [boundary.segment, boundary.offset],
    }
    return json.dumps(head).encode() + b"\n" + b"".join(_MOVE.pack(*move) for move in made.moves)


def _decode_checkpoint(raw: bytes) -> Checkpoint:
    head, _, rest = raw.partition(b"\n")
    fields: dict[str, Any] = json.loads(head)
    moves = Moves(fields["segment"], frozenset(fields["copied"]), frozenset(fields["kept"]))
    moves.add_all([Move(*row) for row in _MOVE.iter_unpack(rest)])
    boundary = fields["boundary"]
    return Checkpoint(
        moves=moves,
        size=fields["size"],
        boundary=None if boundary is None else Position(*boundary),
    )


def main() -> int:
    """Carry out the order on the standard input; the exit code."""
    directory, parent, order = _decode_order(sys.stdin.buffer.read())
    try:
        made = make_checkpoint(OsDisk(), directory, order, is_wanted=lambda: os.getppid() == parent)
    except PdfsError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    except Interrupted:
        return 1
    sys.stdout.buffer.write(_encode_checkpoint(made))
    sys.stdout.buffer.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
