"""Where we are, and what stands between us and the daemon: containers, WSL, proxies, memory, slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from orchestra.instruments.check import NOTHING, Check, gigabytes
from orchestra.instruments.footprint import verdict
from orchestra.instruments.inventory import Sized, kind_of
from orchestra.instruments.machine import Machine
from orchestra.model.hosts import DEFAULT_PORT
from orchestra.settings import Settings
from orchestra.texts import Words

LOOPBACK = ("localhost", "127.", "::1", "[::1]")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
OUTSIDE = {"Podman": "host.containers.internal"}  # how the machine around a container is called inside; Docker's elsewhere
DOCKER_HOST = "host.docker.internal"


def is_here(url: str) -> bool:
    """Whether a daemon's address is this machine: only then is its memory the daemon's."""
    return (urlsplit(url).hostname or "").startswith(LOOPBACK)


def way_out(machine: Machine) -> Words:
    """Where the daemon would be that cannot be reached on loopback from here; empty on a plain machine."""
    if machine.container:
        host = OUTSIDE.get(machine.container, DOCKER_HOST)
        docker, podman = f"docker run --add-host={DOCKER_HOST}:host-gateway", f"podman run -e OLLAMA_HOST=http://{host}:{DEFAULT_PORT}"
        extra = docker if host == DOCKER_HOST else podman
        return Words(
            f"here is a container, 127.0.0.1 is the container itself: export OLLAMA_HOST=http://{host}:{DEFAULT_PORT} "
            f"(on Linux: {extra}), and let the daemon listen there: OLLAMA_HOST=0.0.0.0 ollama serve",
            f"当前在容器内，127.0.0.1 是容器自身：export OLLAMA_HOST=http://{host}:{DEFAULT_PORT}（Linux：{extra}），"
            "并让 Ollama 在宿主机上监听：OLLAMA_HOST=0.0.0.0 ollama serve",
        )
    if machine.wsl == "WSL2":
        gateway = "$(ip route show default | awk '{print $3}')"
        return Words(
            "a daemon on the Windows side: set OLLAMA_HOST=0.0.0.0 in Windows, and here: "
            f"export OLLAMA_HOST=http://{gateway}:{DEFAULT_PORT} (or networkingMode=mirrored in .wslconfig)",
            f"如果 Ollama 运行在 Windows 一侧：在 Windows 中设置 OLLAMA_HOST=0.0.0.0，并在此处 export OLLAMA_HOST=http://{gateway}:{DEFAULT_PORT}"
            "（或在 .wslconfig 中设置 networkingMode=mirrored）",
        )
    return NOTHING


def place(machine: Machine) -> Check:
    """Whether this is a machine, a container or WSL."""
    if machine.container:
        limit = gigabytes(machine.total) if machine.limited else ""
        within, within_zh = (f", limited to {limit}", f"，内存上限 {limit}") if limit else ("", "")
        text = Words(f"a {machine.container} container{within}", f"{machine.container} 容器{within_zh}")
    elif machine.wsl:
        text = Words(f"{machine.wsl}: 127.0.0.1 is Linux' side", f"{machine.wsl}：127.0.0.1 指 Linux 一侧")
    else:
        text = Words("neither a container nor WSL", "不在容器或 WSL 中")
    return Check(name="place", ok=True, detail=text)


def proxies(environment: Mapping[str, str], url: str) -> Check:
    """Which proxies are set, and whether other clients of the daemon would go through them. Ours never does."""
    found = [name for each in PROXIES for name in (each, each.lower()) if environment.get(name)]
    if not found:
        return Check(name="proxies", ok=True, detail=Words("none is set", "未设置"))
    host = urlsplit(url).hostname or "127.0.0.1"
    excepted = (environment.get("NO_PROXY") or environment.get("no_proxy") or "").replace(" ", "").split(",")
    spared = "*" in excepted or any(host == each.lstrip(".") or host.endswith("." + each.lstrip(".")) for each in excepted if each)
    names = ", ".join(found)
    said = Words(f"{names}; not used for the daemon", f"{names}；访问 Ollama 时不使用")
    if spared:
        return Check(name="proxies", ok=True, detail=said)
    fix = f"export NO_PROXY={','.join([*filter(None, excepted), host])}"
    return Check(
        name="proxies",
        ok=False,
        detail=Words(f"{said.en}, but other clients would send prompts for {host} to it", f"{said.zh}，但其他客户端会把发往 {host} 的提示词交给代理"),
        fix=Words(fix, fix),
    )


def slots(settings: Settings, environment: Mapping[str, str]) -> Check:
    """How many requests go out at once. The daemon does not say how many it answers at once."""
    ours, theirs = max(1, settings.parallel), environment.get("OLLAMA_NUM_PARALLEL", "")
    if theirs.isdigit() and int(theirs) not in (0, ours):
        fix = f"export ORCHESTRA_PARALLEL={theirs}"
        detail = Words(
            f"ORCHESTRA_PARALLEL is {ours}, OLLAMA_NUM_PARALLEL {theirs}", f"ORCHESTRA_PARALLEL 为 {ours}，OLLAMA_NUM_PARALLEL 为 {theirs}"
        )
        return Check(name="slots", ok=False, detail=detail, fix=Words(fix, fix))
    told = Words("", "") if theirs else Words("; the daemon does not say how many it has", "；Ollama 不告知其并发数")
    said = Words(f"{ours} request(s) at once (ORCHESTRA_PARALLEL){told.en}", f"同时 {ours} 个请求（ORCHESTRA_PARALLEL）{told.zh}")
    return Check(name="slots", ok=True, detail=said)


def memory(models: Sequence[Sized], machine: Machine, url: str) -> Check:
    """Whether the models that are not loaded would fit into this machine, the largest first."""
    cards = "; ".join(f"{gpu.name} {gigabytes(gpu.total)}" if gpu.total else gpu.name for gpu in machine.gpus)
    beside = f"; {cards}" if cards else ""
    detail = Words(f"{gigabytes(machine.total)}, {gigabytes(machine.available)} free{beside}",
                   f"{gigabytes(machine.total)}，可用 {gigabytes(machine.available)}{beside}")  # fmt: skip
    if not is_here(url):
        return Check(name="memory", ok=True, detail=Words(f"{detail.en}; the daemon is on another machine", f"{detail.zh}；Ollama 在另一台机器上"))
    waiting = [each for each in models if not each.card.loaded and kind_of(each.card) != "embedding"]
    judged = [(each, verdict(each.footprint.needed, machine)) for each in sorted(waiting, key=lambda each: -each.footprint.needed)]
    bad = next((pair for pair in judged if pair[1] in ("too big", "tight")), None)
    if bad is None:
        return Check(name="memory", ok=True, detail=detail)
    each, how = bad
    needed = f"{gigabytes(each.footprint.needed)} at {each.footprint.context} tokens"
    needed_zh = f"{gigabytes(each.footprint.needed)}（{each.footprint.context} token）"
    close = Words("close other programs, or take", "请关闭其他程序，或换用")
    smaller = Words("take", "请换用")
    start = close if how == "tight" else smaller
    command = "orchestra models --recommend"
    return Check(
        name="memory",
        ok=False,
        detail=Words(f"{detail.en}; {each.card.name} needs {needed}: {how}",
                     f"{detail.zh}；{each.card.name} 需要 {needed_zh}：{'勉强' if how == 'tight' else '放不下'}"),
        fix=Words(f"{start.en} a smaller model: {command}", f"{start.zh}更小的模型：{command}"),
    )  # fmt: skip
