"""What this machine has: memory, graphics memory, and where we are (a container, WSL).

Every system says it in another way, so looking and reading are apart: `look` runs the few commands and reads the
few files of a system, all else is pure functions over what they said. What is not said is 0 or empty, never a guess.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

PATIENCE = 1.5  # seconds for all commands together
GRACE = 0.1  # and for one that has ended while another hung
NVIDIA = "nvidia-smi --query-gpu=name,memory.total,memory.free --format=csv,noheader,nounits"
ROCM = "rocm-smi --showmeminfo vram --json"
COMMANDS = {
    "linux": (NVIDIA, ROCM),
    "win32": (NVIDIA,),
    "darwin": ("sysctl hw.memsize hw.optional.arm64", "vm_stat", "system_profiler SPDisplaysDataType -json", "mount"),
}
MEMINFO, KERNEL, MOUNTS, FIRST = "/proc/meminfo", "/proc/sys/kernel/osrelease", "/proc/self/mounts", "/proc/1/cgroup"
DOCKER, PODMAN = "/.dockerenv", "/run/.containerenv"
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
USED = ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
FILES = (MEMINFO, KERNEL, MOUNTS, FIRST, DOCKER, PODMAN, *LIMITS, *USED)
# A graphics card of a laptop under WSL has its tool here, where the PATH often does not reach.
ELSEWHERE = os.pathsep + "/usr/lib/wsl/lib"
REMOTE = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afpfs", "webdav", "davfs", "9p", "drvfs", "fuse.sshfs", "ceph", "glusterfs", "vboxsf"}
# What cgroup v1 says where there is no limit: the largest number of pages.
UNLIMITED = 2**62


class Gpu(NamedTuple):
    """A graphics card; bytes, `free` 0 where it is not said."""

    name: str
    total: int
    free: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Memory in bytes, 0 = not known. `unified`: the graphics card works in main memory, as Apple's does."""

    total: int = 0
    available: int = 0
    limited: bool = False
    gpus: tuple[Gpu, ...] = ()
    unified: bool = False
    container: str = ""
    wsl: str = ""
    mounts: str = ""

    @property
    def vram(self) -> int:
        """The memory in which a model runs at full speed on the graphics card.

        On Apple's chips that is the part of main memory which the system lets it have: 2/3, of more than 36 GiB 3/4.
        """
        if self.unified:
            return self.total * 3 // 4 if self.total > 36 * 2**30 else self.total * 2 // 3
        return sum(gpu.total for gpu in self.gpus)


def look() -> Machine:
    """This machine, now. Takes below two seconds, whatever is installed."""
    files = {path: text for path in FILES if (text := _content(path)) is not None}
    return described(sys.platform, files, _outputs(COMMANDS.get(sys.platform, ())), os.environ)


def described(system: str, files: Mapping[str, str], outputs: Mapping[str, str], environment: Mapping[str, str]) -> Machine:
    """The machine that these files and outputs of commands tell of; `system` as `sys.platform` has it."""
    if system == "darwin":
        said = outputs.get("sysctl hw.memsize hw.optional.arm64", "")
        cards = displays(outputs.get("system_profiler SPDisplaysDataType -json", ""))
        free = vm_stat(outputs.get("vm_stat", ""))
        unified = "hw.optional.arm64: 1" in said
        return Machine(total=sysctl(said), available=free, gpus=cards, unified=unified, mounts=mac_mounts(outputs.get("mount", "")))
    total, available = meminfo(files.get(MEMINFO, ""))
    limit = next((each for path in LIMITS if (each := cgroup_limit(files.get(path, "")))), 0)
    limited = 0 < limit < total
    if limited:
        used = next((int(text) for path in USED if (text := files.get(path, "").strip()).isdigit()), 0)
        total, available = limit, min(available, max(0, limit - used))
    return Machine(
        total=total,
        available=available,
        limited=limited,
        gpus=(*nvidia_smi(outputs.get(NVIDIA, "")), *rocm_smi(outputs.get(ROCM, ""))),
        container=container(files, environment),
        wsl=wsl(files.get(KERNEL, "")),
        mounts=files.get(MOUNTS, ""),
    )


# --- what the systems say, read


def meminfo(text: str) -> tuple[int, int]:
    """Total and available bytes from Linux' /proc/meminfo, also that of WSL2."""
    found = dict(re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE))
    free = found.get("MemAvailable") or found.get("MemFree") or 0  # WSL1 and kernels before 3.14 do not have the first
    return int(found.get("MemTotal", 0)) * 1024, int(free) * 1024


def cgroup_limit(text: str) -> int:
    """The limit in bytes that a container has, from cgroup v2 (`memory.max`) or v1 (`memory.limit_in_bytes`); 0 = none."""
    number = text.strip()
    return int(number) if number.isdigit() and int(number) < UNLIMITED else 0


def sysctl(text: str) -> int:
    """Bytes of memory from macOS' `sysctl hw.memsize`."""
    found = re.search(r"hw\.memsize: (\d+)", text)
    return int(found[1]) if found else 0


