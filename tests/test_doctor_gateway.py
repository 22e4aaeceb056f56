"""What `doctor` says of the gateway: each state of it made on purpose, each with what to do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError
from urllib.parse import urlsplit

import pytest
from served import running

from orchestra.gateway import create_app
from orchestra.instruments import here, serving
from orchestra.instruments.check import Check
from orchestra.instruments.doctor import examined
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn


@contextmanager
def gateway(daemon: str, token: str = "") -> Iterator[int]:
    """The port of a gateway over a daemon."""
    settings = Settings.read(host=daemon, token=token)
    with running(create_app(persona="lawyer", settings=settings), settings) as url:
        yield urlsplit(url).port or 0


def looked(port: int, daemon: str, token: str = "") -> Check:
    """The check; what is said is there in both languages, and a fix exactly where it is not well."""
    check = serving.gateway(Settings.read(host=daemon, token=token), daemon, port)
    assert check.detail.en
    assert check.detail.zh
    assert bool(check.fix.en) == bool(check.fix.zh) == (not check.ok)
    return check


def test_a_gateway_that_is_not_running() -> None:
    assert looked(1, "http://127.0.0.1:9").detail.en == "not running; port 1 is free (orchestra serve)"


def test_a_gateway_over_this_daemon_and_over_another(standin: StandIn) -> None:
    with gateway(standin.url) as port:
        ready = looked(port, standin.url)
        assert ready.ok
        assert ready.detail.en == f"ready on port {port}, over {standin.url}; this machine alone can reach it, no key is asked for"
        other = looked(port, "http://127.0.0.1:9")
        assert not other.ok
        assert other.fix.en.endswith("OLLAMA_HOST=http://127.0.0.1:9 orchestra serve")
        daemon = standin.url
        standin.stop()
        gone = looked(port, daemon)
        assert not gone.ok
        assert "daemon_unreachable" in gone.detail.en


def test_a_gateway_that_asks_for_a_key(standin: StandIn) -> None:
    with gateway(standin.url, token="s3cret") as port:
        assert "a key is asked for" in looked(port, standin.url, token="s3cret").detail.en
        for wrong in ("", "other", "密钥"):
            refused = looked(port, standin.url, token=wrong)
            assert "ORCHESTRA_TOKEN" in refused.fix.en
            assert "s3cret" not in repr(refused)


@pytest.mark.parametrize(("token", "ok"), [("s3cret", True), ("", False)])
def test_a_gateway_that_others_can_reach(standin: StandIn, monkeypatch: pytest.MonkeyPatch, token: str, ok: bool) -> None:
    monkeypatch.setattr(serving, "_listens_everywhere", lambda port: True)
    with gateway(standin.url, token=token) as port:
        check = looked(port, standin.url, token=token)
    assert (check.ok, "other machines can reach it" in check.detail.en) == (ok, True)


def test_what_listens_there_and_is_no_gateway(standin: StandIn) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "ok"}')

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert "lsof" in looked(server.server_port, standin.url).fix.en
        server.shutdown()
    assert "lsof" in looked(urlsplit(standin.url).port or 0, standin.url).fix.en


def test_a_gateway_in_place_of_the_daemon(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "taken", lambda number: False)
    settings = Settings.read(host=standin.url)
    with running(create_app(settings=settings), settings) as url:
        checks = {each.name: each for each in finish(examined(Settings.read(host=url), Blocking()))}
    assert not checks["direct"].ok
    assert "unset OLLAMA_HOST" in checks["direct"].fix.en


def test_which_keys_are_set_and_never_what_they_are() -> None:
    assert "this machine alone" in serving.keys(Settings()).detail.en
    said = serving.keys(Settings(token="s3cret", tokens="alice=t0p")).detail.en
    assert said == "set: ORCHESTRA_TOKEN, ORCHESTRA_TOKENS"


def test_an_extra_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name in ("uvicorn", "pypdf"):
            raise PackageNotFoundError(name)
        return "1"

    assert serving.extras().ok, "the tests have them all"
    monkeypatch.setattr(serving, "version", version)
    missing = serving.extras()
    assert not missing.ok
    assert missing.fix.en.endswith("pip install 'orchestra-ollama[knowledge,serve]'")
    assert "uvicorn" in missing.detail.en
    assert "fastapi" not in missing.detail.en


def test_where_nothing_is_installed_nothing_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "DISTRIBUTION", "no-such-distribution")
    assert serving.extras().ok
