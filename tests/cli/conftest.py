"""The command line in this process, with a state directory and a bucket of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pdfs.cli.app import pdfs
from pdfs.config import Configuration, configure
from pdfs.disk import read_path

Run = Callable[..., Result]


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Where this test's machine keeps things."""
    names = ("STATE_HOME", "CACHE_HOME", "DATA_HOME", "CONFIG_HOME", "RUNTIME_DIR")
    chosen = {f"XDG_{name}": str(tmp_path / name.lower()) for name in names}
    chosen |= {"PDFS_USER": "anna", "PDFS_MACHINE": "ws7"}
    for name, value in chosen.items():
        monkeypatch.setenv(name, value)
    return chosen


@pytest.fixture
def configuration(environ: dict[str, str]) -> Configuration:
    """What the commands of this test are configured to."""
    return configure(environ, {}, read_path)


@pytest.fixture
def run(environ: dict[str, str]) -> Run:
    """Runs `pdfs` with these arguments, without a terminal."""

    def run(*arguments: str | Path, input: str | None = None) -> Result:
        return CliRunner().invoke(pdfs, [str(argument) for argument in arguments], input=input)

    return run


@pytest.fixture
def imported(run: Run, tmp_path: Path) -> Path:
    """A directory that was imported as the project `Plant`."""
    source = tmp_path / "source"
    (source / "drawings").mkdir(parents=True)
    (source / "drawings" / "a.dxf").write_text("drawn\n")
    (source / "list.csv").write_text("1;2\n")
    assert run("import", source, "Plant").exit_code == 0
    return source
