"""Which key in the bucket holds what, and which names a key or a file can't hold.

    {project}/{stage}/{path}                               one plain object per file
    {project}/{stage}.lock.json                            the stage lock
    {project}/.pdfs/{stage}/root.json                      the one commit point
    {project}/.pdfs/{stage}/trees/{fence}-{id}.json.gz     a manifest, immutable
    {project}/.pdfs/{stage}/plans/{fence}-{id}.json.gz     a plan, immutable
    {project}/.pdfs/{stage}/contents/{fence}-{id}          bytes of contents, immutable

The configured prefix in front of these is added by the store.
"""

import unicodedata
from dataclasses import dataclass

from pdfs.core.ids import ObjectName, Path, is_object_name
from pdfs.errors import UsageError

NAME_LIMIT = 128
COMPONENT_LIMIT = 255
LOCK_SUFFIX = ".lock.json"
TREES, PLANS, CONTENTS = "trees", "plans", "contents"
_SUFFIXES = {TREES: ".json.gz", PLANS: ".json.gz", CONTENTS: ""}
"""Of the immutable objects in each folder of a stage's internal ones."""


def check_name(what: str, name: str) -> str:
    """Return a project's or stage's name unchanged, or raise UsageError saying what it breaks."""
    fault = _name_fault(name)
    if fault is None and what == "stage" and name.endswith(LOCK_SUFFIX):
        fault = f"it ends in {LOCK_SUFFIX}"
    if fault is not None:
        raise UsageError(
            f"{name!r} can't be the name of a {what}: {fault}",
            remedy=f"use 1 to {NAME_LIMIT} bytes of UTF-8, no '/', and no '.' or '-' in front",
        )
    return name


def _name_fault(name: str) -> str | None:
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "it is not UTF-8"
    if not 1 <= len(encoded) <= NAME_LIMIT:
        return f"it has {len(encoded)} bytes"
    if name[0] in ".-":
        return f"it begins with {name[0]!r}"
    if "/" in name:
        return "it contains '/'"
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        return "it contains a control character"
    if unicodedata.normalize("NFC", name) != name:
        return "it is not in Unicode normalization form C"
    return None


@dataclass(frozen=True, slots=True)
class StageKeys:
    """The keys of one stage of one project."""

    project: str
    stage: str

    def __post_init__(self) -> None:
        check_name("project", self.project)
        check_name("stage", self.stage)

    @property
    def lock(self) -> str:
        return f"{self.project}/{self.stage}{LOCK_SUFFIX}"

    @property
    def plain_prefix(self) -> str:
        return f"{self.project}/{self.stage}/"

    @property
    def internal_prefix(self) -> str:
        return f"{self.project}/.pdfs/{self.stage}/"

    @property
    def root(self) -> str:
        return f"{self.internal_prefix}root.json"

    def tree(self, name: ObjectName) -> str:
        return f"{self.internal_prefix}trees/{name}.json.gz"

    def plan(self, name: ObjectName) -> str:
        return f"{self.internal_prefix}plans/{name}.json.gz"

    def content(self, name: ObjectName) -> str:
        return f"{self.internal_prefix}contents/{name}"

    def internal_of(self, key: str) -> tuple[str, ObjectName] | None:
        """The folder and the name of an internal object; None for a key that is no such one's."""
        folder, _, rest = key.removeprefix(self.internal_prefix).partition("/")
        suffix = _SUFFIXES.get(folder)
        if suffix is None or not rest.endswith(suffix):
            return None
        name = rest.removesuffix(suffix)
        return (folder, ObjectName(name)) if is_object_name(name) else None

    def plain(self, path: Path) -> str:
        return f"{self.plain_prefix}{path}"

    def path_of(self, key: str) -> Path:
        """The inverse of `plain`."""
        return Path(key.removeprefix(self.plain_prefix))

    def why_invisible(self, path: Path, max_key_bytes: int) -> str | None:
        """Why no plain object can have this path, or None if one can."""
        try:
            length = len(self.plain(path).encode())
        except UnicodeEncodeError:
            return "the name is not UTF-8"
        if length > max_key_bytes:
            return f"its key would have {length} bytes, the store takes {max_key_bytes}"
        return None


def why_no_file(path: str) -> str | None:
    """Why no file can have this path, which a key in the bucket has, or None if one can."""
    if "\0" in path:
        return "it contains a NUL character"
    for component in path.split("/"):
        if component in {"", ".", ".."}:
            return f"it has {component!r} between slashes"
        try:
            encoded = component.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return "it contains half a character"
        if encoded.decode("utf-8", "surrogateescape") != component:
            return "it spells UTF-8 as single bytes"
        if len(encoded) > COMPONENT_LIMIT:
            return f"a part of it has more than {COMPONENT_LIMIT} bytes"
    return None


def parent(path: Path) -> Path:
    """The directory that holds `path`; the top directory is its own parent."""
    return Path(path.rpartition("/")[0])


def leaf(path: Path) -> str:
    """The last component of `path`."""
    return path.rpartition("/")[2]


def join(directory: Path, name: str) -> Path:
    """The path of `name` in `directory`."""
    return Path(f"{directory}/{name}" if directory else name)


def ancestors(path: Path) -> list[Path]:
    """Every directory above `path`, the nearest first, without the top directory."""
    found = []
    while path := parent(path):
        found.append(path)
    return found
