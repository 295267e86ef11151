"""The journal and snapshot that each released schema has on disk, byte for byte.

`python -m tests.local.golden` writes the files of the present schema where there are none. Files
of a schema that was released are never written again: old journals must stay readable.
"""

import os
from pathlib import Path

from pdfs.core.ids import Inode, RunId, SessionId
from pdfs.core.record import Brought, encode
from pdfs.disk import OsDisk, replace_file
from pdfs.local.journal import Journal
from pdfs.local.journal_format import SCHEMA, Header, SegmentName
from pdfs.local.journal_segment import SegmentWriter
from pdfs.local.snapshot import encode_snapshot_head
from tests.local.journals import Written, directory_of

GOLDEN = Path(__file__).parent / "golden"
HEADER = Header(
    session=SessionId("0123456789abcdef0123456789abcdef"),
    run=RunId("fedcba9876543210fedcba9876543210"),
    project="Kraftwerk_1234567",
    stage="Entwurf-ä",
    user="zoë",
    machine="ws7",
    base={"generation": 41, "tree": None},
)
RECORDS: list[Written] = [
    (1, b'{"parent":1,"name":"pump.dwg"}', b""),
    (2, bytes(range(24)), b"the bytes of a write"),
    (2, bytes(range(24)), bytes(range(256)) * 3),
    (254, b"", b""),
    (3, b"the last one was synced, this one was not", b""),
]
CARRIED = [b"what a checkpoint copied", bytes(range(256))]
SNAPSHOT = b"a tree, as far as the journal knows"


def write(target: Path) -> None:
    """A whole segment, a synced record in the next one, and one that is in nobody's promise."""
    with directory_of(target) as directory:
        journal = Journal.create(OsDisk(), directory, HEADER)
        for kind, body, data in RECORDS[:3]:
            journal.append(kind, body, data)
        journal.roll()
        journal.append(*RECORDS[3])
        journal.sync()
        journal.seal()
        journal.append(*RECORDS[4])
        journal.abandon()
        name = SegmentName(2, is_whole=False, is_carried=True)
        carried = SegmentWriter.create(OsDisk(), directory, name, HEADER)
        carried.begin_after(3)
        for data in CARRIED:
            carried.carry(*encode(Brought(ino=Inode(7), start=0)), data)
        carried.seal()
        os.close(carried.descriptor)
        head = encode_snapshot_head(HEADER.session, SNAPSHOT)
        replace_file(OsDisk(), directory, "snapshot", head, SNAPSHOT)


def main() -> None:
    target = GOLDEN / f"schema-{SCHEMA}"
    target.mkdir(parents=True)
    write(target)


if __name__ == "__main__":
    main()
