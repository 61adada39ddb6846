"""Real processes: a worker that is killed is replaced, a supervisor that is killed leaves nobody, a stop lets requests end."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest


@contextmanager
def served(bundle: Path, folder: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """A running `xdm serve` and its address; nothing of it is left afterwards."""
    command = [sys.executable, "-m", "xdm", "serve", str(bundle), "--port", "0", "--state", str(folder / "s.sqlite")]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=log, text=True)
    family = psutil.Process(process.pid)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, (folder / "log").read_text()
        yield process, found[0]
    finally:
        members = [family, *family.children(recursive=True)] if family.is_running() else []
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        process.communicate()


def workers_of(process: subprocess.Popen) -> list[psutil.Process]:
    return [child for child in psutil.Process(process.pid).children() if is_worker(child)]


def is_worker(process: psutil.Process) -> bool:
    """One that lives; not Python's resource tracker, which is a child as well."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and any("spawn_main" in word for word in process.cmdline())
    except psutil.Error:  # gone meanwhile
        return False


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def ask(url: str) -> int:
    return httpx.post(f"{url}/v1/recommend", json={"user_id": "u", "k": 3}, timeout=20).status_code


def lines_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_a_killed_worker_is_replaced_and_a_stop_ends_them_all(trained, tmp_path):
    with served(trained, tmp_path, "--workers", "2") as (process, url):
        before = workers_of(process)
        assert len(before) == 2
        before[0].kill()
        wait_for(lambda: len(workers_of(process)) == 2 and before[0] not in workers_of(process))
        assert [ask(url) for _ in range(4)] == [200] * 4
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert process.stdout.read().endswith("stopped\n")
        assert not any(worker.is_running() for worker in before)
        assert any("another one takes its place" in line["message"] for line in lines_of(tmp_path))


def test_no_worker_outlives_a_killed_supervisor(trained, tmp_path):
    with served(trained, tmp_path, "--workers", "2") as (process, url):
        workers = workers_of(process)
        process.kill()
        wait_for(lambda: not any(worker.is_running() for worker in workers))
        with pytest.raises(httpx.ConnectError):
            ask(url)


def test_a_stop_is_told_at_once_and_lets_a_running_request_end(trained, tmp_path):
    with served(trained, tmp_path, "--set", "stop_delay_seconds=2") as (process, url):
        host, port = url.removeprefix("http://").split(":")
        body = b'{"user_id": "u", "k": 3}'
        head = f"POST /v1/recommend HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=20) as slow:
            slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            wait_for(lambda: httpx.get(f"{url}/health/ready").status_code == 503)
            other = httpx.post(f"{url}/v1/recommend", json={"user_id": "u", "k": 3})
            assert (other.status_code, other.headers["connection"]) == (200, "close")
            wait_for(lambda: refuses(host, int(port)))
            slow.sendall(body[5:])
            answer = b"".join(iter(lambda: slow.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"connection: close" in answer
        assert process.wait(timeout=20) == 0


def refuses(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return True
    return False
