"""Where the server may listen."""

from __future__ import annotations

import socket
from typing import ClassVar

import pytest

from xdm.schema import BundleError, UsageError
from xdm.serving.running import listen, run_service, url_of


def test_port_0_is_a_free_port_and_its_url_says_which():
    with listen("127.0.0.1", 0, allow_public=False) as first, listen("localhost", 0, allow_public=False) as second:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}"
        assert port not in (0, second.getsockname()[1])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_an_address_for_others_needs_a_word(host):
    with pytest.raises(UsageError, match=r"can be reached from other machines.*--allow-public"):
        listen(host, 0, allow_public=False)


def test_a_public_address_is_listened_on_when_asked_for():
    with listen("0.0.0.0", 0, allow_public=True) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_a_taken_port_and_an_unknown_host_are_wrong_use():
    with listen("127.0.0.1", 0, allow_public=False) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=rf"cannot listen on 127.0.0.1 port {port}.*choose another --port"):
            listen("127.0.0.1", port, allow_public=False)
    with pytest.raises(UsageError, match=r"--host 'no such\.host\.invalid' is no address"):
        listen("no such.host.invalid", 0, allow_public=False)


@pytest.mark.parametrize("source", ["shuffled", "live"])
def test_a_control_is_not_served(source, tmp_path):
    class Control:
        manifest: ClassVar = {"unclicked_source": source}

    with (
        listen("127.0.0.1", 0, allow_public=False) as listener,
        pytest.raises(BundleError, match=f"unclicked_source={source}"),
    ):
        run_service(Control(), listener, state=tmp_path / "state.sqlite")
    assert not list(tmp_path.iterdir())
