"""The command line: `pdfs`, one module per group of commands.

It builds configuration and store, speaks to daemons by their control sockets, and turns each
`PdfsError` into one line and its exit code (`app`). Options may stand before or after arguments.
What a script may rely on: exit codes, and `--json`, whose documents carry `schema`.
"""

from pdfs.cli.app import main

__all__ = ["main"]
