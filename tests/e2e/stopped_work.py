"""A program that works in a mount until that is taken away.

`stopped_work.py MOUNT DIARY PREFIX [HOWS]`, by default `save save append remove`.

It keeps to the mount by a descriptor. The diary, outside of it, has a line before each operation,
`begin NAME DIGEST` (`-` for a file that is removed), and one after it has returned, `done`; both
are synced. A file is saved, appended to, or removed whole, so that a name has the state before or
the one after.
"""

import contextlib
import hashlib
import os
import random
import sys
import time

OPERATIONS = 25
PAUSE = 0.01
"""Seconds between two operations: nobody saves faster, and the mount outlives its first moments."""
CREATE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC


def main(mount: str, diary_path: str, prefix: str, hows: str = "save save append remove") -> None:
    choice = random.Random(prefix)
    there = os.open(mount, os.O_RDONLY)
    contents: dict[str, bytes] = {}
    with open(diary_path, "a") as diary:

        def say(*words: str) -> None:
            diary.write(" ".join(words) + "\n")
            diary.flush()
            os.fsync(diary.fileno())

        for _ in range(OPERATIONS):
            name = f"{prefix}-{choice.randrange(6)}"
            more = choice.randbytes(choice.randrange(1, 30_000))
            how = choice.choice(hows.split()) if name in contents else "save"
            after = {"save": more, "append": contents.get(name, b"") + more, "remove": None}[how]
            say("begin", name, "-" if after is None else hashlib.sha256(after).hexdigest())
            carry_out(there, name, how, more)
            say("done")
            if after is None:
                del contents[name]
            else:
                contents[name] = after
            time.sleep(PAUSE)


def carry_out(there: int, name: str, how: str, more: bytes) -> None:
    match how:
        case "save":
            write(there, f"{name}.part", CREATE, more)
            os.rename(f"{name}.part", name, src_dir_fd=there, dst_dir_fd=there)
        case "append":
            write(there, name, os.O_WRONLY | os.O_APPEND, more)
        case _:
            os.unlink(name, dir_fd=there)


def write(there: int, name: str, flags: int, data: bytes) -> None:
    descriptor = os.open(name, flags, dir_fd=there)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError("a write was cut short")
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    with contextlib.suppress(OSError):  # the mount is gone
        main(*sys.argv[1:])
