"""Formats of another version, in the state directory and in the bucket, are refused untouched (J6).

A crashed session whose stage was published before; then one file of it is of a newer schema, or of
an older one: until the first release, formats change without a way back.
"""

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pdfs.core.ids import SessionId
from pdfs.local import snapshot
from pdfs.local.journal_format import (
    FRAME_SIZE,
    HEADER_SIZE,
    encode_frame,
    origin_of,
)
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Bucket, Machine


@dataclass(frozen=True, slots=True)
class Crashed:
    """What a session left, here and in the bucket."""

    here: Machine
    bucket: Path
    session: SessionId

    @property
    def own(self) -> Path:
        return self.here.home / "state" / "pdfs" / "sessions" / self.session

    @property
    def log(self) -> Path:
        return self.own.parents[1] / "logs" / f"{self.session}.jsonl.__partial__"

    def document(self, pattern: str) -> Path:
        """The one of that name in the bucket."""
        (found,) = self.bucket.glob(f"{PROJECT}/{pattern}")
        return found

    def manifest(self) -> Path:
        """The one that the root names."""
        tree = json.loads(self.document(".pdfs/planning/root.json").read_text())["tree"]
        return self.document(f".pdfs/planning/trees/{tree}.json.gz")

    def files(self) -> dict[str, bytes]:
        """All that must not change: logs tell of each try."""
        tops = [self.own.parent, self.own.parents[1] / "trash", self.bucket / PROJECT]
        return {
            str(path): path.read_bytes()
            for top in tops
            for path in top.rglob("*")
            if path.is_file()
        }


def edit_json(path: Path, change: int) -> int:
    """Raise the schema of a JSON document; the one that it has then."""
    fields = json.loads(path.read_bytes())
    fields["schema"] += change
    path.write_bytes(json.dumps(fields).encode())
    return int(fields["schema"])


def edit_packed(path: Path, change: int) -> int:
    fields = json.loads(gzip.decompress(path.read_bytes()))
    fields["schema"] += change
    path.write_bytes(gzip.compress(json.dumps(fields).encode()))
    return int(fields["schema"])


def edit_snapshot(crashed: Crashed, change: int) -> int:
    path, schema = crashed.own / "snapshot", snapshot.SCHEMA + change
    content = bytes(snapshot.decode_snapshot(path.read_bytes(), crashed.session, file="snapshot"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "SCHEMA", schema)
        path.write_bytes(snapshot.encode_snapshot_head(crashed.session, content) + content)
    return schema


def edit_segment(crashed: Crashed, change: int) -> int:
    path = next(iter(sorted(crashed.own.glob("journal-*"))))
    raw = path.read_bytes()
    fields = json.loads(raw[FRAME_SIZE:HEADER_SIZE])
    fields["schema"] += change
    body = json.dumps(fields).encode().ljust(HEADER_SIZE - FRAME_SIZE)
    number = int(path.name.split("-")[1].split(".")[0])
    frame = encode_frame(origin_of(crashed.session, fields["run"], number), 0, 0, body, b"", 0, 0)
    path.write_bytes(frame + body + raw[HEADER_SIZE:])
    return int(fields["schema"])


def edit_log(crashed: Crashed, change: int) -> int:
    path = crashed.log
    first, _, rest = path.read_bytes().partition(b"\n")
    fields = json.loads(first)
    fields["schema"] += change
    path.write_bytes(json.dumps(fields).encode() + b"\n" + rest)
    return int(fields["schema"])


EDITS: dict[str, Callable[[Crashed, int], int]] = {
    "session.json": lambda crashed, by: edit_json(crashed.own / "session.json", by),
    "snapshot": edit_snapshot,
    "segment": edit_segment,
    "log": edit_log,
    "lock": lambda crashed, by: edit_json(crashed.document("planning.lock.json"), by),
    "root": lambda crashed, by: edit_json(crashed.document(".pdfs/planning/root.json"), by),
    "manifest": lambda crashed, by: edit_packed(crashed.manifest(), by),
}
REFUSED = {"snapshot": 2, "segment": 2, "lock": 4, "root": 9, "manifest": 11}
"""The exit code: 9 says that work is kept. A description or a log of another schema keeps nobody
from mounting."""


@pytest.fixture
def crashed(bucket: Bucket, machine: MakeMachine) -> Crashed:
    """A session with work, of a stage that was published before."""
    here = machine(bucket)
    (here.mount("--create") / "published").write_text("before\n")
    here.pdfs("umount", here.mountpoint)
    (here.mount() / "written").write_text("since then\n")
    (status,) = here.sessions()
    here.kill()
    assert bucket.directory is not None
    return Crashed(here, bucket.directory, SessionId(status["session"]))


@pytest.mark.figure(name="J6")
@pytest.mark.parametrize("what", EDITS)
def test_another_schema_is_refused_untouched_and_in_words(
    crashed: Crashed, what: str, seed: int, is_full: bool
) -> None:
    if not is_full and what != list(EDITS)[seed % len(EDITS)]:
        return
    here = crashed.here
    schema = EDITS[what](crashed, -1 if seed % 2 else 1)
    before, log = crashed.files(), crashed.log.read_bytes()
    if what in ("snapshot", "segment"):
        file = next(crashed.own.glob("journal-1*")) if what == "segment" else crashed.own / what
        for command in (
            ("recover", "show", crashed.session),
            ("recover", "resume", crashed.session),
            ("journal", "verify", crashed.own),
            ("journal", "dump", file),
        ):
            ended = here.run(*command)
            assert ended.code == 2, command
            assert f"has schema {schema}, this PDFS reads" in ended.err
        assert crashed.files() == before
    if what == "manifest":  # who resumes has the tree
        ended = here.run("ls", f"{PROJECT}/planning")
    else:
        ended = here.run("mount", PROJECT, here.mountpoint)
    assert ended.code == REFUSED.get(what, 0)
    if what != "log":
        assert f"has schema {schema}" in ended.err
    kept = {path: raw for path, raw in before.items() if what in ("snapshot", "segment")}
    kept |= {path: raw for path, raw in before.items() if f"/{what}" in path}
    if what in (
        "lock",
        "root",
        "manifest",
    ):  # the journal may be recovered, the bucket is as it was
        kept = {path: raw for path, raw in before.items() if path.startswith(str(crashed.bucket))}
    elif what == "session.json":
        kept = {path: raw for path, raw in before.items() if path.startswith(str(crashed.own))}
    assert {path: crashed.files().get(path) for path in kept} == kept
    if what == "log":
        assert crashed.log.read_bytes() == log
