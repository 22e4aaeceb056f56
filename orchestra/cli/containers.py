"""What `serve --for-docker` adds: an address that containers reach, and the line that starts Open WebUI there.

The line is the one that everybody knows, with the settings that a plain one gets wrong; docker-compose.yml has the same.
"""

from __future__ import annotations

import shlex
import socket
import struct
import sys
from contextlib import suppress
from dataclasses import replace

from orchestra.cli.greeting import Door
from orchestra.cli.words import say
from orchestra.errors import UsageError
from orchestra.settings import Settings

INSIDE = "host.docker.internal"  # what this machine is called in a container
BRIDGE = "docker0"
IMAGE = "ghcr.io/open-webui/open-webui:v0.12.4"
HEADERS = (
    '{"0":{"enable":true,"connection_type":"local","headers":{"X-Orchestra-Chat":"{{CHAT_ID}}",'
    '"X-Orchestra-Message":"{{MESSAGE_ID}}","X-Orchestra-Task":"{{TASK}}"}}}'
)
SET = {
    "ENABLE_PERSISTENT_CONFIG": "false",
    "OPENAI_API_CONFIGS": HEADERS,
    "DEFAULT_MODEL_METADATA": '{"capabilities":{"builtin_tools":false,"usage":true}}',
    "BYPASS_MODEL_ACCESS_CONTROL": "true",
    "AIOHTTP_CLIENT_TIMEOUT": "3600",
    "AIOHTTP_CLIENT_STREAM_IDLE_TIMEOUT": "180",
    "ENABLE_TAGS_GENERATION": "false",
    "ENABLE_FOLLOW_UP_GENERATION": "false",
    "CORS_ALLOW_ORIGIN": "http://localhost:3000;http://127.0.0.1:3000",
}
_SIOCGIFADDR = 0x8915  # netdevice(7): the address of an interface


def bridge(interface: str = BRIDGE) -> str:
    """The address at which containers reach this machine; empty where Docker has no interface here, as Docker Desktop."""
    if sys.platform != "linux":
        return ""
    import fcntl

    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        asked = struct.pack("256s", interface.encode()[:15])
        return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, asked)[20:24])
    return ""


def reachable(settings: Settings) -> Settings:
    """The settings of a gateway that containers ask. Raises `UsageError` where there is no token."""
    from orchestra.gateway.serving import MAKE_TOKEN

    if not settings.token:
        raise UsageError(
            detail="with --for-docker every container reaches this service, and there is no token",
            detail_zh="使用 --for-docker 时所有容器都能访问本服务，但没有设置令牌",
            fix=f"make one: {MAKE_TOKEN}", fix_zh=f"生成令牌：{MAKE_TOKEN}",
        )  # fmt: skip
    return replace(settings, allowed_hosts=f"{settings.allowed_hosts} {INSIDE}".strip())


def started(door: Door, settings: Settings, beside: str) -> list[str]:
    """How Open WebUI is started in a container, for a shell that knows the same ORCHESTRA_TOKEN."""
    port = door.url.rpartition(":")[2]
    said = []
    if beside:
        said.append(say(f"containers reach it at http://{beside}:{port}", f"容器的访问地址：http://{beside}:{port}"))
    elif sys.platform == "linux":
        said.append(say(
            f"there is no {BRIDGE} here: only containers of Docker Desktop reach it (else start Docker first, then this)",
            f"未找到 {BRIDGE}：只有 Docker Desktop 的容器能访问（否则请先启动 Docker，再运行本命令）",
        ))  # fmt: skip
    given = {"OPENAI_API_BASE_URL": f"http://{INSIDE}:{port}/v1", "ENABLE_OLLAMA_API": "false", "DEFAULT_MODELS": door.model, **SET}
    lines = [
        "docker run -d -p 127.0.0.1:3000:8080 --add-host=host.docker.internal:host-gateway",
        "-v open-webui:/app/backend/data --name open-webui --restart always",
        '-e OPENAI_API_KEY="$ORCHESTRA_TOKEN"',
    ]
    if settings.jwt_secret:
        lines.append('-e ENABLE_FORWARD_USER_INFO_HEADERS=true -e FORWARD_USER_INFO_HEADER_JWT_SECRET="$ORCHESTRA_JWT_SECRET"')
    lines += [f"-e {shlex.quote(f'{name}={value}')}" for name, value in given.items()]
    said.append(say("Open WebUI, where ORCHESTRA_TOKEN is set as here:", "启动 Open WebUI（终端中的 ORCHESTRA_TOKEN 须与此处相同）："))
    return [*said, *(f"  {line} \\" for line in lines), f"  {IMAGE}"]
