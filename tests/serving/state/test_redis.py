"""What is Redis's own: a server that dies, hangs, comes back, loses data, or keeps on disk what was deleted."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pytest

from tests.serving.state.redis_server import RedisServer
from xdm.serving.errors import StateError, StateUnavailableError
from xdm.serving.state import LiveEvent, open_state
from xdm.serving.state.redis_server import PAUSE_SECONDS, READ_SECONDS, split_prefix

EVENT = LiveEvent("e", "ann", "shoe", 1, True)


@pytest.fixture
def own(redis_server, tmp_path):
    """Makes servers of this test alone, which may kill them."""
    servers = []

    def make(*settings: str) -> RedisServer:
        servers.append(RedisServer(tmp_path / str(len(servers)), *settings))
        servers[-1].start()
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def test_a_killed_server_loses_nothing_and_the_client_goes_on(own):
    """Threads write; the server is killed in the midst of it, twice; what was acknowledged is there, and nothing twice."""
    server = own()
    state = open_state(server.url)
    acknowledged: list[str] = []
    stop = threading.Event()

    def write(thread: int) -> None:
        number = 0
        while True:
            batch = [LiveEvent(f"{thread}.{number}.{i}", "u", f"{thread}.{number}.{i}", number, True) for i in range(3)]
            try:
                state.append(batch)
            except StateUnavailableError:
                time.sleep(0.01)
                continue  # sent again as it was
            acknowledged.append(f"{thread}.{number}")
            number += 1
            if stop.is_set():
                return

    threads = [threading.Thread(target=write, args=(thread,)) for thread in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(2):
        already = len(acknowledged)
        while len(acknowledged) < already + 20:
            time.sleep(0.01)
        server.kill()
        time.sleep(0.1)
        server.start()
    already = len(acknowledged)
    while len(acknowledged) < already + 20:
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    stored = [event.item_id for event in state.events_of("u", before=10**9).events]
    assert len(stored) == len(set(stored)) == state.count()
    assert sorted(stored) == sorted(f"{batch}.{i}" for batch in acknowledged for i in range(3))
    state.close()


def test_a_dead_server_costs_milliseconds_and_one_that_is_back_is_used_again(own):
    server = own()
    state = open_state(server.url)
    state.append([EVENT])
    server.kill()
    for call in (lambda: state.events_of("ann", before=9), state.ping, state.count, state.version):
        began = time.perf_counter()
        with pytest.raises(StateUnavailableError, match=r"does not answer|did not answer a moment ago"):
            call()
        assert time.perf_counter() - began < READ_SECONDS + 0.1
    server.start()
    time.sleep(PAUSE_SECONDS)
    assert state.events_of("ann", before=9).events == [("shoe", 1, True, None)]
    state.close()


def test_a_server_that_hangs_is_waited_for_once_in_a_while_and_by_one_alone(own):
    server = own()
    state = open_state(server.url)
    state.append([EVENT])
    os.kill(server.pid, signal.SIGSTOP)
    try:
        seconds = []
        for _ in range(50):
            began = time.perf_counter()
            with pytest.raises(StateUnavailableError):
                state.events_of("ann", before=9)
            seconds.append(time.perf_counter() - began)
        assert READ_SECONDS <= seconds[0] < READ_SECONDS + PAUSE_SECONDS
        assert sorted(seconds)[-5] < 0.01
    finally:
        os.kill(server.pid, signal.SIGCONT)
    time.sleep(PAUSE_SECONDS)
    assert len(state.events_of("ann", before=9).events) == 1
    state.close()


def test_a_server_that_is_down_at_the_start_is_no_error_and_is_checked_once_it_is_up(own, caplog):
    server = own("--appendonly", "no", "--save", "")
    server.stop()
    state = open_state(server.url)
    with pytest.raises(StateUnavailableError):
        state.ping()
    caplog.clear()
    server.start()
    time.sleep(PAUSE_SECONDS)
    state.ping()
    assert "appendonly=no" in caplog.text
    state.close()


@pytest.mark.parametrize(
    ("settings", "durability", "warning"),
    [
        (("--appendonly", "no", "--save", ""), "normal", "appendonly=no"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "full", "appendfsync=everysec"),
        (("--appendonly", "yes", "--appendfsync", "everysec"), "normal", None),
        (("--appendonly", "yes", "--appendfsync", "always"), "full", None),
        (("--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"), "normal", "maxmemory-policy=allkeys-lru"),
        (("--appendonly", "yes", "--rename-command", "CONFIG", "hidden"), "full", "does not show its settings"),
    ],
)
def test_settings_that_lose_what_was_acknowledged_are_warned_of(own, caplog, settings, durability, warning):
    with caplog.at_level(logging.WARNING):
        open_state(own(*settings).url, durability).close()
    assert (warning in caplog.text) if warning else (caplog.text == "")


@pytest.mark.parametrize("settings", [(), ("--appendonly", "no", "--save", "3600 1")])
def test_who_is_forgotten_is_gone_from_the_servers_files(own, settings):
    server = own(*settings)
    state = open_state(server.url)
    state.append(
        [LiveEvent("an-event", "ann-is-here", "her-item", 1, True), LiveEvent(None, "bob", "his-item", 1, True)]
    )
    if settings:
        state._writes.client.save()

    def on_disk() -> bytes:
        return b"".join(file.read_bytes() for file in server.folder.rglob("*") if file.is_file())

    assert all(word in on_disk() for word in (b"ann-is-here", b"her-item", b"his-item"))
    state.forget("ann-is-here")
    state.append([LiveEvent("another", "eve-is-here", "eves-item", 1, True)])
    state.forget("eve-is-here")  # while the server is still busy with the first
    deadline = time.monotonic() + 10
    while any(word in on_disk() for word in (b"ann-is-here", b"her-item", b"an-event", b"eve-is-here", b"eves-item")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        state.prune([], now=10)  # has the server asked again
    assert b"his-item" in on_disk()
    state.close()


def test_what_holds_no_state_of_ours_is_refused_without_telling_the_password(own, redis_server):
    newer = open_state(f"{redis_server.url}?prefix=newer")
    newer._writes.client.set("newer:format", "2")
    secret = own("--requirepass", "right")
    cluster = own("--cluster-enabled", "yes", "--cluster-config-file", "cluster.conf")
    for url, reason in (
        (f"{redis_server.url}?prefix=newer", "format b'2' under newer:"),
        (secret.url, "asks for another user or password"),
        (secret.url.replace("//", "//:wrong@"), "asks for another user or password"),
        (cluster.url, "is a Redis Cluster"),
        ("redis://localhost:port/", "no Redis URL"),
        ("mysql://localhost/", "mysql:// is unknown"),
    ):
        with pytest.raises(StateError, match=reason) as refused:
            open_state(url)
        assert "wrong" not in str(refused.value)
    right = open_state(secret.url.replace("//", "//:right@"))
    assert "right" not in right.describe
    assert right.append([EVENT]) == (1, 0)


def test_a_full_server_stores_nothing_of_a_batch(own):
    server = own("--appendonly", "no", "--save", "", "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
    state = open_state(server.url)
    number, refused = 0, ""
    while not refused:
        try:
            state.append([LiveEvent(f"{number}.{i}", f"u{number}", "i" * 500, 1, True) for i in range(50)])
            number += 1
        except StateUnavailableError as error:
            refused = str(error)
    assert "maxmemory" in refused
    assert state.count() == 50 * number
    assert state.events_of(f"u{number}", before=9).events == []
    assert len(state.events_of(f"u{number - 1}", before=9).events) == 50


def test_prefixes_keep_services_apart_and_the_default_is_our_name(redis_server):
    one, other = (open_state(f"{redis_server.url}?prefix={name}") for name in ("shop", "feed"))
    one.append([EVENT])
    assert (one.count(), other.count()) == (1, 0)
    assert other.append([EVENT._replace(item_id="hat")]) == (1, 0)
    assert split_prefix("redis://h:1/2?prefix=a&socket_timeout=3") == ("redis://h:1/2?socket_timeout=3", "a:")
    assert split_prefix("unix:///run/redis.sock?db=1&prefix=a") == ("unix:///run/redis.sock?db=1", "a:")
    assert split_prefix("redis://:p%40ss@h:1/2") == ("redis://:p%40ss@h:1/2", "xdm:")
