"""The default bucket, a directory of this machine: whether it is there, and where it was before.

With another XDG_DATA_HOME it is another directory, and a project that is in the former one must
not look like one that never was.
"""

import os
from urllib.parse import unquote, urlsplit

import click

from pdfs.cli.sessions import state_of
from pdfs.cli.words import printable
from pdfs.config import DEFAULT_BUCKET, Configuration
from pdfs.disk import OsDisk
from pdfs.errors import ProjectNotFound
from pdfs.local.session_log_reader import list_logs


def has_bucket(configuration: Configuration) -> bool:
    """False while nobody has made the default bucket, which a look does not make."""
    return not configuration.is_default_bucket or _is_made(configuration.bucket)


def former_words(configuration: Configuration) -> str:
    """Where the projects are, if the default bucket is not made and was another directory; or "".

    The logs of this machine's sessions tell it.
    """
    if has_bucket(configuration) or not os.path.isdir(configuration.state / "logs"):
        return ""
    with state_of(configuration) as state:
        logs = list_logs(OsDisk(), state.logs)
    for log in sorted(logs, key=lambda log: log.changed, reverse=True):
        bucket = "" if log.header is None else log.header.bucket
        if bucket.endswith(DEFAULT_BUCKET) and _is_made(bucket):
            return (
                f"what was published on this machine before is in {bucket}: name that with"
                " --bucket, or set XDG_DATA_HOME as it was"
            )
    return ""


def tell_former_bucket(configuration: Configuration) -> None:
    """Say it, where a new bucket may be what is wanted."""
    words = former_words(configuration)
    if words:
        click.echo(printable(f"{_not_made(configuration)}; {words}"), err=True)


def check_former_bucket(configuration: Configuration) -> None:
    """Raises ProjectNotFound with it, where it can't be."""
    words = former_words(configuration)
    if words:
        raise ProjectNotFound(_not_made(configuration), remedy=words)


def _not_made(configuration: Configuration) -> str:
    return f"{configuration.bucket} has not been made yet"


def _is_made(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "file" and os.path.isdir(unquote(parts.path))
