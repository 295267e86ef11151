"""What a daemon needs of its process before it takes a stage."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pdfs.mount.request import encode_request
from tests.mount.carriers import configuration_of
from tests.mount.test_daemon import request_of


@pytest.mark.real_clock
@pytest.mark.parametrize(("soft", "hard", "is_refused"), [(32, 32, True), (32, 256, False)])
def test_a_daemon_that_may_open_too_few_files_to_publish_says_so_before_it_begins(
    soft: int, hard: int, is_refused: bool, tmp_path: Path
) -> None:
    configuration = configuration_of(tmp_path)
    request = request_of(configuration, mountpoint=str(tmp_path / "absent" / "below"))
    limits = f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec {sys.executable} -m pdfs.mount"
    ended = subprocess.run(
        ["sh", "-c", limits], input=encode_request(request), capture_output=True, check=False
    )
    event = json.loads(ended.stdout.splitlines()[-1])
    assert event["event"] == "failed"
    assert ("may open 32 files" in event["what"]) is is_refused
    assert (event["exit_code"] == 8) is is_refused
    assert Path(configuration.state).exists() is not is_refused, "nothing was begun"
