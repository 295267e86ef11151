"""Settings: where each comes from, and what can't be right is refused in words."""

from collections.abc import Mapping

import pytest

from pdfs.config import STOP_TIMEOUT, SYSTEM_FILE, Configuration, configure
from pdfs.errors import UsageError

HOME = {"HOME": "/home/anna"}


def configured(environ: Mapping[str, str], **files: str) -> Configuration:
    paths = {"user": "/home/anna/.config/pdfs/config.toml", "system": str(SYSTEM_FILE)}
    texts = {paths[name]: text.encode() for name, text in files.items()}

    def read(path: str) -> bytes:
        if path not in texts:
            raise FileNotFoundError(path)
        return texts[path]

    return configure({**HOME, **environ}, {}, read)


@pytest.mark.parametrize(
    ("environ", "user", "system", "seconds"),
    [
        ({}, "", "", STOP_TIMEOUT),
        ({}, "", "stop_timeout = 600", 600.0),
        ({}, "stop_timeout = 1.5", "stop_timeout = 600", 1.5),
        ({}, 'stop_timeout = "30"', "", 30.0),
        ({"PDFS_STOP_TIMEOUT": "0"}, "stop_timeout = 5", "", 0.0),
    ],
)
def test_the_time_for_a_stop_is_a_number_from_the_first_place_that_has_it(
    environ: Mapping[str, str], user: str, system: str, seconds: float
) -> None:
    assert configured(environ, user=user, system=system).stop_timeout == seconds


@pytest.mark.parametrize("given", ["-1", "soon", "inf", "nan"])
def test_a_time_for_a_stop_that_can_not_be_is_refused(given: str) -> None:
    with pytest.raises(UsageError, match=r"stop_timeout is .*write seconds, or 0 for no limit"):
        configured({"PDFS_STOP_TIMEOUT": given})
    with pytest.raises(UsageError, match="stop_timeout"):
        configured({}, user="stop_timeout = true")
