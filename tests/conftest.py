"""What holds for every test: nothing leaves this machine, nothing of the developer's own set-up is read or written.

A real daemon is used only where `ORCHESTRA_TEST_OLLAMA` names one or where `ollama` is on the PATH.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import hypothesis
import pytest

from orchestra.standin import StandIn

pytest_plugins = ["orchestra.standin.plugin"]

# A gate has to say the same thing twice, on a slow machine too.
hypothesis.settings.register_profile("gate", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("gate")

DAEMON = "ORCHESTRA_TEST_OLLAMA"
CHAT_MODEL = "llama3"
PATIENCE = 20.0  # seconds for a daemon that a test starts


# --- the network


class NetworkRefused(Exception):
    """A test tried to reach another machine."""


class Network:
    """Refuses every address beyond loopback, in connections, datagrams and name look-ups, and remembers what was tried.

    The attempt is remembered because the code under test may catch the exception: the test fails all the same.
    """

    def __init__(self, *allowed: str) -> None:
        self.allowed = {"localhost", *allowed}
        self.refused: list[str] = []

    def near(self, host: object) -> bool:
        """Whether `host` is this machine, or was allowed by name."""
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        name = name.strip("[]").partition("%")[0]
        if not name or name in self.allowed:
            return True
        try:
            address = ip_address(name)
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address).is_loopback

    def check(self, address: object) -> None:
        """Raises `NetworkRefused` for an address of another machine; the path of a unix socket is none."""
        if isinstance(address, tuple) and not self.near(address[0]):
            self.refused.append(f"{address[0]}:{address[1]}")
            raise NetworkRefused(f"a test tried to reach {address[0]}")

    def guard(self, patch: pytest.MonkeyPatch) -> None:
        """Puts the check before each way out of the process."""

        def guarded(original: Callable[..., Any], position: int) -> Callable[..., Any]:
            def call(sock: socket.socket, *given: Any) -> Any:
                self.check(given[position])
                return original(sock, *given)

            return call

        for name, position in {"connect": 0, "connect_ex": 0, "sendto": -1}.items():
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name), position))

        def named(original: Callable[..., Any]) -> Callable[..., Any]:
            def call(host: Any, *given: Any, **named: Any) -> Any:
                self.check((host, given[0] if given else ""))
                return original(host, *given, **named)

            return call

        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
            patch.setattr(socket, name, named(getattr(socket, name)))


@pytest.fixture(scope="session", autouse=True)
def network() -> Iterator[Network]:
    """The kill-switch of the whole run; `network.refused` lists what was tried (a test that tried it on purpose clears it)."""
    named = urlsplit(full_url(os.environ.get(DAEMON, ""))).hostname
    network = Network(*([named] if named else []))
    with pytest.MonkeyPatch.context() as patch:
        network.guard(patch)
        yield network


@pytest.fixture(autouse=True)
def nothing_leaves(network: Network) -> Iterator[None]:
    """Fails the test that tried to reach another machine, also where the code under test caught the refusal."""
    network.refused.clear()
    yield
    tried = list(network.refused)
    network.refused.clear()
    assert not tried, f"the test tried to reach {', '.join(tried)}"


# --- the environment

FOREIGN = {"OLLAMA_HOST", "FORCE_COLOR", "NO_COLOR", "LC_ALL", "LC_MESSAGES", "LANGUAGE", "COLUMNS", "LINES"}
_homes = itertools.count()


def foreign(variable: str) -> bool:
    """Whether a variable belongs to the developer's own set-up and would change what the tests see."""
    own = variable.startswith(("ORCHESTRA_", "OLLAMA_")) and variable != DAEMON
    return own or variable in FOREIGN or variable.lower().endswith("_proxy")


