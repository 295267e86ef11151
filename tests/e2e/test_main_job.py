"""The main job on each kind of bucket: import, mount, edit, unmount, and mount elsewhere."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

from tests.e2e.conftest import MakeMachine
from tests.e2e.machines import DEMO_FILES, PROJECT, Bucket, describe
from tests.store.servers import ACCESS_KEY, SECRET_KEY

EDITS = f"""
set -eu
cp --preserve=mode,timestamps drawings/pid/PID-0001.dxf drawings/archive/rev0.dxf
sed -i 's/EL +0.00/EL +0.25/' drawings/layout/EL+0.00.dxf
mv documents/specification.pdf documents/specification_rev1.pdf
mv lists tables
chmod 640 models/pump-house.ifc
sqlite3 database/plant.dcf "insert into equipment values ('P-103', 'pump', 'New', 1, 2)"
{sys.executable} {DEMO_FILES} workbook tables/equipment.xlsx
sed 's/P-102/P-102R/' drawings/pid/PID-0001.dxf >drawings/pid/PID-0001.tmp
mv drawings/pid/PID-0001.dxf drawings/pid/PID-0001.bak
mv drawings/pid/PID-0001.tmp drawings/pid/PID-0001.dxf
tar --create scripts | tar --extract --directory drawings/archive
rsync --archive drawings/ copies/
rm 'tables/Größen & Maße.txt'
git init --quiet --template= scripts
git -C scripts add export.sh
git -C scripts -c user.name=A -c user.email=a@example.com commit --quiet --message first
vim -u NONE -N -es -c '%s/150/125/' -c wq tables/lines.csv
head --bytes 20000000 /dev/urandom >models/scan.bin
truncate --size 19000000 models/scan.bin
mkdir empty
ln tables/lines.csv tables/lines-hard.csv
ln --symbolic ../tables drawings/tables
setfattr --name user.revision --value B drawings/pid/PID-0001.dxf
"""


def edit(directory: Path) -> None:
    """What a day's work does, by native tools."""
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_COUNT": "1"}
    environ |= {"GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}
    subprocess.run(["bash", "-c", EDITS], cwd=directory, env=environ, check=True, timeout=240)


def copy_out(bucket: Bucket, target: Path) -> None:
    """The stage's plain objects, fetched by a client that is not ours."""
    command = [str(Path(sys.executable).with_name("rclone")), "copy", "--config", "/dev/null"]
    environ = dict(os.environ)
    if bucket.server is None:
        assert bucket.directory is not None
        source = str(bucket.directory)
    else:
        source = f"store:{bucket.environ['PDFS_BUCKET'].removeprefix('s3://')}"
        options = {"type": "s3", "provider": "Other", "endpoint": bucket.server.endpoint}
        options |= {"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY}
        environ |= {f"RCLONE_CONFIG_STORE_{key.upper()}": text for key, text in options.items()}
    command += [f"{source}/{PROJECT}/planning", str(target)]
    subprocess.run(command, env=environ, check=True, timeout=240, capture_output=True)


def plain_files(directory: Path, *, times: bool) -> dict[str, tuple[bytes, int]]:
    """Bytes, and times where they count, of the files that plain objects can show."""
    return {
        str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns * times)
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_a_project_survives_mount_edit_unmount_and_mount_elsewhere(
    any_bucket: Bucket, machine: MakeMachine, project: Path, tmp_path: Path
) -> None:
    here = machine(any_bucket)
    here.pdfs("import", project, PROJECT)
    mounted = here.mount()
    assert describe(mounted) == describe(project)
    edit(mounted)
    edited = describe(mounted)
    subprocess.run(["fusermount3", "-u", mounted], check=True)
    here.wait_released()

    there = machine(any_bucket, "ws8")
    elsewhere = there.mount("--wait")
    assert describe(elsewhere) == edited
    assert os.getxattr(elsewhere / "drawings/pid/PID-0001.dxf", "user.revision") == b"B"
    names = [elsewhere / "tables" / name for name in ("lines.csv", "lines-hard.csv")]
    assert names[0].stat().st_ino == names[1].stat().st_ino
    with sqlite3.connect(elsewhere / "database/plant.dcf") as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
    database.close()
    files = plain_files(elsewhere, times=True)
    there.pdfs("umount", elsewhere)

    copy_out(any_bucket, tmp_path / "out")
    copied = plain_files(tmp_path / "out", times=True)
    assert {name: data for name, (data, _) in copied.items()} == {
        name: data for name, (data, _) in files.items()
    }
    if any_bucket.server is not None:  # a directory has no metadata that rclone would read
        assert {name: time for name, (_, time) in copied.items()} == {
            name: time for name, (_, time) in files.items()
        }


def test_what_is_mounted_and_published_is_said_with_its_bucket(
    bucket: Bucket, machine: MakeMachine, project: Path
) -> None:
    here = machine(bucket)
    here.pdfs("import", project, PROJECT)
    only_here = f"{bucket.environ['PDFS_BUCKET']} (only on this machine)"
    assert only_here in here.pdfs("mount", PROJECT, here.mountpoint)
    assert only_here in here.pdfs("status")
    assert only_here in here.pdfs("umount", PROJECT)


def test_an_empty_project_is_made_mounted_and_listed(bucket: Bucket, machine: MakeMachine) -> None:
    here = machine(bucket)
    mounted = here.mount("--create")
    (mounted / "first.txt").write_text("first\n")
    here.pdfs("umount", mounted)
    assert here.pdfs("ls") == f"{PROJECT}\n"
    assert here.pdfs("ls", PROJECT) == "planning  generation 1\n"
    assert here.pdfs("ls", f"{PROJECT}/planning").endswith(" first.txt\n")
