"""What a daemon tells of its progress: `progress` events, and the same numbers in its status.

{"event": "progress", "message": "fetch", "files", "of_files", "bytes", "of_bytes"}
{"event": "progress", "message": "upload" | "wait" | "publish" | "complete", … the same,
 "path", "retries", "trouble", "seconds_left"}
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict

import trio

from pdfs.core.progress import Progress
from pdfs.stage.contents import Prefetch
from pdfs.stage.uploads import Uploads

INTERVAL = 0.2
"""Seconds between two looks."""

Tell = Callable[[Mapping[str, object]], None]


class ProgressTeller:
    """Tells how far the prefetch and the upload are, whenever that has changed."""

    def __init__(self, prefetched: Callable[[], Prefetch], uploads: Uploads, tell: Tell) -> None:
        self._prefetched = prefetched
        self._uploads = uploads
        self._tell = tell
        self._told: dict[object, Mapping[str, object]] = {}

    async def run(self) -> None:
        """Tell until cancelled."""
        while True:
            await trio.sleep(INTERVAL)
            self._uploads.look(trio.current_time())
            self.tell()

    def tell(self) -> None:
        """Tell what is new, now."""
        prefetched, progress = self._prefetched(), self._uploads.progress
        if prefetched.of_files:
            self._tell_if_new({"message": "fetch", **fetch_fields(prefetched)})
        if progress is not None:
            self._tell_if_new(upload_fields(progress))

    def _tell_if_new(self, fields: Mapping[str, object]) -> None:
        if self._told.get(fields["message"]) != fields:
            self._told[fields["message"]] = fields
            self._tell({"event": "progress", **fields})


def fetch_fields(prefetched: Prefetch) -> dict[str, object]:
    """The numbers of a prefetch."""
    return {
        "files": prefetched.files,
        "of_files": prefetched.of_files,
        "bytes": prefetched.bytes,
        "of_bytes": prefetched.of_bytes,
    }


def upload_fields(progress: Progress) -> dict[str, object]:
    """The numbers of an upload, with its phase as `message`."""
    fields = asdict(progress)
    return {"message": fields.pop("phase"), **fields}
