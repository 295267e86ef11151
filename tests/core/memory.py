"""`python -m tests.core.memory`: what a stage takes, loaded as a mount loads it.

Reads a manifest from standard input; prints the bytes of resident memory before and after, and how
many nodes and names these are.
"""

import sys

from pdfs.core import manifest, snapshot
from pdfs.core.content import Content, ETag, Packed, Plain, digest_of
from pdfs.core.entries import Entry
from pdfs.core.generation import tree_of
from pdfs.core.ids import Inode, ObjectName, Path
from pdfs.core.manifest import Manifest, never_published
from pdfs.core.record import Kind
from pdfs.mount.memory import settle_memory

PER_DIRECTORY = 1000
FIRST_TIME = 1_700_000_000_123_456_789


def big_manifest(files: int) -> Manifest:
    """A generation of so many small files, a thousand to a directory and to a contents object."""
    entries = []
    for number in range(files):
        folder, place = divmod(number, PER_DIRECTORY)
        above, holder = Path(f"area-{folder:04}"), ObjectName(f"{1:012}-{folder:032x}")
        if not place:
            ino = Inode((1 << 33) + folder)
            entries.append(Entry(path=above, ino=ino, kind=Kind.DIRECTORY, mode=0o755, mtime=1))
        path = Path(f"{above}/isometric-{number:07}.dxf")
        digest = digest_of(path.encode())
        content = Content(
            size=10_000 + number,
            digest=digest,
            packed=(Packed(holder, place * 20_000),),
            plain=(Plain(path, ETag(digest.hex()[:32])),),
        )
        ino, time = Inode((1 << 32) + number), FIRST_TIME + number
        entry = Entry(path=path, ino=ino, kind=Kind.FILE, mode=0o644, mtime=time, content=content)
        entries.append(entry)
    empty = never_published()
    return Manifest(
        generation=1,
        publish=None,
        time=1.0,
        predecessor=None,
        top=empty.top,
        entries=tuple(entries),
    )


def resident() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return int(status.read().partition("VmRSS:")[2].split()[0]) * 1024


def main() -> None:
    body = sys.stdin.buffer.read()
    before = resident()
    loaded = manifest.decode("key", body)
    tree = tree_of(loaded, None, uid=0, gid=0)
    snapshot.encode(tree)
    settle_memory()
    sys.stdout.write(f"{before} {resident()} {len(tree.nodes)} {len(loaded.entries)}\n")


if __name__ == "__main__":
    main()
