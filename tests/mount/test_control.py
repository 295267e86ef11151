"""The control socket: whatever a peer sends, it gets an answer, and the daemon lives."""

import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from pdfs.core.ids import SessionId
from pdfs.errors import DiskError
from pdfs.mount import control
from pdfs.mount.control import ControlServer, Result
from tests.conftest import ExpectedWarnings

pytestmark = pytest.mark.real_clock

SESSION = SessionId("5e55105e55105e55105e55105e551000")
NESTED = b"[" * 60_000


async def status(_: Result) -> Result:
    await trio.lowlevel.checkpoint()
    return {"state": "ACTIVE"}


async def broken(_: Result) -> Result:
    await trio.lowlevel.checkpoint()
    raise ZeroDivisionError


class Peer:
    """A program at the socket."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._rest = b""

    async def send(self, line: bytes) -> Mapping[str, Any]:
        """Send a line; the answer to it."""
        await self.stream.send_all(line + b"\n")
        while b"\n" not in self._rest:
            received = await self.stream.receive_some()
            assert received, "the daemon ended the connection"
            self._rest += received
        answer, _, self._rest = self._rest.partition(b"\n")
        found: Mapping[str, Any] = json.loads(answer)
        return found

    async def ask(self, do: object, number: object = 1) -> Mapping[str, Any]:
        return await self.send(json.dumps({"v": 1, "id": number, "do": do}).encode())


@asynccontextmanager
async def peer_at(socket: Path) -> AsyncIterator[Peer]:
    """By descriptor: a socket's own path may have no more than 107 bytes."""
    directory = os.open(socket.parent, os.O_RDONLY)
    try:
        place = f"/proc/self/fd/{directory}/{socket.name}"
        async with await trio.open_unix_socket(place) as stream:
            yield Peer(stream)
    finally:
        os.close(directory)


@asynccontextmanager
async def peer_of_a_daemon(path: Path) -> AsyncIterator[Peer]:
    server = ControlServer(path, SESSION, {"status": status, "broken": broken})
    async with server.served(), peer_at(path / f"{SESSION}.sock") as peer:
        yield peer


@pytest.mark.parametrize(
    "line",
    [
        NESTED,
        b'{"v": 1, "id": ' + NESTED,
        b'{"a":' * 10_000,
        b'{"v": 1, "id": ' + b"9" * 5000 + b"}",
        b"",
        b"no JSON",
        b"\xff\xfe",
        b"[]",
        b"null",
        b"{}",
        b'{"v": 2, "id": 1, "do": "status"}',
        b'{"v": 1, "id": 1}',
        b'{"v": 1, "id": 1, "do": ["status"]}',
        b'{"v": 1, "id": 1, "do": "\\ud800"}',
        b'{"v": 1, "id": 1, "do": "die"}',
        b'{"v": 1, "id": [[[[1]]]], "do": "status"}',
        b'{"v": 1, "id": {"a": 1}, "do": "status"}',
    ],
    ids=lambda line: repr(line[:30]),
)
async def test_nonsense_gets_an_error_and_the_daemon_answers_on(
    line: bytes, tmp_path: Path
) -> None:
    async with peer_of_a_daemon(tmp_path) as peer:
        answer = await peer.send(line)
        assert (answer["ok"], answer["error"]["kind"]) == (False, "UsageError")
        assert answer["error"]["what"]
        assert await peer.ask("status", 2) == {
            "v": 1,
            "id": 2,
            "ok": True,
            "result": {"state": "ACTIVE"},
        }


@pytest.mark.parametrize("depth", [200, 900, 960, 980, 990])
async def test_what_can_just_be_read_but_hardly_be_written_is_refused(
    depth: int, tmp_path: Path
) -> None:
    async with peer_of_a_daemon(tmp_path) as peer:
        nested = b"[" * depth + b"]" * depth
        answer = await peer.send(b'{"v": 1, "do": "status", "id": ' + nested + b"}")
        assert answer["ok"] is False
        assert (await peer.ask("status"))["ok"] is True


