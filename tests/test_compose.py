"""The containers, without containers: their commands, environments and health checks as the compose files have them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from composed import BASE, GPU, HOST, KEYS, ROOT, services
from services import Told, serving
from test_gateway_identity import SIGNED, token

from orchestra.gateway.tasks import HEADER
from orchestra.settings import table
from orchestra.standin import StandIn

CHECK = (sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec")


@pytest.fixture(scope="module")
def image() -> dict[str, list[str]]:
    """What the Dockerfile says last of each kind."""
    text = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", "")
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        kind, _, rest = line.partition(" ")
        found.setdefault(kind, []).append(rest)
    return found


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as held:
        return str(held.getsockname()[1])


def here(command: list[str], ports: Mapping[str, str]) -> list[str]:
    """A command of a container with this machine's ports and its interpreter."""
    for inside, outside in ports.items():
        command = [re.sub(rf"\b{inside}\b", outside, word) for word in command]
    return [sys.executable if word in ("python", "python3") else word for word in command]


def health(service: Mapping[str, Any], ports: Mapping[str, str], **environment: str) -> int:
    """How a service's health check ends; the proxy leads nowhere, as one that is not asked."""
    kind, *command = service["healthcheck"]["test"]
    assert kind == "CMD"
    outside = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", **environment}
    done = subprocess.run(here(command, ports), env=os.environ | outside, capture_output=True, timeout=20, check=False)
    return done.returncode


# --- the files


