"""A real Redis server of the tests' own: started on a free port, killed, started again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path

SECONDS_TO_START = 10.0


class RedisServer:
    """A `redis-server` whose files are in ``folder``; every command is on disk before it is answered."""

    def __init__(self, folder: Path, *settings: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.installed = shutil.which("redis-server") is not None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._settings = settings or ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        """Start it on what its folder holds; return once it answers."""
        where = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with open(self.folder / "log", "ab") as log:
            self._process = subprocess.Popen(["redis-server", *where, *self._settings], stdout=log, stderr=log)
        deadline = time.monotonic() + SECONDS_TO_START
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"redis-server did not start:\n{(self.folder / 'log').read_text()}")
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL: it has no time for anything."""
        self._end("kill")

    def stop(self) -> None:
        self._end("terminate")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def _end(self, how: str) -> None:
        if self._process is not None:
            getattr(self._process, how)()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
