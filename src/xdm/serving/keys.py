"""API keys: a file of their hashes, and which of them a request carries."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from xdm.schema import ConfigError
from xdm.serving.rates import parse_rate

PREFIX = "xdm_"  # so that a key that was committed by mistake is found by those who scan for secrets
KEY_BYTES = 32
MAX_FILE_BYTES = 1 << 20
LOOK_SECONDS = 1.0  # how often the file is looked at, at most

Scope = Literal["read", "write", "admin"]

logger = logging.getLogger("xdm.serving")


def checked_rate(text: str) -> str:
    """``text``, which is a rate.

    Raises:
        ValueError: as `parse_rate`.
    """
    parse_rate(text)
    return text


RateText = Annotated[str, AfterValidator(checked_rate)]


class Key(BaseModel):
    """One key as the file has it: its hash, never the key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)]
    rate_limit: RateText | None = None


FILE = TypeAdapter(list[Key])


def new_key(name: str, scopes: Sequence[Scope], rate_limit: str | None = None) -> tuple[str, Key]:
    """A fresh random key (to be told once) and what the file keeps of it.

    A key is 256 random bits, so its plain SHA-256 cannot be searched for: the slow hashes of passwords add nothing.

    Raises:
        ConfigError: a name, scope or rate that does not fit.
    """
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    try:
        kept = Key(name=name, sha256=hash_of(key.encode()), scopes=tuple(scopes), rate_limit=rate_limit)
    except ValidationError as error:
        raise ConfigError(f"no such key can be made: {_first(error)}") from None
    return key, kept


def hash_of(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def read_keys(path: Path) -> list[Key]:
    """The keys of the file.

    Raises:
        ConfigError: it cannot be read, is no list of keys, names one twice, or may be written by everybody.
    """
    try:
        if path.stat().st_mode & stat.S_IWOTH:
            raise ConfigError(f"{path} may be written by everybody on this machine: chmod 600 {path}")
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
        found = FILE.validate_python(yaml.safe_load(content[:MAX_FILE_BYTES].decode()) or [])
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a file of keys ({error}); `xdm keys new` writes one") from None
    except ValidationError as error:
        raise ConfigError(f"{path} is no file of keys: {_first(error)}; `xdm keys new` writes one") from None
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_FILE_BYTES} bytes, too large for a file of keys")
    names = [key.name for key in found]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{path} has two keys of the name {name!r}; give each a name of its own")
    return found


def write_keys(path: Path, keys: Sequence[Key]) -> None:
    """Replace the file at once, readable by its owner alone (or by whom it was before).

    Raises:
        ConfigError: it cannot be written.
    """
    content = yaml.safe_dump([key.model_dump(mode="json", exclude_none=True) for key in keys], sort_keys=False)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o600
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(partial, mode)
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); choose another --file") from None
    finally:
        partial.unlink(missing_ok=True)


class KeyRing:
    """The keys of a file, read again when the file changes.

    The file is looked at while requests come, at most once a second. A signal would have to reach every worker, and
    uvicorn's supervisor takes SIGHUP to mean new processes; the change of a file reaches all by itself, also where a
    container's secret is replaced. A file that cannot be read any more is logged and the keys known before stay: a slip
    of the pen locks nobody out, and lets nobody in.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the keys.

        Raises:
            ConfigError: the file cannot be read, or holds no key.
        """
        self.path = path
        self._clock = clock
        self._version = self._version_on_disk()
        self._take(read_keys(path))
        if not self._keys:
            raise ConfigError(
                f"{path} holds no key, so nobody could ask anything: `xdm keys new --file {path} --name …`"
            )
        self._looked = clock()

    def find(self, token: bytes) -> Key | None:
        """The key that ``token`` is, if any. Takes as long for every token: all hashes are compared, none first."""
        if self._clock() - self._looked >= LOOK_SECONDS:
            self._look()
        digest = hashlib.sha256(token).digest()
        found = None
        for known, key in self._keys:
            if hmac.compare_digest(known, digest):
                found = key
        return found

    def _look(self) -> None:
        self._looked = self._clock()
        version = self._version_on_disk()
        if version == self._version:
            return
        self._version = version
        try:
            self._take(read_keys(self.path))
            logger.info("%s: %d keys are valid from now on", self.path, len(self._keys))
        except ConfigError as error:
            logger.error("%s; the keys that were valid before stay so", error)

    def _take(self, keys: Sequence[Key]) -> None:
        self._keys = [(bytes.fromhex(key.sha256), key) for key in keys]

    def _version_on_disk(self) -> tuple[int, ...]:
        try:
            now = self.path.stat()
        except OSError:
            return ()
        return now.st_mtime_ns, now.st_size, now.st_ino


def _first(error: ValidationError) -> str:
    """The first thing wrong, with the number of the entry and its field."""
    first = error.errors(include_url=False)[0]
    steps = [f"entry {step + 1}" if isinstance(step, int) else str(step) for step in first["loc"]]
    reason = re.sub(r"^Value error, ", "", first["msg"])
    return ", ".join(steps) + (": " if steps else "") + reason
