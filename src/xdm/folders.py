"""Folders that appear whole or not at all: stores, bundles, run folders and result folders are written through here."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from xdm.schema import UsageError

MANIFEST = "manifest.json"
# What is filled and not yet in its place: .NAME.partial, .NAME.PID.partial, .NAME.PID.XXXX.partial
PARTIAL = re.compile(r"^\.(.+?)(\.\d+(\.\w+)?)?\.partial$")


def fsync_path(path: Path) -> None:
    """Flush one file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_folder(path: Path | str, kind: str, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of ``path`` to fill; rename it into place when the block ends without an error.

    A process that is killed on the way leaves the old folder or none, and a hidden sibling ``.NAME.PID.XXXX.partial``
    that the next call for the same path removes. With ``overwrite`` an existing folder is replaced, but only one of the same
    ``kind`` (or an empty one): neither a mistyped path nor the command's own input ever costs anyone their files.

    ``kind``: the ``format`` that the folder's manifest has; or, of a folder without a manifest, a file that every such folder holds.

    Raises:
        UsageError: ``path`` exists and ``overwrite`` is false, or it is a folder of another kind.
    """
    path = Path(path)
    check_replaceable(path, kind, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    partial = _temporary_sibling(path)
    try:
        yield partial
        for file in partial.rglob("*"):
            fsync_path(file)
        os.chmod(partial, 0o755)
        if path.exists():
            old = _temporary_sibling(path)
            os.rename(path, old / path.name)
            os.rename(partial, path)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(partial, path)
        fsync_path(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _temporary_sibling(path: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{path.name}.{os.getpid()}.", suffix=".partial", dir=path.parent))


def final_path(path: str) -> str:
    """The path that ``path`` stands for while it is filled; itself, if it is no such name."""
    folder, name = os.path.split(path)
    return os.path.join(folder, PARTIAL.sub(r"\1", name))


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes left beside ``path``; what a living process is filling stays."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.partial"):
        pid = leftover.name.removeprefix(f".{path.name}.").split(".")[0]
        if pid.isdigit() and not _alive(int(pid)) and leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(pid: int) -> bool:
    """Whether the process runs: one that was killed and that nobody has waited for yet does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def check_replaceable(path: Path | str, kind: str, *, overwrite: bool) -> None:
    """Raise `UsageError` where ``path`` may not be written as a folder of ``kind`` (see `new_folder`): before the long work, not
    after it."""
    path = Path(path)
    if not path.exists():
        return
    if not path.is_dir():
        raise UsageError(f"{path} exists and is not a folder; choose another path")
    if not any(path.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{path} exists already; choose another path or pass --overwrite")
    found = _kind(path, kind)
    if found is None:
        raise UsageError(f"{path} holds no {kind}, so it was not written by xdm and is not replaced; choose another path")
    if found != kind:
        raise UsageError(f"{path} holds {found}, which only another command may replace, not {kind}; choose another path")


def _kind(path: Path, wanted: str) -> str | None:
    """What the folder ``path`` holds: the ``format`` of its manifest, or ``wanted`` where there is none but a file of that name."""
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
    except FileNotFoundError:
        return wanted if (path / wanted).is_file() else None
    except ValueError:
        return None
    found = manifest.get("format") if isinstance(manifest, dict) else None
    return found if isinstance(found, str) else None


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as readable JSON, atomically."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old content or the new, never a part; flushed to disk."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
