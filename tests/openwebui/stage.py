"""A stand-in daemon, `orchestra serve` and a real Open WebUI, each with the environment that docker-compose.yml gives it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from composed import KEYS, services
from services import Seen, Told, serving

from orchestra.standin import StandIn

ADMIN, USER = ("admin@example.org", "admins-password-1"), ("xiaoming@example.org", "users-password-1")
START = 300.0  # seconds: two minutes on two idle cores
PACE = 0.03  # seconds between two pieces of the stand-in: about as fast as llama3 on a small GPU
# what a SearXNG finds: pages of hosts that there are not, which no browser may ask either
FOUND = {
    "en": (
        ("encyclopedia", "France - Encyclopedia", "The capital of France is Paris, which lies on the river Seine."),
        ("atlas", "Paris - Atlas", "Paris is the largest city of France, with two million inhabitants."),
        ("travel", "Travel in France", "From Paris, the capital of France, trains reach every large city."),
    ),
    "zh": (
        ("encyclopedia", "法国 - 百科", "法国的首都是巴黎，位于塞纳河畔。"),
        ("atlas", "巴黎 - 地图", "巴黎是法国最大的城市，有两百万居民。"),
        ("travel", "法国旅行", "从首都巴黎出发，火车可达法国各大城市。"),
    ),
}


@dataclass(slots=True)
class Stage:
    """What is up, and where."""

    daemon: StandIn
    search: str
    gateway: str
    folder: Path
    serving: ExitStack
    page: str = ""
    took: float = 0.0  # seconds until Open WebUI was ready

    @property
    def version(self) -> str:
        """Which Open WebUI it is."""
        return str(httpx.get(f"{self.page}/api/version", timeout=30, trust_env=False).json()["version"])

    @property
    def key(self) -> dict[str, str]:
        """The header that the gateway asks for."""
        return {"Authorization": f"Bearer {KEYS['ORCHESTRA_TOKEN']}"}

    def token(self, account: tuple[str, str]) -> str:
        """Signs an account in."""
        return str(self._signed_in(account)["token"])

    def user(self, account: tuple[str, str]) -> str:
        """The id of an account, as Open WebUI tells it to others."""
        return str(self._signed_in(account)["id"])

    def _signed_in(self, account: tuple[str, str]) -> dict[str, str]:
        body = {"email": account[0], "password": account[1]}
        told = httpx.post(f"{self.page}/api/v1/auths/signin", json=body, timeout=30, trust_env=False)
        return dict(told.raise_for_status().json())


    def serve(self, language: str) -> None:
        """Starts the gateway, again where it runs: what it calls its models is in its own language."""
        self.serving.close()
        own = {
            "ORCHESTRA_HOME": str(self.folder / "orchestra"), "OLLAMA_HOST": self.daemon.url, "ORCHESTRA_LANG": language,
            "ORCHESTRA_SEARCH": "searxng", "ORCHESTRA_SEARXNG": self.search, "ORCHESTRA_PAGE_TIMEOUT": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "orchestra", "serve", "--port", self.gateway.rpartition(":")[2]]
        self.serving.enter_context(_process(command, _environment("orchestra") | own, self.folder, "orchestra.log"))
        _until(f"{self.gateway}/healthz", 30)


@contextmanager
def set_up(open_webui: str, folder: Path) -> Iterator[Stage]:
    """The three, started in order and ended in the other one; what they say is written to files in `folder`."""
    with ExitStack() as ends:
        daemon = StandIn(pace=PACE, models=["llama3", "llama3:text"]).start()
        ends.callback(daemon.stop)
        search = ends.enter_context(serving())
        search.told = _found
        stage = Stage(daemon, search.url, f"http://127.0.0.1:{_free()}", folder, ends.enter_context(ExitStack()))
        stage.serve("en")
        stage.page, began = f"http://127.0.0.1:{(port := _free())}", time.monotonic()
        command = [open_webui, "serve", "--host", "127.0.0.1", "--port", str(port)]
        ends.enter_context(_process(command, _page(stage, port), folder, "open-webui.log"))
        _until(f"{stage.page}/ready", START)
        stage.took = round(time.monotonic() - began, 1)
        _accounts(stage)
        yield stage


def _found(asked: Seen) -> Told:
    rows = FOUND["zh" if "language=zh" in asked.path else "en"]
    results = [{"url": f"https://{host}.invalid/france", "title": title, "content": text} for host, title, text in rows]
    return Told(body=json.dumps({"results": results}).encode(), headers={"content-type": "application/json"})


def _environment(service: str, **variables: str) -> dict[str, str]:
    """What docker-compose.yml tells a service, and nothing of this process but the path."""
    told: Mapping[str, str] = services(**variables)[service]["environment"]
    return dict(told) | {"PATH": os.environ["PATH"]}


def _page(stage: Stage, port: int) -> dict[str, str]:
    told = {
        name: value.replace("http://ollama:11434", stage.daemon.url).replace("http://orchestra:5002", stage.gateway)
        for name, value in _environment("open-webui", OPEN_WEBUI_PORT=str(port)).items()
    }
    # the image has a folder for its data; nobody is at hand to sign up
    return told | {
        "DATA_DIR": str(stage.folder / "open-webui"), "HOME": str(stage.folder),
        "WEBUI_ADMIN_EMAIL": ADMIN[0], "WEBUI_ADMIN_PASSWORD": ADMIN[1], "WEBUI_ADMIN_NAME": "Admin",
    }  # fmt: skip


def _accounts(stage: Stage) -> None:
    """An account beside the administrator's: models that only the administrator sees are a common trouble."""
    account = {"name": "小明", "email": USER[0], "password": USER[1], "role": "user"}
    admin = {"Authorization": f"Bearer {stage.token(ADMIN)}"}
    httpx.post(f"{stage.page}/api/v1/auths/add", json=account, headers=admin, timeout=30, trust_env=False).raise_for_status()
    # the news of this version have been read
    read = {"ui": {"version": stage.version}}
    httpx.post(f"{stage.page}/api/v1/users/user/settings/update", json=read, headers=admin, timeout=30, trust_env=False).raise_for_status()


@contextmanager
def _process(command: list[str], environment: Mapping[str, str], folder: Path, log: str) -> Iterator[None]:
    with (folder / log).open("ab") as said:
        process = subprocess.Popen(command, env=dict(environment), cwd=folder, stdout=said, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return int(held.getsockname()[1])


def _until(url: str, seconds: float) -> None:
    """Waits until an address answers with 200. Raises `TimeoutError`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(url, timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.5)
    raise TimeoutError(f"{url} does not answer; the logs are beside it")
