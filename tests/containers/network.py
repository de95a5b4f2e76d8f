"""A network with an S3 server and nothing else: what network policies leave of a cluster to a pipeline's step."""

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import S3_ENVIRONMENT

ROOT = Path(__file__).parent.parent.parent
LOOPBACK, S3_PORT = "127.0.0.1", 9000
ENDPOINT = f"http://{LOOPBACK}:{S3_PORT}"
BUCKET = "fairlead"
# Loopback is down in a new namespace.
IN_A_NEW_ONE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
HERE = Path("/proc/self/ns/net")
SECONDS_TO_START = 60
CLONE_NEWNET = 0x40000000  # linux/sched.h


@dataclass(frozen=True)
class Network:
    """A network namespace by its path."""

    path: Path

    def run(self, *command: str) -> str:
        """Run a program of this machine on that network, and return what it prints."""
        environment = {**os.environ, **S3_ENVIRONMENT, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        entered = ["nsenter", f"--net={self.path}", *command]
        done = subprocess.run(entered, capture_output=True, text=True, timeout=120, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout


@contextmanager
def with_store(folder: Path) -> Iterator[Network]:
    """The network with the server, until the end; its log is in `folder`."""
    server = [sys.executable, "-m", "moto.server", "--host", LOOPBACK, "--port", str(S3_PORT)]
    with (folder / "s3.log").open("wb") as log:
        process = subprocess.Popen([*IN_A_NEW_ONE, *server], stdout=log, stderr=log)
    path = Path(f"/proc/{process.pid}/ns/net")
    try:
        _wait_until_apart(path)
        yield Network(path)
    finally:
        process.terminate()
        process.wait(30)


def _wait_until_apart(path: Path) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while path.readlink() == HERE.readlink():
        assert time.monotonic() < deadline, "unshare made no network"
        time.sleep(0.01)


def listening(network: Network, port: int) -> socket.socket:
    """A socket that listens on another network: it stays where the thread was that made it."""

    def make() -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with network.path.open() as namespace:
            if libc.setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return socket.create_server((LOOPBACK, port))

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


def put(network: Network, file: Path, key: str) -> str:
    """Upload a file as soon as the server answers; returns its address."""
    network.run(sys.executable, "-m", "tests.containers.network", str(file), key)
    return f"s3://{BUCKET}/{key}"


def _upload(file: str, key: str) -> None:
    import boto3
    from botocore.config import Config

    patient = Config(retries={"total_max_attempts": 12, "mode": "standard"})
    client = boto3.client("s3", endpoint_url=ENDPOINT, region_name=S3_ENVIRONMENT["AWS_REGION"], config=patient)
    client.create_bucket(Bucket=BUCKET)
    client.upload_file(file, BUCKET, key)


if __name__ == "__main__":
    _upload(*sys.argv[1:])