def test_a_maintained_checker_takes_the_files() -> None:
    done = subprocess.run([*CHECK, BASE, GPU, HOST], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout


def test_the_checker_refuses_a_setting_that_there_is_not(tmp_path: Path) -> None:
    (tmp_path / BASE).write_text((ROOT / BASE).read_text("utf-8").replace("read_only: true", "readonly: true"))
    done = subprocess.run([*CHECK, BASE], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, done.stdout
    assert "readonly" in done.stdout


@pytest.mark.parametrize("missing", KEYS)
def test_a_missing_key_is_named(missing: str) -> None:
    with pytest.raises(LookupError, match=rf"{missing} is missing in \.env"):
        services(**{missing: ""})


def test_only_this_machine_reaches_what_is_published() -> None:
    all_of_it = services(COMPOSE_PROFILES="search")
    published = {name: each["ports"] for name, each in all_of_it.items() if "ports" in each}
    assert published == {"open-webui": ["127.0.0.1:3000:8080"], "searxng": ["127.0.0.1:8080:8080"]}


def test_every_image_is_pinned_and_stands_behind_a_variable() -> None:
    written = yaml.safe_load((ROOT / BASE).read_text("utf-8"))["services"]
    for name, each in services(COMPOSE_PROFILES="search").items():
        assert re.fullmatch(r"\$\{\w+_IMAGE:-[^}]+\}", written[name]["image"]), name
        tag = each["image"].rpartition(":")[2]
        assert tag == "local" or re.search(r"\d+\.\d+\.\d+", tag), each["image"]


def test_every_setting_of_orchestra_is_one() -> None:
    known = {row.variable for row in table()}
    for overlay in ([], [GPU], [HOST]):
        for name in ("orchestra", "models"):
            set_here = services(*overlay).get(name, {"environment": {}})["environment"]
            assert {each for each in set_here if each.startswith("ORCHESTRA_")} <= known


def test_no_list_of_hosts_without_a_proxy_has_an_empty_name() -> None:
    assert not services()["orchestra"]["environment"]["NO_PROXY"].endswith(",")  # an empty name stands for every host
    assert services(NO_PROXY="a,b")["orchestra"]["environment"]["NO_PROXY"].endswith(",a,b")


def test_a_search_service_is_asked_where_it_is_started() -> None:
    assert services()["orchestra"]["environment"]["ORCHESTRA_SEARXNG"] == ""
    started = services(COMPOSE_PROFILES="search")
    assert started["orchestra"]["environment"]["ORCHESTRA_SEARXNG"] == "http://searxng:8080"
    assert "searxng" in started


def test_as_many_at_once_as_there_are_slots() -> None:
    for overlay, given in [([], {}), ([GPU], {}), ([], {"OLLAMA_NUM_PARALLEL": "3"}), ([GPU], {"OLLAMA_NUM_PARALLEL": "8"})]:
        made = services(*overlay, **given)
        assert made["orchestra"]["environment"]["ORCHESTRA_PARALLEL"] == made["ollama"]["environment"]["OLLAMA_NUM_PARALLEL"]


def test_an_ollama_on_the_host_is_the_only_one() -> None:
    made = services(HOST)
    assert set(made) == {"orchestra", "open-webui"}
    assert "//ollama:" not in json.dumps(made)
    for each in made.values():
        assert each["extra_hosts"] == ["host.docker.internal:host-gateway"]
        assert each["depends_on"]["ollama"]["required"] is False


def test_open_webui_is_told_in_json_what_holds() -> None:
    told = services()["open-webui"]["environment"]
    assert json.loads(told["DEFAULT_MODEL_METADATA"])["capabilities"]["builtin_tools"] is False
    assert told["OLLAMA_BASE_URL"] == told["RAG_OLLAMA_BASE_URL"] == services()["orchestra"]["environment"]["OLLAMA_HOST"]
    connection = json.loads(told["OPENAI_API_CONFIGS"])["0"]
    assert connection["enable"] is True
    assert told["OPENAI_API_KEY"] == KEYS["ORCHESTRA_TOKEN"]
    assert {"{{CHAT_ID}}", "{{MESSAGE_ID}}", "{{TASK}}"} <= set(connection["headers"].values())
    assert {"x-orchestra-chat", HEADER} <= {name.lower() for name in connection["headers"]}
    assert not [name for name, value in told.items() if not isinstance(value, str)]  # true and 5 would not reach a process as such


# --- what runs in them


@contextmanager
def running(image: Mapping[str, list[str]], daemon: str, home: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """The service `orchestra`, from its very command, and the port on which it is."""
    service, port = services()["orchestra"], free_port()
    command = here([*json.loads(image["ENTRYPOINT"][-1])[1:], *service["command"]], {"5002": port})
    told = {**service["environment"], "OLLAMA_HOST": daemon, "ORCHESTRA_HOME": str(home), "PATH": os.environ["PATH"]}
    process = subprocess.Popen([sys.executable, "-m", "orchestra", *command], env=told, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        assert f"http://0.0.0.0:{port}" in (said := process.stderr.readline()), said + process.stderr.readline()
        yield service, port
        process.send_signal(signal.SIGTERM)  # as docker stop does
        process.communicate(timeout=20)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_orchestra_comes_up_as_a_container_has_it(image: dict[str, list[str]], tmp_path: Path) -> None:
    with StandIn() as daemon, running(image, daemon.url, tmp_path) as (service, port):
        by_the_file = {"5002": port}
        assert health(service, {"5002": free_port()}) != 0  # nobody there
        assert health(service, by_the_file) == 0
        own = json.loads(image["HEALTHCHECK"][0].partition("CMD ")[2])
        assert subprocess.run(here(own, by_the_file), check=False, timeout=20).returncode == 0
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client:
            called = {"Host": "orchestra:5002"}  # by its name, as Open WebUI does
            assert client.get("/readyz", headers=called).status_code == 401
            key = {"Authorization": f"Bearer {KEYS['ORCHESTRA_TOKEN']}"}
            signed = token(services()["open-webui"]["environment"]["FORWARD_USER_INFO_HEADER_JWT_SECRET"])
            assert client.get("/persona", headers=key | {SIGNED: signed}).status_code == 200
            assert client.get("/persona", headers=key | {SIGNED: token()}).status_code == 401
            assert client.get("/readyz", headers=called | key).json()["status"] == "ready"
            assert client.get("/readyz", headers={"Host": "elsewhere:5002"} | key).status_code == 421
            said = client.post("/chat", headers=called | key, json={"intent": "hello"})
            assert said.status_code == 200, said.text
            listed = [each["id"] for each in client.get("/v1/models", headers=called | key).json()["data"]]
            assert services()["open-webui"]["environment"]["DEFAULT_MODELS"] in listed


def test_the_models_are_fetched_and_a_failure_is_one(tmp_path: Path) -> None:
    shown = services()["models"]
    command, told = [*shown["entrypoint"], *shown["command"]], shown["environment"] | {"ORCHESTRA_HOME": str(tmp_path)}

    def fetched(**environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=told | environment, capture_output=True, text=True, timeout=40, check=False)

    with StandIn() as daemon:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = fetched(PATH=path, OLLAMA_HOST=daemon.url, MODELS="llama3")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "== llama3")
    assert "pulling" in done.stderr  # how far it is stands in the log
    program = tmp_path / "orchestra"
    program.write_text('#!/bin/sh\necho "$*"\n')
    program.chmod(0o755)
    every = [line for line in fetched(PATH=str(tmp_path)).stdout.splitlines() if not line.startswith("==")]
    assert every == ["pull llama3", "pull llama3:text", "pull qwen3-embedding:0.6b"]
    program.write_text("#!/bin/sh\nexit 24\n")
    assert fetched(PATH=str(tmp_path)).returncode == 24  # and compose starts it again


def test_open_webui_is_well_once_it_says_so() -> None:
    with serving() as page:
        ports = {"8080": str(page.server_port)}
        page.told = lambda seen: Told(200 if seen.path == "/ready" else 404)
        assert health(services()["open-webui"], ports) == 0
        page.told = Told(503)
        assert health(services()["open-webui"], ports) != 0


@pytest.mark.skipif(not shutil.which("ollama") or sys.platform == "darwin", reason="no `ollama` on the PATH; on macOS it starts one")
def test_ollama_is_well_while_it_answers() -> None:
    with StandIn() as daemon:
        there = daemon.url
        assert health(services()["ollama"], {}, OLLAMA_HOST=there) == 0
    assert health(services()["ollama"], {}, OLLAMA_HOST=there) != 0


# --- the image


def test_the_image_is_given_what_the_wheel_is_made_of_and_no_key(image: dict[str, list[str]]) -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").split()
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*"
    assert not [name for name in (".env", ".git", ".venv", "tests") if any(fnmatch(name, each) for each in allowed)]
    wheel = {"pyproject.toml", "README.md", "LICENSE", "orchestra", "personas"}
    assert allowed == wheel | {"constraints.txt"}
    assert all((ROOT / name).exists() for name in allowed)
    assert image["COPY"] == [". /source", "--from=made /opt/orchestra /opt/orchestra"]


def test_the_image_runs_as_nobody_special_and_as_the_compose_file_has_it(image: dict[str, list[str]]) -> None:
    service = services()["orchestra"]
    assert image["USER"] == ["10001"]
    assert json.loads(image["CMD"][-1]) == service["command"]
    assert image["ARG"][-1] == "PIP_INDEX_URL="
    assert service["build"]["args"]["PYTHON_IMAGE"] == image["ARG"][0].partition("=")[2]
    assert service["read_only"] is True
    assert service["volumes"] == ["orchestra:/data"]
    assert "ORCHESTRA_HOME=/data" in image["ENV"][-1].split()


# --- make up


class Up:
    """`make up` in a folder of its own, with a docker that notes what it is told."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder, self.tools = folder, folder / "bin"
        (folder / "tools").mkdir()
        shutil.copy(ROOT / "tools/up.sh", folder / "tools/up.sh")
        self.tools.mkdir()
        self.script("docker", 'echo "$COMPOSE_FILE| $*" >>"$NOTED"\ncase $* in\n'
                    '"info --format {{.OperatingSystem}}") echo "$SYSTEM" ;;\n'
                    '"info --format {{json .Runtimes}}") echo "$RUNTIMES" ;;\n'
                    '"network inspect"*) echo 172.17.0.1 ;;\n'
                    '"compose version") [ -z "$NO_COMPOSE" ] ;;\n'
                    '"info") [ -z "$NO_DAEMON" ] ;;\n'
                    '"compose port"*) echo 127.0.0.1:3000 ;;\nesac')  # fmt: skip
        self.script("curl", 'case $* in *"//$REACHED:"*) ;; *) exit 7 ;; esac')

    def script(self, name: str, text: str) -> None:
        (self.tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (self.tools / name).chmod(0o755)

    def __call__(self, **environment: str) -> subprocess.CompletedProcess[str]:
        told = {"PATH": f"{self.tools}{os.pathsep}{os.environ['PATH']}", "NOTED": str(self.folder / "noted"), "REACHED": "nowhere"}
        return subprocess.run(
            ["sh", "tools/up.sh"], cwd=self.folder, env=told | environment, capture_output=True, text=True, timeout=20, check=False
        )

    @property
    def env(self) -> dict[str, str]:
        lines = (self.folder / ".env").read_text("utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines if not line.startswith("#"))

    @property
    def started(self) -> list[str]:
        return [line for line in (self.folder / "noted").read_text().splitlines() if "compose up" in line]


@pytest.fixture
def up(tmp_path: Path) -> Up:
    return Up(tmp_path)


def test_up_makes_keys_once_and_starts(up: Up) -> None:
    done = up()
    assert done.returncode == 0, done.stderr
    assert "http://127.0.0.1:3000" in done.stderr
    assert up.started == ["| compose up --detach --build"]
    made = up.env
    assert (up.folder / ".env").stat().st_mode & 0o077 == 0
    keys = [made[name] for name in ("ORCHESTRA_TOKEN", "ORCHESTRA_JWT_SECRET", "WEBUI_SECRET_KEY", "SEARXNG_SECRET")]
    assert len({key for key in keys if re.fullmatch(r"[0-9a-f]{64}", key)}) == 4
    assert not [key for key in keys if key in done.stdout + done.stderr]
    assert services(**made)["open-webui"]["environment"]["WEBUI_SECRET_KEY"] == made["WEBUI_SECRET_KEY"]
    assert up().returncode == 0
    assert up.env == made
    assert sorted(each.name for each in up.folder.iterdir() if each.name.startswith(".")) == [".env"]


@pytest.mark.parametrize(
    ("machine", "files"),
    [
        ({}, [BASE]),
        ({"RUNTIMES": '{"nvidia":{}}'}, [BASE, GPU]),
        ({"REACHED": "172.17.0.1", "RUNTIMES": '{"nvidia":{}}'}, [BASE, HOST]),
        ({"REACHED": "127.0.0.1"}, [BASE]),  # containers do not reach it
        ({"REACHED": "127.0.0.1", "SYSTEM": "Docker Desktop"}, [BASE, HOST]),
        ({"SYSTEM": "Docker Desktop"}, [BASE]),
        ({"MODE": "host"}, [BASE, HOST]),
        ({"MODE": "container", "REACHED": "172.17.0.1"}, [BASE]),
    ],
)
def test_up_finds_where_the_models_run(up: Up, machine: dict[str, str], files: list[str]) -> None:
    done = up(**machine)
    assert done.returncode == 0, done.stderr
    assert up.env["COMPOSE_FILE"].split(":") == files
    assert all((ROOT / name).exists() for name in files)
    assert ("127.0.0.1 alone" in done.stderr) is (machine == {"REACHED": "127.0.0.1"})


def test_up_leaves_an_env_as_it_is_and_a_mode_wins_over_it(up: Up) -> None:
    (up.folder / ".env").write_text("COMPOSE_FILE=docker-compose.yml\n")
    assert up(MODE="gpu").returncode == 0
    assert up.env == {"COMPOSE_FILE": "docker-compose.yml"}
    assert up.started == ["docker-compose.yml:compose.gpu.yml| compose up --detach --build"]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"NO_COMPOSE": "1"}, "docker compose is needed"),
        ({"NO_DAEMON": "1"}, "Docker does not run"),
        ({"MODE": "cloud"}, "MODE=cloud is none of"),
    ],
)
def test_up_says_what_is_wrong_before_anything_is_written(up: Up, told: dict[str, str], said: str) -> None:
    done = up(**told)
    assert done.returncode == 1
    assert said in done.stderr.splitlines()[0]
    assert not (up.folder / ".env").exists()


def test_up_speaks_chinese(up: Up) -> None:
    assert "已生成 .env" in up(LANG="zh_CN.UTF-8").stderr
