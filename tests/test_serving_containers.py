"""`orchestra serve --for-docker`: a second address, the name by which containers call, and the line that starts Open WebUI."""

from __future__ import annotations

import asyncio
import shlex
import socket
import sys
from urllib.parse import urlsplit

import httpx
import pytest
from command_line import Line, line  # noqa: F401 - a fixture
from composed import services
from served import running
from starlette.applications import Starlette

from orchestra.cli.containers import IMAGE, INSIDE, bridge, reachable, started
from orchestra.cli.greeting import Door
from orchestra.errors import PortTaken, UsageError
from orchestra.gateway import create_app
from orchestra.gateway.serving import MAKE_TOKEN, Service, serve
from orchestra.settings import Settings
from orchestra.standin import StandIn

TOKEN, SIGNING = "canary-of-a-token", "canary-of-a-secret-0123456789abcdef"
KEY = {"authorization": f"Bearer {TOKEN}"}
BESIDE = "127.0.0.2"  # as another interface of this machine
linux = pytest.mark.skipif(sys.platform != "linux", reason="127.0.0.2 and the interfaces are Linux's")


def told(jwt_secret: str = "") -> list[str]:
    settings = Settings(token=TOKEN, jwt_secret=jwt_secret)
    return started(Door.of(create_app(settings=settings).state.roster, "http://127.0.0.1:5002", settings), settings, "172.17.0.1")


def words(lines: list[str]) -> list[str]:
    """The command as a shell reads it."""
    command = "\n".join(lines[next(number for number, each in enumerate(lines) if "docker run" in each) :])
    return shlex.split(command.replace("\\\n", " "))


def test_the_line_is_the_known_one_with_the_settings_of_the_compose_file() -> None:
    command = words(told())
    known = f"docker run -d -p 127.0.0.1:3000:8080 --add-host={INSIDE}:host-gateway -v open-webui:/app/backend/data --name open-webui --restart always"
    assert command[: len(known.split())] == known.split()
    assert command[-1] == IMAGE == services()["open-webui"]["image"]
    given = dict(each.split("=", 1) for each, before in zip(command[1:], command, strict=False) if before == "-e")
    ours = {"OPENAI_API_BASE_URL": f"http://{INSIDE}:5002/v1", "OPENAI_API_KEY": "$ORCHESTRA_TOKEN"}
    composed = services()["open-webui"]["environment"]
    assert {name: given[name] for name in ours} == ours
    assert {name: value for name, value in given.items() if name not in ours and value != composed.get(name)} == {}
    assert {"ENABLE_OLLAMA_API", "OPENAI_API_CONFIGS", "DEFAULT_MODEL_METADATA", "BYPASS_MODEL_ACCESS_CONTROL", "AIOHTTP_CLIENT_TIMEOUT"} <= set(given)


def test_no_key_is_printed() -> None:
    said = "\n".join(told(jwt_secret=SIGNING))
    assert "canary" not in said
    assert 'FORWARD_USER_INFO_HEADER_JWT_SECRET="$ORCHESTRA_JWT_SECRET"' in said
    assert "JWT" not in "\n".join(told()), "nothing is signed with a secret that is not there"


def test_it_refuses_to_start_without_a_token(line: Line) -> None:  # noqa: F811 - the fixture
    done = line("serve", "--for-docker")
    assert done.code == UsageError.exit_code
    assert MAKE_TOKEN in done.err
    assert "--host does nothing beside --for-docker" in line("serve", "--for-docker", "--host", "0.0.0.0").err


@linux
def test_the_address_of_an_interface() -> None:
    assert bridge("lo") == "127.0.0.1"
    assert bridge("none0") == ""
    assert bridge("n" * 300) == ""


@linux
def test_both_addresses_answer_and_the_name_that_containers_use(standin: StandIn) -> None:
    plain = Settings.read(host=standin.url, token=TOKEN)
    for settings, status in ((reachable(plain), 200), (plain, 421)):
        with running(create_app(settings=settings), settings, BESIDE) as url:
            port = urlsplit(url).port
            for address in (url, f"http://{BESIDE}:{port}"):
                host = {"host": f"{INSIDE}:{port}"}
                assert httpx.get(f"{address}/persona", headers=KEY | host, trust_env=False).status_code == status
                assert httpx.get(f"{address}/persona", headers=KEY, trust_env=False).status_code == 200
                assert httpx.get(f"{address}/persona", trust_env=False).status_code == 401


def served(port: int, settings: Settings) -> None:
    asyncio.run(serve([Service(Starlette(), "127.0.0.1", port, BESIDE)], settings, print))


@linux
def test_where_the_second_address_is_taken_the_first_is_given_back() -> None:
    with socket.create_server((BESIDE, 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(PortTaken):
            served(port, Settings(token=TOKEN))
        socket.create_server(("127.0.0.1", port)).close()


def test_the_second_address_needs_a_token_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestra.gateway.serving.socket.getaddrinfo", lambda *_: [(0, 0, 0, "", ("192.0.2.7", 0))])
    with pytest.raises(UsageError, match=r"bridge\.test can be reached by others"):
        asyncio.run(serve([Service(Starlette(), "127.0.0.1", 0, "bridge.test")], Settings(), print))
