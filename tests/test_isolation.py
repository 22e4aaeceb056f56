"""The tests' own guard rails: each is tried out, because a kill-switch that does nothing is not noticed otherwise."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
import textwrap
from pathlib import Path

import conftest
import httpx
import pytest
from conftest import Network, NetworkRefused

pytest_plugins = ["pytester"]

ELSEWHERE = "192.0.2.1"  # an address of documentation, which nobody has


def test_connections_beyond_loopback_are_refused(network: Network) -> None:
    for family, host in ((socket.AF_INET, ELSEWHERE), (socket.AF_INET6, "2001:db8::1"), (socket.AF_INET6, "::ffff:192.0.2.1")):
        for method in ("connect", "connect_ex"):
            with socket.socket(family) as sock, pytest.raises(NetworkRefused):
                getattr(sock, method)((host, 80))
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(NetworkRefused):
        sock.sendto(b"x", (ELSEWHERE, 53))
    with pytest.raises(NetworkRefused):
        socket.getaddrinfo("example.org", 443)
    assert len(network.refused) == 8
    network.refused.clear()


def test_clients_are_refused_too(network: Network) -> None:
    with pytest.raises(NetworkRefused):
        httpx.get(f"http://{ELSEWHERE}/", trust_env=False)

    async def ask() -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            await client.get(f"http://{ELSEWHERE}/")

    with pytest.raises((NetworkRefused, ExceptionGroup)):
        asyncio.run(ask())
    assert network.refused == [f"{ELSEWHERE}:80"] * 2
    network.refused.clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "localhost"])
def test_loopback_is_allowed(host: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as server, socket.create_connection((host, server.getsockname()[1])):
        pass


def test_unix_sockets_are_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("s")
        server.listen()
        client.connect("s")


def test_only_the_named_daemon_is_allowed() -> None:
    network = Network("gpu.lan")
    network.check(("gpu.lan", 11434))
    with pytest.raises(NetworkRefused):
        network.check(("other.lan", 11434))


def test_a_caught_refusal_fails_the_test_all_the_same(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(Path(conftest.__file__).read_text("utf-8"))
    pytester.makepyfile(f"""
        import socket
        def test_it():
            try:
                socket.create_connection(("{ELSEWHERE}", 80), timeout=1)
            except Exception:
                pass
    """)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines([f"*the test tried to reach {ELSEWHERE}:80*"])


def test_the_developers_settings_are_gone(home: Path) -> None:
    assert {name for name in os.environ if conftest.foreign(name)} == {"ORCHESTRA_HOME", "ORCHESTRA_SEARCH"}
    assert os.environ["ORCHESTRA_SEARCH"] == "offline", "no question of a test is anybody else's to see"
    assert Path(os.environ["ORCHESTRA_HOME"]) == home
    assert not home.exists()


@pytest.mark.parametrize("variable", ["OLLAMA_HOST", "ORCHESTRA_MODEL", "https_proxy", "ALL_PROXY", "NO_COLOR"])
def test_what_is_foreign(variable: str) -> None:
    assert conftest.foreign(variable)
    assert not conftest.foreign("ORCHESTRA_TEST_OLLAMA")
    assert not conftest.foreign("PATH")


FAKE = """\
    #!{python}
    import http.server, json, os, sys
    assert sys.argv[1:] == ["serve"] and os.path.isdir(os.environ["OLLAMA_MODELS"])
    host, port = os.environ["OLLAMA_HOST"].split(":")
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = {{"/api/version": {{"version": "0"}}, "/api/tags": {{"models": [{{"name": "tiny:latest"}}]}}}}[self.path]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())
    http.server.HTTPServer((host, int(port)), Handler).serve_forever()
"""


def executable(path: Path, text: str) -> str:
    path.write_text(textwrap.dedent(text).format(python=sys.executable), "utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_a_daemon_on_the_path_is_started_on_a_port_of_its_own(tmp_path: Path) -> None:
    daemon = conftest.StartedDaemon(executable(tmp_path / "ollama", FAKE), tmp_path / "models")
    with daemon as url:
        assert conftest.answers(url)
        assert conftest.installed_models(url) == ["tiny:latest"]
    assert daemon.process.poll() is not None
    assert not conftest.answers(url)


def test_a_daemon_that_does_not_start_is_a_reason_to_skip(tmp_path: Path) -> None:
    broken = executable(tmp_path / "ollama", "#!{python}\nraise SystemExit(1)\n")
    with pytest.raises(pytest.skip.Exception, match="did not start"), conftest.StartedDaemon(broken, tmp_path / "models"):
        pass


@pytest.mark.parametrize(
    ("named", "url"),
    [
        ("gpu.lan", "http://gpu.lan:11434"),
        ("127.0.0.1:1234", "http://127.0.0.1:1234"),
        ("http://[::1]:5", "http://[::1]:5"),
        ("https://gpu.lan/", "https://gpu.lan:443"),
        ("", ""),
    ],
)
def test_the_forms_of_an_address(named: str, url: str) -> None:
    assert conftest.full_url(named) == url


def test_the_real_daemon_has_a_model(real_daemon: str, real_model: str) -> None:
    assert conftest.answers(real_daemon)
    assert real_model
