"""Progress in words, where there is no terminal."""

from pdfs.cli.progress import QUIET, Lines, line_of

UPLOAD = {
    "event": "progress",
    "message": "upload",
    "files": 3,
    "of_files": 14,
    "bytes": 1 << 20,
    "of_bytes": 3 << 20,
    "path": "drawings/a.dxf",
    "retries": 0,
    "trouble": "",
}


def test_a_line_says_how_much_of_how_much_and_which_file() -> None:
    assert line_of(UPLOAD) == "uploading: 3 of 14 files, 1.0 MiB of 3.0 MiB; drawings/a.dxf"
    one = {**UPLOAD, "message": "publish", "files": 0, "of_files": 1, "path": ""}
    assert line_of(one) == "publishing: 0 of 1 file, 1.0 MiB of 3.0 MiB"


def test_a_line_says_what_was_tried_again_and_why() -> None:
    assert line_of({**UPLOAD, "retries": 1}).endswith("a.dxf; 1 retry")
    troubled = {**UPLOAD, "retries": 2, "trouble": "the bucket does not answer"}
    assert line_of(troubled).endswith("; 2 retries, the last: the bucket does not answer")


def test_a_line_says_how_long_it_will_take_where_that_is_known() -> None:
    assert "about 2 min to go; drawings/a.dxf" in line_of({**UPLOAD, "seconds_left": 130})
    assert "to go" not in line_of({**UPLOAD, "seconds_left": None})


def test_a_path_is_cut_and_obeys_no_terminal() -> None:
    said = line_of({**UPLOAD, "path": "x" * 100 + "/\x1b[2Ja.dxf"})
    assert said.endswith("x/?[2Ja.dxf")
    assert "x" * 41 not in said


def test_a_silent_bucket_is_told_at_once_with_what_is_known_and_obeys_no_terminal() -> None:
    said = list[str]()
    lines = Lines(say=said.append)
    lines.show({"event": "silent", "bucket": "s3://b", "trouble": ""})
    lines.show({"event": "silent", "bucket": "s3://b", "trouble": "no\n\x1b[2J route"})
    lines.show({"event": "silent", "bucket": "s3://b", "trouble": "s3://b can't be reached"})
    assert said.pop() == "still waiting for s3://b can't be reached"
    assert said == [
        "still waiting for s3://b: it has not answered yet",
        "still waiting for s3://b: no \\x1b[2J route",
    ]


def test_lines_come_after_a_while_and_then_now_and_then() -> None:
    clock, said = [100.0], list[str]()
    lines = Lines(lambda: clock[0], said.append)
    for clock[0] in (100.0, 100.0 + QUIET / 2):
        lines.show(UPLOAD)
    assert said == []
    for clock[0] in (100.0 + QUIET, 101.0 + QUIET, 100.0 + 2 * QUIET):
        lines.show(UPLOAD)
    lines.show({"event": "state_changed", "state": "CLOSED"})
    assert said == [line_of(UPLOAD)] * 2
