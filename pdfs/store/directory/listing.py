"""The keys of a directory bucket, in the byte order of whole keys.

`a-b` sorts before `a/b` and `a/b` before `a0`: within a directory, names are compared as if a
subdirectory's ended in `/`, and then walking down in that order gives the order of the keys.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass

from pdfs.store.directory.place import HIDDEN, Bucket, component_of, directory_of, place_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Entry:
    key: str
    """Ends in `/` for a directory."""

    @property
    def is_directory(self) -> bool:
        return self.key.endswith("/")


def keys_below(bucket: Bucket, prefix: str) -> Iterator[str]:
    """Every key that starts with `prefix`. Holds nothing open between two of them."""
    waiting = _entries(bucket, prefix)[::-1]
    while waiting:
        entry = waiting.pop()
        if entry.is_directory:
            waiting.extend(_entries(bucket, entry.key)[::-1])
        else:
            yield entry.key


def directories_below(bucket: Bucket, prefix: str) -> Iterator[str]:
    """Every `prefix + name + "/"` that a key starts with."""
    for entry in _entries(bucket, prefix):
        if entry.is_directory and next(keys_below(bucket, entry.key), None) is not None:
            yield entry.key


def _entries(bucket: Bucket, prefix: str) -> list[_Entry]:
    """What stands in the directory of `prefix` and starts with it, in order."""
    above, slash, _ = prefix.rpartition("/")
    place = place_of(above, bucket.max_key_bytes) if slash else ()
    try:
        with directory_of(bucket, place) as directory, os.scandir(directory) as found:
            keys = [_key_of(entry, above + slash) for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return []
    fitting = [key for key in keys if key is not None and key.startswith(prefix)]
    return [_Entry(key) for key in sorted(fitting, key=str.encode) if _can_be_key(bucket, key)]


def _key_of(entry: os.DirEntry[str], above: str) -> str | None:
    component = component_of(entry.name)
    if component is None:
        log.info("no key can name the file %r below %r: it is not UTF-8", entry.name, above)
        return None
    if entry.is_dir(follow_symlinks=False):
        return None if above + component == HIDDEN else f"{above}{component}/"
    return f"{above}{component}" if entry.is_file(follow_symlinks=False) else None


def _can_be_key(bucket: Bucket, key: str) -> bool:
    return len(key.encode()) <= bucket.max_key_bytes
