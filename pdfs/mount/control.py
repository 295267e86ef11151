"""The control socket: how the command line and other programs speak to a running daemon.

`{runtime}/{session}.sock`, a unix stream socket, 0600, made again where somebody removes it. Both
sides send lines of JSON.

    → {"v": 1, "id": n, "do": "status" | "publish" | "umount" | "abort" | "subscribe"}
      n is a number or a text; "publish" takes "set_aside": [path, …]
    ← {"v": 1, "id": n, "ok": true, "result": {…}}
    ← {"v": 1, "id": n, "ok": false, "error": {"kind", "exit_code", "what", "remedy"}}
    ← {"v": 1, "event": "state_changed", "state": …}            after subscribe
    ← {"v": 1, "event": "progress", …}                          see `mount.progress`

A peer that sends nonsense gets an error and keeps its connection; one that doesn't read what it
asked for is dropped. Requests of one connection are answered in order.
"""

import json
import logging
import math
import os
import socket
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
)
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import PurePath
from types import MappingProxyType
from typing import Final

import trio

from pdfs.core.ids import SessionId
from pdfs.disk import OsDisk, disk_error, make_below, opened_directory
from pdfs.errors import DiskError, PdfsError, UsageError
from pdfs.stage.together import background, cause_of

logger = logging.getLogger(__name__)

VERSION = 1
_LONGEST_LINE = 1 << 16
_PATIENCE = 10.0
"""Seconds that a peer may take to read what it asked for."""
_LOOK: Final = 5.0
"""Seconds between two looks at whether the socket is still there."""

Result = Mapping[str, object]
Answer = Callable[[Result], Awaitable[Result]]
"""Answers a request, which it is given."""
NOTHING: Final[Result] = MappingProxyType({})