@pytest.fixture(scope="session", autouse=True)
def clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Takes the developer's settings, proxies and language away; gives the folder in which every test has its own home."""
    folder = tmp_path_factory.mktemp("homes")
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's job in the background: no process of a test would feel Ctrl-C
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        for variable in [name for name in os.environ if foreign(name)]:
            patch.delenv(variable)
        patch.setenv("LANG", "C.UTF-8")
        patch.setenv("ORCHESTRA_SEARCH", "offline")  # a command in a process of its own would ask the web
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("ORCHESTRA_HOME", str(folder / "session"))
        yield folder


@pytest.fixture(autouse=True)
def home(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The test's own `ORCHESTRA_HOME`; it does not exist until something is stored."""
    folder = clean_environment / f"home-{next(_homes)}"
    monkeypatch.setenv("ORCHESTRA_HOME", str(folder))
    return folder


# --- a real daemon


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m real` selects what asks for a real daemon."""
    for item in items:
        if "real_daemon" in getattr(item, "fixturenames", ()):
            item.add_marker("real")


@pytest.fixture
def daemon() -> Iterator[StandIn]:
    """A stand-in of the test's own."""
    with StandIn() as daemon:
        yield daemon


@pytest.fixture
def served(daemon: StandIn) -> Iterator[Callable[..., httpx.Client]]:
    """Serves apps of the gateway over that stand-in; see tests/served.py."""
    from served import serving  # the gateway is imported by the tests of it alone

    with serving(daemon.url) as run:
        yield run


@pytest.fixture(scope="session")
def real_daemon(clean_environment: Path, network: Network) -> Iterator[str]:
    """The URL of a real daemon: the one that was named, else one started from the PATH; skips where there is none."""
    named = os.environ.get(DAEMON)
    if named:
        url = full_url(named)
        if not answers(url):
            pytest.fail(f"{DAEMON} is {named}, and nothing answers there")
        yield url
        return
    binary = shutil.which("ollama")
    if binary is None:
        pytest.skip(f"no real daemon: {DAEMON} is not set and there is no ollama on the PATH")
    with StartedDaemon(binary, clean_environment / "models") as url:
        yield url


@pytest.fixture(scope="session")
def real_model(real_daemon: str) -> str:
    """The chat model of the real daemon; skips where it has none."""
    models = installed_models(real_daemon)
    if not {CHAT_MODEL, f"{CHAT_MODEL}:latest"} & set(models):
        pytest.skip(f"{CHAT_MODEL} is missing at {real_daemon}; there: {', '.join(models) or 'no model'}")
    return CHAT_MODEL


class StartedDaemon:
    """An `ollama serve` on a free port with a model folder of its own, ended when the block ends."""

    def __init__(self, binary: str, models: Path) -> None:
        self.binary = binary
        self.models = models

    def __enter__(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            host = f"127.0.0.1:{probe.getsockname()[1]}"
        self.models.mkdir(exist_ok=True)
        environment = {**os.environ, "OLLAMA_HOST": host, "OLLAMA_MODELS": str(self.models)}
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen([self.binary, "serve"], env=environment, stdin=quiet, stdout=quiet, stderr=quiet)
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            if answers(f"http://{host}"):
                return f"http://{host}"
            time.sleep(0.05)
        self.__exit__()
        pytest.skip(f"no real daemon: {self.binary} did not start")

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(url: str) -> bool:
    """Whether a daemon says its version at `url`."""
    try:
        with _direct.open(url + "/api/version", timeout=5) as response:
            return "version" in json.load(response)
    except (OSError, ValueError):
        return False


def installed_models(url: str) -> list[str]:
    """The names in `/api/tags`."""
    with _direct.open(url + "/api/tags", timeout=5) as response:
        return [model["name"] for model in json.load(response)["models"]]


def full_url(named: str) -> str:
    """A full URL for the forms `host`, `host:port` and `http://host:port`; the daemon's own port where none is given."""
    if not named:
        return ""
    parts = urlsplit(named if "://" in named else "http://" + named)
    port = parts.port or (443 if parts.scheme == "https" else 11434)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}:{port}"