@pytest.mark.parametrize("number", [0, -1, 1 << 70, "a text", None])
async def test_an_answer_is_told_by_the_number_or_text_of_its_request(
    number: object, tmp_path: Path
) -> None:
    async with peer_of_a_daemon(tmp_path) as peer:
        assert (await peer.ask("status", number))["id"] == number


async def test_who_says_that_there_is_nothing_more_to_ask_still_gets_the_answers(
    tmp_path: Path,
) -> None:
    """As a shell does: echo a request into the socket, then read."""
    async with peer_of_a_daemon(tmp_path) as peer:
        asked = b"".join(b'{"v": 1, "id": %d, "do": "status"}\n' % n for n in range(5))
        await peer.stream.send_all(asked)
        await peer.stream.send_eof()
        received = b"".join([chunk async for chunk in peer.stream])
    assert [json.loads(line)["id"] for line in received.splitlines()] == list(range(5))


async def test_a_question_that_fails_takes_nothing_down(
    tmp_path: Path, expected_warnings: ExpectedWarnings
) -> None:
    async with peer_of_a_daemon(tmp_path) as peer:
        answer = await peer.ask("broken")
        assert (answer["ok"], answer["error"]["exit_code"]) == (False, 1)
        assert "ZeroDivisionError" in answer["error"]["what"]
        assert (await peer.ask("status"))["ok"] is True
    expected_warnings.take("which it never should")


async def test_an_answer_that_nobody_took_is_not_waited_for_at_the_end(tmp_path: Path) -> None:
    ask = trio.Event()

    async def slow(_: Result) -> Result:
        await ask.wait()
        return {}

    server = ControlServer(tmp_path, SESSION, {"slow": slow})
    async with server.served():
        async with peer_at(tmp_path / f"{SESSION}.sock") as peer:
            for _ in range(3):
                await peer.stream.send_all(b'{"v": 1, "id": 1, "do": "slow"}\n')
            await trio.testing.wait_all_tasks_blocked(0.01)
        ask.set()
        began = trio.current_time()
        await server.finish()
        assert trio.current_time() - began < control._PATIENCE


async def test_sockets_are_never_made_behind_a_symlink(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DiskError, match=r"symlink.*XDG_RUNTIME_DIR"):
        async with ControlServer(tmp_path / "run", SESSION, {}).served():
            pass
    assert list((tmp_path / "elsewhere").iterdir()) == []


async def test_a_socket_that_a_dead_daemon_left_gives_way(tmp_path: Path) -> None:
    left = tmp_path / f"{SESSION}.sock"
    with contextlib.chdir(tmp_path), socket.socket(socket.AF_UNIX) as dead:
        dead.bind(left.name)  # a path of its own could be too long
    server = ControlServer(tmp_path, SESSION, {"status": status})
    async with server.served(), peer_at(left) as peer:
        assert (await peer.ask("status"))["ok"]
    assert not left.exists()


@pytest.mark.parametrize("is_all", [False, True], ids=["the socket", "the whole directory"])
async def test_a_socket_that_somebody_removes_is_made_again_and_who_was_there_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_all: bool
) -> None:
    """At a logout the runtime directory goes, and the daemon with its mount stays."""
    monkeypatch.setattr(control, "_LOOK", 0.01)
    runtime = tmp_path / "user" / "pdfs"
    runtime.mkdir(parents=True)
    async with peer_of_a_daemon(runtime) as first:
        assert (await first.ask("status"))["ok"]
        (runtime / f"{SESSION}.sock").unlink()
        if is_all:
            runtime.rmdir()
            runtime.parent.rmdir()
            runtime.parent.touch()  # it can't be made
            await trio.sleep(3 * control._LOOK)
            runtime.parent.unlink()
        while not (runtime / f"{SESSION}.sock").exists():  # noqa: ASYNC110 - no event says it
            await trio.sleep(control._LOOK)
        async with peer_at(runtime / f"{SESSION}.sock") as second:
            assert (await second.ask("status"))["ok"]
        assert (await first.ask("status"))["ok"]
    assert list(runtime.iterdir()) == []
