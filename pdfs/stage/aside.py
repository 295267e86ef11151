"""Steps that fail, and a user's word to let a publish end without them.

    step ──fails──▶ failed ──word──▶ set aside: this publish tries it no more
                                     each later one tries it once: done, or set aside again

A word lasts as long as the process that heard it, or until the bucket has taken the step. Beyond
that it stands in the manifest, and holds for what the file was then (`stage.apply`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pdfs.core.ids import Path, PublishId
from pdfs.errors import StoreError


@dataclass(slots=True)
class Aside:
    """What this process knows of the steps of one stage that fail."""

    _publish: PublishId | None = None
    _failed: dict[Path, StoreError] = field(default_factory=dict)
    _words: dict[Path, PublishId] = field(default_factory=dict)

    @property
    def failed(self) -> Mapping[Path, StoreError]:
        """Why the latest try of a step failed, for each step of the plan for which it did."""
        return self._failed

    def begin(self, publish: PublishId) -> None:
        """The plan of this publish is applied, perhaps once more."""
        if publish != self._publish:
            self._publish = publish
            self._failed.clear()

    def fail(self, path: Path, error: StoreError) -> None:
        """The step of that path has failed, and is to be tried again."""
        self._failed[path] = error

    def end(self, path: Path, *, is_done: bool) -> None:
        """The step of that path has its outcome; if it was done, a word about it is spent."""
        self._failed.pop(path, None)
        if is_done:
            self._words.pop(path, None)

    def give(self, publish: PublishId, paths: Iterable[Path]) -> None:
        """A user wants this publish to end without these."""
        self._words.update(dict.fromkeys(paths, publish))

    def is_given(self, publish: PublishId, path: Path) -> bool:
        """Whether this very publish is to try that step no more."""
        return self._words.get(path) == publish

    def holds(self, path: Path) -> bool:
        """Whether a word was given for that path, in this publish or an earlier one."""
        return path in self._words
