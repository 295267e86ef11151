"""Real S3 servers as child processes, for tests: started on free ports of 127.0.0.1, ended by pid.

Each context manager yields a `Server` that answers signed requests and holds an empty bucket, or
raises `AssertionError` with the server's own last words. On exit the process has ended and its
data are gone.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ACCESS_KEY = "test-access-key"
SECRET_KEY = "test-secret-access-key"
REGION = "us-east-1"
BUCKET = "plants"
START_LIMIT = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One S3 server that is running."""

    kind: str
    endpoint: str
    pid: int
    bucket: str = BUCKET
    region: str = REGION
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY


_MOTO = """
import sys
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple
application = DomainDispatcherApplication(create_backend_app)
run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=False)
"""


@contextlib.contextmanager
def moto_server() -> Iterator[Server]:
    """moto's server: S3 in one Python process, the bucket in its memory.

    In one thread: in many (as `moto_server` runs) it looks before it writes, and of 200 races for a
    new object one had two winners.
    """
    with _scratch() as directory:
        (port,) = _free_ports(1)
        command = [sys.executable, "-c", _MOTO, str(port)]
        with _running("moto", command, port, directory) as server:
            yield server


@contextlib.contextmanager
def seaweedfs() -> Iterator[Server]:
    """SeaweedFS: master, volume server, filer and S3 gateway in one process."""
    with _scratch() as directory:
        identities = directory / "identities.json"
        identities.write_text(json.dumps(_seaweed_identities()))
        data = directory / "data"
        data.mkdir()
        ports = dict(zip(_SEAWEED_PORTS, _free_ports(len(_SEAWEED_PORTS)), strict=True))
        command = [_program("weed"), "server", "-s3", f"-dir={data}", f"-s3.config={identities}"]
        command += ["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"]
        command += ["-volume.max=0", "-master.volumeSizeLimitMB=64", "-s3.port.iceberg=0"]
        command += ["-s3.port.lance=0", f"-filer.localSocket={directory / 'filer.sock'}"]
        command += [f"-s3.localSocket={directory / 's3.sock'}"]
        command += [f"-{option}={port}" for option, port in ports.items()]
        try:
            with _running("seaweedfs", command, ports["s3.port"], directory) as server:
                yield server
        finally:
            _remove_seaweed_sockets(ports)


@contextlib.contextmanager
def rclone_s3() -> Iterator[Server]:
    """`rclone serve s3` on a directory: a store that ignores the conditions of a PUT."""
    with _scratch() as directory:
        (port,) = _free_ports(1)
        data = directory / "data"
        data.mkdir()
        command = [_program("rclone"), "serve", "s3", str(data), f"--addr=127.0.0.1:{port}"]
        command += [f"--auth-key={ACCESS_KEY},{SECRET_KEY}", f"--config={directory / 'none.conf'}"]
        command += [f"--cache-dir={directory / 'cache'}"]
        with _running("rclone", command, port, directory) as server:
            yield server


@contextlib.contextmanager
def minio_server(program: Path) -> Iterator[Server]:
    """MinIO on one directory."""
    with _scratch() as directory:
        (port,) = _free_ports(1)
        data = directory / "data"
        data.mkdir()
        command = [str(program), "server", str(data), f"--address=127.0.0.1:{port}", "--quiet"]
        environ = {"MINIO_ROOT_USER": ACCESS_KEY, "MINIO_ROOT_PASSWORD": SECRET_KEY}
        environ |= {"MINIO_BROWSER": "off", "MINIO_UPDATE": "off"}
        with _running("minio", command, port, directory, environ) as server:
            yield server


@contextlib.contextmanager
def versitygw_server(program: Path) -> Iterator[Server]:
    """versitygw on one directory; without --keep-alive it ends a connection amid an exchange."""
    with _scratch() as directory:
        (port,) = _free_ports(1)
        data = directory / "data"
        data.mkdir()
        command = [str(program), "--port", f"127.0.0.1:{port}", "--keep-alive", "--quiet"]
        command += ["posix", str(data)]
        environ = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
        with _running("versitygw", command, port, directory, environ) as server:
            yield server


@contextlib.contextmanager
def garage_server(program: Path) -> Iterator[Server]:
    """Garage, alone, on one directory: a store that ignores the conditions of a PUT."""
    with _scratch() as directory:
        port, internal = _free_ports(2)
        settings = directory / "garage.toml"
        settings.write_text(
            f'metadata_dir = "{directory}/meta"\n'
            f'data_dir = "{directory}/data"\n'
            'db_engine = "sqlite"\n'
            "replication_factor = 1\n"
            f'rpc_bind_addr = "127.0.0.1:{internal}"\n'
            f'rpc_public_addr = "127.0.0.1:{internal}"\n'
            f'rpc_secret = "{"0" * 64}"\n'
            "[s3_api]\n"
            f's3_region = "{REGION}"\n'
            f'api_bind_addr = "127.0.0.1:{port}"\n'
        )
        command = [str(program), "-c", str(settings), "server", "--single-node", "--default-bucket"]
        environ = {"GARAGE_DEFAULT_ACCESS_KEY": ACCESS_KEY, "GARAGE_DEFAULT_BUCKET": BUCKET}
        environ |= {"GARAGE_DEFAULT_SECRET_KEY": SECRET_KEY}
        with _running("garage", command, port, directory, environ) as server:
            yield server


_SEAWEED_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)


def _remove_seaweed_sockets(ports: Mapping[str, int]) -> None:
    """Its gRPC sockets have fixed names in /tmp that no option moves."""
    for option, port in ports.items():
        part = option.partition(".")[0]
        Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock").unlink(missing_ok=True)


def _seaweed_identities() -> dict[str, Any]:
    keys = {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return {"identities": [{"name": "tests", "credentials": [keys], "actions": actions}]}


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="pdfs-test-server-") as name:
        yield Path(name)


@contextlib.contextmanager
def _running(
    kind: str,
    command: Sequence[str],
    port: int,
    directory: Path,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    log = directory / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, "TMPDIR": str(directory), **environ},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        server = Server(kind=kind, endpoint=f"http://127.0.0.1:{port}", pid=process.pid)
        _wait_bucket(server, process, log)
        yield server
    finally:
        process.kill()  # their data are scratch, and SeaweedFS takes 10 s to end politely
        process.wait()


def _wait_bucket(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the bucket exists and takes objects."""
    deadline = time.monotonic() + START_LIMIT
    while (fault := _fault(server)) is not None:
        words = log.read_text(errors="replace")[-2000:]
        assert process.poll() is None, f"{server.kind} ended at its start: {words}"
        assert time.monotonic() < deadline, f"{server.kind} does not work ({fault}): {words}"
        time.sleep(0.05)


def _fault(server: Server) -> str | None:
    """Make the bucket, write an object to it and remove it; why that failed, or None."""
    client = admin_client(server)
    try:
        with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou):
            client.create_bucket(Bucket=server.bucket)
        client.put_object(Bucket=server.bucket, Key="started", Body=b"yes")
        client.delete_object(Bucket=server.bucket, Key="started")
    except (BotoCoreError, ClientError) as error:
        return str(error)
    finally:
        client.close()
    return None


def admin_client(server: Server) -> Any:
    """A plain boto3 client of the server: another tool, as far as PDFS can tell."""
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            connect_timeout=2,
            read_timeout=10,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listened on a moment ago, all different."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _program(name: str) -> str:
    """A program that came with a test dependency: beside this interpreter."""
    path = Path(sysconfig.get_path("scripts")) / name
    assert path.exists(), f"{name} is not installed beside {sys.executable}: pip install -e .[test]"
    return str(path)
