"""What `stopped_work.py` was told of its files, from its diaries outside of the mount."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

GONE = "-"


@dataclass(slots=True)
class Told:
    """What a diary says of the files of a stage: by name, the digests that each may have."""

    files: dict[str, set[str]] = field(default_factory=dict)
    acknowledged: int = 0

    def read(self, diary: Path) -> None:
        """Take in a diary that nobody writes any more."""
        lines = [line.split() for line in diary.read_text().splitlines()]
        for number, line in enumerate(lines):
            if line[0] == "done":
                continue
            _, name, digest = line
            is_done = number + 1 < len(lines)
            before = set() if is_done else self.files.get(name, {GONE})
            self.files[name] = before | {digest}
            self.acknowledged += is_done

    def check(self, directory: Path) -> None:
        """What is there is what was acknowledged; an operation that was cut short may be there."""
        found = {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest()
            for path in directory.iterdir()
            if path.suffix != ".part"
        }
        for name, digests in self.files.items():
            assert found.pop(name, GONE) in digests, f"{name} is not as it was acknowledged"
        assert not found, "there is what nobody wrote"
