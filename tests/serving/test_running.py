"""Where the server may listen, what it serves and what it says of itself."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from uvicorn.config import STARTUP_FAILURE

from xdm.bundle.format import FORMAT, FORMAT_VERSION
from xdm.schema import BundleError, UsageError
from xdm.serving import workers
from xdm.serving.running import announce, listen, run_service, url_of
from xdm.serving.settings import ServeSettings


def test_port_0_is_a_free_port_and_its_url_says_which():
    with listen("127.0.0.1", 0, has_keys=False) as first, listen("localhost", 0, has_keys=False) as second:
        port = first.getsockname()[1]
        assert url_of(first) == f"http://127.0.0.1:{port}"
        assert port not in (0, second.getsockname()[1])
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"])
def test_an_address_for_others_needs_keys(host):
    with pytest.raises(UsageError, match=r"can be reached from other machines.*xdm keys new"):
        listen(host, 0, has_keys=False)


def test_a_public_address_is_listened_on_with_keys():
    with listen("0.0.0.0", 0, has_keys=True) as listener:
        assert listener.getsockname()[0] == "0.0.0.0"


def test_a_taken_port_and_an_unknown_host_are_wrong_use():
    with listen("127.0.0.1", 0, has_keys=False) as first:
        port = first.getsockname()[1]
        with pytest.raises(UsageError, match=rf"cannot listen on 127.0.0.1 port {port}.*choose another --port"):
            listen("127.0.0.1", port, has_keys=False)
    with pytest.raises(UsageError, match=r"--host 'no such\.host\.invalid' is no address"):
        listen("no such.host.invalid", 0, has_keys=False)


@pytest.mark.parametrize("source", ["shuffled", "live"])
def test_a_control_is_not_served(source, tmp_path):
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": {}, "behaviours": {}}
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"unclicked_source": source}))
    settings = ServeSettings(bundle=bundle, port=0, state=str(tmp_path / "state.sqlite"))
    with pytest.raises(BundleError, match=f"unclicked_source={source}"):
        run_service(settings)
    assert list(tmp_path.iterdir()) == [bundle]


def test_the_announcement_tells_no_password_and_how_to_ask(capsys):
    settings = ServeSettings(bundle=Path("b"), state="rediss://user:secret@host:6379/0", keys=Path("k"), workers=2)
    announce(settings, {"model": "sdm"}, "http://127.0.0.1:1")
    printed = capsys.readouterr().out
    assert printed.startswith("sdm from b answers at http://127.0.0.1:1 (2 workers)\n")
    assert "rediss://host:6379/0" in printed
    assert "secret" not in printed
    assert "-H 'Authorization: Bearer KEY'" in printed


def test_a_worker_that_cannot_start_ends_for_good_the_first_time_and_to_be_tried_again_later(
    tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(workers, "configure_logging", lambda *_, **__: None)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    settings = ServeSettings(bundle=tmp_path / "none")
    for again, code in ((False, STARTUP_FAILURE), (True, 1)):
        with pytest.raises(SystemExit) as ended:
            workers.build_worker_app(settings, again=again)
        assert ended.value.code == code
        assert "it is no bundle" in caplog.text
