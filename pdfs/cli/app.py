"""The `pdfs` command itself: which commands there are, and what becomes of errors.

Commands are imported when they are called: `pdfs status` loads neither FUSE nor an S3 client.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from pdfs import __version__
from pdfs.cli.words import one_line, printable
from pdfs.errors import PdfsError

_COMMANDS = {
    "mount": ("mounting", "Mount a stage of PROJECT at MOUNTPOINT, and lock it for others."),
    "umount": ("umounting", "Unmount TARGET, publish its changes, and wait for that."),
    "publish": (
        "umounting",
        "Publish what was changed in TARGET so far; it stays mounted and locked.",
    ),
    "status": (
        "status",
        "Show the sessions and read-only mounts of this machine, or TARGET alone.",
    ),
    "abort": ("umounting", "End the session TARGET and release its lock without publishing."),
    "log": (
        "log",
        "Show what happened to TARGET: states, lock, fetches, publishes, conflicts, trouble.",
    ),
    "lock": ("lock", "Look at the lock of a stage, or break it."),
    "ls": (
        "listing",
        "List projects, the stages of a project, or the files of a stage, as last published.",
    ),
    "check": (
        "check",
        "Check a stage in the bucket: name every deviation from what was published.",
    ),
    "recover": (
        "recover",
        "Look at, publish, give up or copy out what a crash left on this machine.",
    ),
    "journal": (
        "journal",
        "Look at the files of a session's journal, also while the session lives. Changes nothing.",
    ),
    "import": ("importing", "Create PROJECT from what is in DIRECTORY, which stays as it is."),
}
"""Each command, in the order of `pdfs --help`: the module that has it, and what it does."""

_INTERRUPTED = 130
_INTERNAL = 1


class Commands(click.Group):
    """Finds commands when they are called, and ends with one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"pdfs.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them all."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, does) for name, (_, does) in _COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> NoReturn:
        """Run, and end the process with the code that docs/reference/exit-codes.md names."""
        chosen = list(sys.argv[1:] if args is None else args)
        try:
            code = super().main(chosen, prog_name or "pdfs", standalone_mode=False, **extra)
        except click.exceptions.Exit as end:
            code = end.exit_code
        except Exception as error:
            if "--debug" in chosen:
                raise
            code = _tell(error)
        except (KeyboardInterrupt, BaseExceptionGroup) as error:
            if not is_interruption(error):
                raise
            code = _interrupted()
        sys.exit(code or 0)


def _tell(error: Exception) -> int:
    """Say what went wrong in one line on stderr; the exit code."""
    match error:
        case PdfsError():
            return fail(str(error), error.exit_code)
        case click.UsageError():
            command = "pdfs" if error.ctx is None else error.ctx.command_path
            said = error.format_message().rstrip(".")
            return fail(f"{said}; see {command} --help", error.exit_code)
        case click.ClickException():
            return fail(error.format_message(), error.exit_code)
        case click.Abort():
            if sys.stderr.isatty():  # the cursor stands behind a question
                click.echo(err=True)
            return _interrupted()
        case BrokenPipeError():
            # Whoever read our output has seen enough; Python would complain once more at its exit.
            os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
            return 0
        case ExceptionGroup(exceptions=[Exception() as only]):
            return _tell(only)
        case _:
            said = f"{type(error).__name__}: {error}"
            return fail(
                f"internal error: {said}; run it again with --debug and report what it prints",
                _INTERNAL,
            )


def is_interruption(error: BaseException) -> bool:
    """Whether it comes from Ctrl-C and nothing else; trio gives it in groups."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(KeyboardInterrupt)[1] is None
    return isinstance(error, KeyboardInterrupt)


def _interrupted() -> int:
    return fail("interrupted", _INTERRUPTED)


def fail(message: str, code: int) -> int:
    """Print the one line of an error; returns `code`."""
    click.echo(f"pdfs: {printable(one_line(message))}", err=True)
    return code


def _print_version(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        click.echo(f"pdfs {__version__}")
        ctx.exit()


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExample:\n  pdfs mount Kraftwerk_1234567 /mnt/plant\n  pdfs umount /mnt/plant\n",
)
@click.option("--bucket", metavar="URL", help="Where the projects are: s3://… or file:///….")
@click.option("--debug", is_flag=True, help="Show where in the program an error arose.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and end.",
)
@click.pass_context
def pdfs(ctx: click.Context, bucket: str | None, debug: bool) -> None:
    """Mount a stage of a plant-design project as an ordinary directory.

    While it is mounted the stage is locked for others. Unmounting publishes the changes. Without a
    command: what is mounted here, what is unpublished, and what to do next.
    """
    if ctx.invoked_subcommand is None:
        from pdfs.cli.status import overview

        overview(ctx)


def main() -> NoReturn:
    """The console script."""
    pdfs.main()