class ControlServer:
    """Serves one session's socket. `tell` reaches every subscriber."""

    def __init__(self, runtime: PurePath, session: SessionId, calls: Mapping[str, Answer]) -> None:
        self._runtime = runtime
        self._name = socket_name(session)
        self._calls = calls
        self._socket: os.stat_result
        """As it was made last."""
        self._subscribers: set[trio.MemorySendChannel[Result]] = set()
        self._owed: Counter[trio.MemorySendChannel[Result]] = Counter()
        """Per peer: requests that were read and whose answer was not sent yet."""

    def tell(self, event: Result) -> None:
        """Send an event to all subscribers; never waits."""
        for subscriber in list(self._subscribers):
            subscriber.send_nowait({"v": VERSION, **event})

    async def finish(self) -> None:
        """Return when every request has got its answer, or its peer doesn't read it."""
        with trio.move_on_after(_PATIENCE):
            while self._owed.total():  # noqa: ASYNC110 - at the end of a process, a few times at most
                await trio.sleep(0.01)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Answer while the body runs; then the socket is gone. DiskError if it can't be made.

        One that somebody removes is made again, as soon as that goes: at a logout the whole runtime
        directory goes, and the daemon stays.
        """
        with self._listening() as listener:
            async with background(partial(self._serve, listener)):
                yield

    async def _serve(self, listener: trio.SocketListener) -> None:
        async with trio.open_nursery() as conversations:
            await self._listen(listener, conversations)
            while True:
                await trio.sleep(_LOOK)
                with suppress(DiskError), self._listening() as again:
                    await self._listen(again, conversations)

    @contextmanager
    def _listening(self) -> Iterator[trio.SocketListener]:
        """The socket, at its place for the length of the block. Raises DiskError."""
        disk = OsDisk()
        with ExitStack() as held:
            try:
                directory = make_below(disk, self._runtime, "XDG_RUNTIME_DIR")
                held.callback(disk.close, directory)
                _remove(disk, directory, self._name)
                # A path by descriptor: a socket's own may be no longer than 107 bytes.
                path = f"/proc/self/fd/{directory}/{self._name}"
                listening = held.enter_context(_bound(path))
                self._socket = os.stat(path)
            except OSError as error:
                raise disk_error(error, f"make a control socket in {self._runtime}") from error
            held.callback(_remove, disk, directory, self._name)
            yield trio.SocketListener(trio.socket.from_stdlib_socket(listening))

    async def _listen(self, listener: trio.SocketListener, conversations: trio.Nursery) -> None:
        """Take new peers until the socket is not where the command line looks for it."""
        serve = partial(trio.serve_listeners, handler_nursery=conversations)
        async with background(partial(serve, self._converse, [listener])):
            while self._is_there():  # noqa: ASYNC110 - nothing tells of it
                await trio.sleep(_LOOK)

    def _is_there(self) -> bool:
        try:
            return os.path.samestat(self._socket, os.lstat(self._runtime / self._name))
        except OSError:
            return False

    async def _converse(self, stream: trio.SocketStream) -> None:
        send, receive = trio.open_memory_channel[Result](math.inf)
        try:
            async with stream, trio.open_nursery() as nursery:
                nursery.start_soon(self._write, stream, send, receive)
                async with aclosing(_lines(stream)) as lines:
                    async for line in lines:
                        self._owed[send] += 1
                        send.send_nowait(await self._answer(line, send))
                self._subscribers.discard(send)
                send.close()  # the answers still go out, to a peer that has no more to ask
        except* (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            pass  # the peer went away
        finally:
            self._subscribers.discard(send)
            del self._owed[send]

    async def _write(
        self,
        stream: trio.SocketStream,
        peer: trio.MemorySendChannel[Result],
        messages: trio.MemoryReceiveChannel[Result],
    ) -> None:
        async for message in messages:
            with trio.fail_after(_PATIENCE):
                await stream.send_all(json.dumps(message).encode() + b"\n")
            self._owed[peer] -= "id" in message

    async def _answer(self, line: bytes, send: trio.MemorySendChannel[Result]) -> Result:
        number: object = None
        try:
            request = _parsed(line)
            number = _number_of(request)
            if request.get("v") != VERSION:
                raise UsageError(f"this daemon speaks version {VERSION} of the control protocol")
            call = request.get("do")
            if call == "subscribe":
                self._subscribers.add(send)
                return {"v": VERSION, "id": number, "ok": True, "result": {}}
            if not isinstance(call, str) or call not in self._calls:
                raise UsageError(f"{call!r} is nothing that this daemon does")
            return {
                "v": VERSION,
                "id": number,
                "ok": True,
                "result": await self._calls[call](request),
            }
        except PdfsError as error:
            return {"v": VERSION, "id": number, "ok": False, "error": described(error)}
        except Exception as error:  # a question, whoever asks it, takes no mount down
            logger.exception("a request at the control socket failed, which it never should")
            failed = PdfsError(
                f"the daemon could not answer: {cause_of(error)!r}",
                remedy="report it, with the daemon's log; the session goes on",
            )
            return {"v": VERSION, "id": number, "ok": False, "error": described(failed)}


def socket_name(session: SessionId) -> str:
    """What a session's socket is called."""
    return f"{session}.sock"


def remove_left_socket(runtime: PurePath, session: SessionId) -> None:
    """Remove the socket of a daemon that died, if there is one; what hinders that hinders nobody.

    A session that is resumed does so itself.
    """
    disk = OsDisk()
    with suppress(OSError), opened_directory(disk, None, str(runtime)) as directory:
        _remove(disk, directory, socket_name(session))


def _remove(disk: OsDisk, directory: int, name: str) -> None:
    with suppress(FileNotFoundError):
        disk.unlink(directory, name)


def described(error: PdfsError) -> Result:
    """An error as it is sent to other programs."""
    return {
        "kind": type(error).__name__,
        "exit_code": error.exit_code,
        "what": error.what,
        "remedy": error.remedy,
    }


def _bound(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listening.bind(path)
        listening.listen(16)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(mask)
    listening.setblocking(False)
    return listening


async def _lines(stream: trio.SocketStream) -> AsyncGenerator[bytes, None]:
    buffered = b""
    async for chunk in stream:
        *lines, buffered = (buffered + chunk).split(b"\n")
        for line in lines:
            yield line
        if len(buffered) > _LONGEST_LINE:
            return


def _parsed(line: bytes) -> dict[str, object]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"no JSON: {error}") from error
    if not isinstance(request, dict):
        raise UsageError("a request is a JSON object")
    return request


def _number_of(request: Mapping[str, object]) -> object:
    """What the answer is to be told by; it goes back as it came, so it must be no tree of things
    that can be read but not written."""
    number = request.get("id")
    if number is not None and not isinstance(number, int | str):
        raise UsageError("the id of a request is a number or a text")
    return number
