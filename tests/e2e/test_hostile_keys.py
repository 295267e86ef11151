"""Keys that another tool chose to do harm: each is a file or a warning, and harms nothing (H5)."""

import os
import unicodedata
import uuid
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import Reached
from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import PROJECT, Machine, server_bucket
from tests.store.servers import Server, admin_client

UPWARDS = ["../h5", "../../../../../../h5", "a/../h5", "a/../../../h5", "..", "a/.."]
ODD_PATHS = ["./h5", ".", "a/./h5", "/h5", "//h5", "a//h5", "a/h5/", "h5-directory/", "h5//"]
CONTROLS = [
    f"h5 {number:02x} {chr(number)}" for number in range(1, 32) if chr(number) not in "\r\n"
]
LONG = ["h5" * 127 + "x", "h5" * 128, "h5/" * 100 + "end", "é" * 128]
TWINS = [unicodedata.normalize(form, "h5 Kühlturm") for form in ("NFC", "NFD")]
TWINS += ["h5 case/A", "h5 case/a", "h5 nested", "h5 nested/below", "h5 deep", "h5 deep/a/b/c"]
WINDOWS = ["h5 dot.", "h5 space ", "CON", "NUL", "aux.txt", "h5\\back", "a\\..\\..\\h5", "C:h5"]
SHELL = [
    "-rf",
    "~",
    "$(touch h5)",
    "`touch h5`",
    ";h5",
    "*",
    "?",
    "{1..3}",
    "|h5",
    "h5\x7f",
    "h5'\"",
]
MARKUP = ["h5<a>&amp;</a>", "h5]]>", "h5<!--", "%2e%2e/h5", "h5%00", "h5%2Fslash", "+h5 +"]
UNICODE = [
    "h5\u202egwd",
    "h5\u200b",
    "\ufeffh5",
    "h5\u2028",
    "h5🏭",
    "h5\u0000".replace("\0", "\u2400"),
]
OURS = [".pdfs/root.json", ".pdfs/h5", "planning.lock.json", ".lock.json", ".fuse_hidden0001"]
OURS += ["lost+found", ".Trash", ".pdfs-probe/h5", "h5 (conflict anna ws7 2026-11-22 14.03)"]
KEYS = [*UPWARDS, *ODD_PATHS, *CONTROLS, *LONG, *TWINS, *WINDOWS, *SHELL, *MARKUP, *UNICODE, *OURS]


def put_all(server: Server, stage: str) -> dict[str, bytes]:
    """Each key that the server takes, with bytes of its own."""
    there = {}
    with closing(admin_client(server)) as client:
        for number, name in enumerate(KEYS):
            body = f"body {number}".encode()
            client.put_object(Bucket=server.bucket, Key=f"{stage}/{name}", Body=body)
            there[name] = body
    return there


def left(server: Server, stage: str) -> dict[str, bytes]:
    with closing(admin_client(server)) as client:
        pages = client.get_paginator("list_objects_v2").paginate(
            Bucket=server.bucket, Prefix=f"{stage}/"
        )
        keys = [row["Key"] for page in pages for row in page["Contents"]]
        return {
            key.removeprefix(f"{stage}/"): client.get_object(Bucket=server.bucket, Key=key)[
                "Body"
            ].read()
            for key in keys
        }


def shown(mounted: Path) -> dict[str, bytes]:
    """Every file of the mount, by its path."""
    return {
        os.path.relpath(os.path.join(directory, name), mounted): Path(directory, name).read_bytes()
        for directory, _, names in os.walk(mounted)
        for name in names
    }


def strays(here: Machine) -> list[str]:
    """Whatever has a hostile name and lies beside the mount."""
    return [
        os.path.join(directory, name)
        for directory, inner, names in os.walk(here.home)
        if not directory.startswith(str(here.mountpoint))
        for name in (*inner, *names)
        if "h5" in name
    ]


@pytest.mark.figure(name="H5")
def test_every_hostile_key_is_a_file_or_a_warning_and_stays_as_it_is(
    moto: Server, machine: MakeMachine, reached: Reached
) -> None:
    assert len(set(KEYS)) == len(KEYS) >= 60
    prefix = uuid.uuid4().hex
    stage = f"{prefix}/{PROJECT}/planning"
    there = put_all(moto, stage)
    here = machine(server_bucket(moto, prefix))
    mounted = here.mount("--wait")
    (session,) = here.sessions()
    told = {path for path, _ in session["warnings"]}
    files = shown(mounted)
    assert files.keys() | told == there.keys()
    assert not files.keys() & told
    assert files == {name: there[name] for name in files}
    assert len(files) >= 50, "nearly nothing of it can be worked with"
    (mounted / "mine.dxf").write_text("mine\n")
    here.pdfs("umount", mounted)
    assert left(moto, stage) == {**there, "mine.dxf": b"mine\n"}
    assert strays(here) == []
    reached(len(KEYS), "hostile keys")
