"""A file system of 64 MiB, on which a test can have a disk that is really full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 64 << 20


@contextmanager
def small_disk(directory: Path) -> Iterator[str]:
    """Mount one at `directory`, which is made; `loop` (ext4 in a file) or, without loop, `tmpfs`.

    Needs root, as the whole suite does. Raises CalledProcessError where neither can be mounted.
    """
    directory.mkdir()
    image = directory.with_suffix(".img")
    with image.open("wb") as file:
        file.truncate(SIZE)
    kind = "loop" if _is_loop_mounted(image, directory) else "tmpfs"
    if kind == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "none", str(directory))
    try:
        yield kind
    finally:
        run("umount", "--lazy", str(directory))
        image.unlink()


def _is_loop_mounted(image: Path, directory: Path) -> bool:
    # Without lazy initialisation: the kernel would go on writing to it, and take room.
    options = "lazy_itable_init=0,lazy_journal_init=0"
    run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", options, str(image))
    command = ["mount", "-o", "loop", str(image), str(directory)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
