"""A running `xdm serve` and clients that ask it; bundles that are made for a benchmark."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

XDM = [sys.executable, "-m", "xdm"]
HEADERS = {"Content-Type": "application/json"}


class Reply(NamedTuple):
    """What came back: the status, and the body's JSON (None where it is none)."""

    status: int
    body: Any


class Client:
    """One connection that is kept; opened again where the server closed it. One thread at a time may use it."""

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def send(self, method: str, path: str, body: bytes | None = None) -> Reply:
        """
        Raises:
            OSError, http.client.HTTPException: no answer came: the server is gone, or cut it off.
        """
        try:
            self._connection.request(method, path, body, HEADERS)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        is_json = "json" in answer.headers.get("Content-Type", "")
        return Reply(answer.status, json.loads(content) if is_json else None)

    def post(self, path: str, message: Any) -> Reply:
        return self.send("POST", path, json.dumps(message).encode())

    def user(self, user_id: str) -> dict[str, Any]:
        """What is held of a user."""
        reply = self.send("GET", f"/v1/users/{quote(user_id, safe='')}")
        if reply.status != 200:
            raise RuntimeError(f"GET /v1/users: {reply}")
        return reply.body


class Running:
    """An `xdm serve` that answers at ``port``; its standard error is in the file ``log``."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def client(self, timeout: float = 30.0) -> Client:
        return Client(self.port, timeout)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def resident(self) -> int:
        """Bytes of main memory that the process holds (RSS; Linux)."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def kill(self) -> None:
        """SIGKILL to it and its workers: they have no time for anything."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=60)


@contextmanager
def serve(bundle: Path, folder: Path, *options: object) -> Iterator[Running]:
    """`xdm serve BUNDLE` on a free port of loopback, once it answers; killed at the end, if it still runs.

    ``folder`` takes its log. Raises RuntimeError with what it said where it does not start.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "serve.log"
    command = [*XDM, "serve", str(bundle), "--port", "0", "--set", "access_log=false", *map(str, options)]
    with (
        open(log, "a", encoding="utf-8") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True) as process,
    ):
        try:
            assert process.stdout is not None
            found = re.search(r"http://[^ ]+:(\d+)", process.stdout.readline())
            if found is None:
                raise RuntimeError(f"xdm serve did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
            yield Running(process, int(found[1]), log)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def run_xdm(*words: object) -> None:
    """Run a command of `xdm`.

    Raises:
        RuntimeError: it fails; its message is in it.
    """
    done = subprocess.run([*XDM, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"xdm {words[0]}: {done.stderr or done.stdout}")


def simulated_log(folder: Path, users: int) -> Path:
    """A simulated exposure log: the file, beside its items.parquet."""
    run_xdm("simulate", "--out", folder / "world", "--users", users, "--overwrite")
    return folder / "world" / "exposures.parquet"


def trained(store: Path, out: Path, model: str = "xdm", epochs: int = 1) -> Path:
    """A bundle of ``model`` over a store, at ``out``."""
    settings = ["--set", f"training.epochs={epochs}", "--set", "training.threads=1"]
    run_xdm("train", store, "--model", model, "--out", out, "--quiet", "--overwrite", *settings)
    return out


def small_bundle(folder: Path, users: int = 200) -> Path:
    """A bundle of the model xdm over a simulated log of ``users`` users."""
    log = simulated_log(folder, users)
    run_xdm("prepare", log, "--items", log.with_name("items.parquet"), "--out", folder / "store", "--overwrite")
    return trained(folder / "store", folder / "models" / "bundle")


def known_items(bundle: Path) -> list[str | int]:
    """The ids of the items that a bundle knows."""
    from xdm.bundle.reading import load_recommender

    return load_recommender(bundle, threads=1).catalogue.ids.to_pylist()


def in_threads(count: int, work: Callable[[int], None]) -> list[threading.Thread]:
    """``work(number)`` in ``count`` threads, started."""
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def wait_for(condition: Callable[[], bool], seconds: float, what: str) -> float:
    """The seconds until ``condition()`` holds.

    Raises:
        TimeoutError: it does not in ``seconds``.
    """
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > seconds:
            raise TimeoutError(f"{what}: not within {seconds} seconds")
        time.sleep(0.005)
    return time.monotonic() - began


def table(figures: dict[str, Any]) -> str:
    """Figures as lines of two columns."""
    width = max(map(len, figures))
    return "\n".join(f"{name:{width}}  {_shown(value)}" for name, value in figures.items())


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_shown, value))
    return str(value)