def vm_stat(text: str) -> int:
    """Bytes that could be had, from macOS' `vm_stat`: pages that are free, speculative or inactive."""
    size = re.search(r"page size of (\d+) bytes", text)
    pages = [int(count) for count in re.findall(r"^Pages (?:free|speculative|inactive):\s+(\d+)\.", text, re.MULTILINE)]
    return sum(pages) * int(size[1]) if size else 0


def nvidia_smi(text: str) -> tuple[Gpu, ...]:
    """The cards of `nvidia-smi --query-gpu=name,memory.total,memory.free` (CSV, MiB)."""
    rows = [[cell.strip() for cell in line.rsplit(",", 2)] for line in text.splitlines()]
    return tuple(Gpu(row[0], int(row[1]) * 2**20, _mebibytes(row[2])) for row in rows if len(row) == 3 and row[1].isdigit())


def _mebibytes(text: str) -> int:
    return int(text) * 2**20 if text.isdigit() else 0


def rocm_smi(text: str) -> tuple[Gpu, ...]:
    """The cards of `rocm-smi --showmeminfo vram --json` (bytes, as texts)."""
    cards = []
    for name, facts in _object(text).items():
        total = str(facts.get("VRAM Total Memory (B)", "")) if isinstance(facts, dict) else ""
        if total.isdigit():
            used = str(facts.get("VRAM Total Used Memory (B)", ""))
            cards.append(Gpu(f"AMD {name}", int(total), int(total) - int(used) if used.isdigit() else 0))
    return tuple(cards)


def displays(text: str) -> tuple[Gpu, ...]:
    """The cards of macOS' `system_profiler SPDisplaysDataType -json`; Apple's own have no memory to themselves."""
    cards = []
    rows = _object(text).get("SPDisplaysDataType")
    for row in rows if isinstance(rows, list) else ():
        found = re.match(r"(\d+) ?(GB|MB)", str(row.get("spdisplays_vram", "")))
        total = int(found[1]) * (2**30 if found[2] == "GB" else 2**20) if found else 0
        cards.append(Gpu(str(row.get("sppci_model", "?")), total))
    return tuple(cards)


def _object(text: str) -> dict[str, Any]:
    start = text.find("{")  # a tool may print a warning first
    try:
        value = json.loads(text[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def container(files: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Which kind of container we are in: "Docker", "Podman", "Kubernetes", "LXC"; empty outside."""
    first = files.get(FIRST, "")
    if environment.get("KUBERNETES_SERVICE_HOST") or "kubepods" in first:
        return "Kubernetes"
    if PODMAN in files or "libpod" in first:
        return "Podman"
    if DOCKER in files or "docker" in first:
        return "Docker"
    return "LXC" if "/lxc/" in first else ""


def wsl(kernel: str) -> str:
    """Which Windows Subsystem for Linux this is, from the kernel's release: "WSL2", "WSL1", or empty."""
    if "microsoft" not in kernel.lower():
        return ""
    return "WSL2" if "WSL2" in kernel or "microsoft-standard" in kernel else "WSL1"


def mac_mounts(text: str) -> str:
    """What macOS' `mount` says, in the columns of Linux' /proc/mounts."""
    rows = re.findall(r"^(.+) on (/.*?) \((\w+)", text, re.MULTILINE)
    return "\n".join(f"{source.replace(' ', '_')} {place.replace(' ', chr(92) + '040')} {kind}" for source, place, kind in rows)


def remote_kind(folder: str, mounts: str) -> str:
    """The file system's name where `folder` lies on a share or on Windows' side ("nfs4", "9p", ...); else empty."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        source, place, each = [*line.split()[:3], "", "", ""][:3]
        path = place.encode().decode("unicode_escape", "replace") if "\\0" in place else place
        inside = path and PurePosixPath(folder).is_relative_to(path)
        if inside and len(path) >= best:  # a later mount hides an earlier one
            best, kind = len(path), each if each in REMOTE or source.startswith("//") else ""
    if not kind and re.match(r"/mnt/[a-z](/|$)", folder) and "microsoft" in mounts.lower():
        return "drvfs"
    return kind


# --- looking


def _content(path: str) -> str | None:
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return None


def _outputs(commands: tuple[str, ...]) -> dict[str, str]:
    """What the commands print, all run at once; one that is missing, fails or hangs says nothing."""
    search = os.environ.get("PATH", "") + ELSEWHERE
    running: dict[str, subprocess.Popen[str]] = {}
    for command in commands:
        name, *arguments = command.split()
        if tool := shutil.which(name, path=search):
            running[command] = subprocess.Popen(
                [tool, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, errors="replace",
            )  # fmt: skip
    until = time.monotonic() + PATIENCE
    return {command: _said(process, until) for command, process in running.items()}


def _said(process: subprocess.Popen[str], until: float) -> str:
    try:
        return process.communicate(timeout=max(GRACE, until - time.monotonic()))[0]
    except subprocess.TimeoutExpired:
        process.kill()
        with suppress(subprocess.TimeoutExpired):  # a driver that hangs cannot be killed: it is not waited for
            process.wait(GRACE)
        if process.stdout:
            process.stdout.close()
        return ""
