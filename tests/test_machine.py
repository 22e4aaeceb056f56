"""What a machine has, read from what its system says.

The texts under data/machines are written in the shapes that the systems document; they were not recorded here.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from orchestra.instruments import machine
from orchestra.instruments.machine import Gpu, Machine, described, look, remote_kind

MACHINES = Path(__file__).parent / "data" / "machines"
GIB = 2**30


def said(name: str) -> tuple[str, dict[str, str]]:
    """The system of a machine, and what its files and commands say."""
    head, *parts = (MACHINES / f"{name}.txt").read_text("utf-8").split("\n== ")
    sections = dict(part.partition("\n")[::2] for part in parts)
    return head.removeprefix("system: ").strip(), sections


def read(name: str, **environment: str) -> Machine:
    system, sections = said(name)
    return described(system, sections, sections, environment)


def test_every_machine_is_used_here() -> None:
    names = {path.stem for path in MACHINES.iterdir()}
    assert names == {
        "macos-apple", "macos-intel", "wsl2-nvidia", "wsl1", "docker-v2", "docker-v1", "podman", "linux-server", "linux-amd",
    }  # fmt: skip


def test_apple_shares_its_memory_with_its_graphics() -> None:
    found = read("macos-apple")
    assert (found.total, found.available, found.unified) == (16 * GIB, (65536 + 4096 + 196608) * 16384, True)
    assert found.gpus == (Gpu("Apple M2", 0),)
    assert found.vram == 16 * GIB * 2 // 3
    assert Machine(total=64 * GIB, unified=True).vram == 48 * GIB


def test_an_intel_mac_has_a_card_of_its_own() -> None:
    found = read("macos-intel")
    assert (found.total, found.available, found.unified) == (32 * GIB, (1000000 + 1500000 + 97152) * 4096, False)
    assert [gpu.total for gpu in found.gpus] == [0, 8 * GIB], "what is shared is counted once"
    assert found.vram == 8 * GIB


def test_wsl() -> None:
    found = read("wsl2-nvidia")
    assert (found.wsl, found.container, found.limited) == ("WSL2", "", False)
    assert (found.total, found.available) == (16316412 * 1024, 14680064 * 1024)
    assert found.gpus == (Gpu("NVIDIA GeForce RTX 3060 Laptop GPU", 6144 * 2**20, 5950 * 2**20),)
    first = read("wsl1")
    assert (first.wsl, first.available) == ("WSL1", 7654321 * 1024), "it does not say what is available, only what is free"
    assert read("linux-server").wsl == ""


def test_a_container_has_what_it_is_allowed() -> None:
    found = read("docker-v2")
    assert (found.container, found.limited, found.total, found.available) == ("Docker", True, 8 * GIB, 7 * GIB)
    older = read("docker-v1")
    assert (older.container, older.limited, older.total) == ("Docker", True, 4 * GIB)
    assert older.available == 4 * GIB - 500000000
    free = read("podman")
    assert (free.container, free.limited, free.total) == ("Podman", False, 32780000 * 1024)
    assert read("docker-v2", KUBERNETES_SERVICE_HOST="10.0.0.1").container == "Kubernetes"
    server = read("linux-server")
    assert (server.container, server.limited) == ("", False), "no limit is no limit, also in numbers"


def test_cards() -> None:
    found = read("linux-server").gpus
    assert [(gpu.name, gpu.total // 2**20, gpu.free // 2**20) for gpu in found] == [
        ("NVIDIA RTX A6000", 49140, 48000), ("NVIDIA RTX A6000", 49140, 12), ("NVIDIA Thing, with a comma", 24564, 0),
    ]  # fmt: skip
    assert read("linux-amd").gpus == (Gpu("AMD card0", 25753026560, 25753026560 - 1073741824),)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32", "plan9"])
@pytest.mark.parametrize("noise", ["", "{", "[1]", '{"SPDisplaysDataType": [{}], "card0": 1}', "No devices were found", "\x00é , ,", "hw.memsize: x"])
def test_noise_is_nothing(system: str, noise: str) -> None:
    everywhere = dict.fromkeys((*machine.FILES, *(command for commands in machine.COMMANDS.values() for command in commands)), noise)
    for path in (machine.DOCKER, machine.PODMAN):
        del everywhere[path]
    found = described(system, everywhere, everywhere, {})
    assert (found.total, found.available, found.vram, found.container, found.wsl) == (0, 0, 0, "", "")
    assert described(system, {}, {}, {}) == Machine()


@pytest.mark.parametrize(
    ("name", "folder", "kind"),
    [
        ("linux-server", "/home/anna/.local/share/orchestra", "nfs4"),
        ("linux-server", "/mnt/share/x", "cifs"),
        ("linux-server", "/mnt/shared", ""),
        ("linux-server", "/home/anna/remote data/x", "fuse.sshfs"),
        ("linux-server", "/home/anna/local/x", ""),
        ("linux-server", "/var/lib", ""),
        ("wsl2-nvidia", "/mnt/c/Users/anna", "9p"),
        ("wsl2-nvidia", "/home/anna", ""),
        ("wsl1", "/mnt/c/Users/anna", "drvfs"),
        ("macos-apple", "/Volumes/My Share/orchestra", "smbfs"),
        ("macos-apple", "/Volumes/export/x", "nfs"),
        ("macos-apple", "/Users/anna", ""),
        ("docker-v2", "/data/orchestra", ""),
    ],
)
def test_where_a_folder_lies(name: str, folder: str, kind: str) -> None:
    assert remote_kind(folder, read(name).mounts) == kind


def test_a_folder_without_mounts_is_taken_for_a_good_one() -> None:
    assert remote_kind("/home/anna", "") == ""


# --- this machine


def test_looking_is_quick_whatever_the_tools_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {"nvidia-smi": "exec sleep 30", "rocm-smi": 'echo \'{"card0": {"VRAM Total Memory (B)": "1000"}}\''}
    for name, does in answers.items():
        tool = tmp_path / name
        tool.write_text(f"#!/bin/sh\n{does}\n")
        tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(machine, "PATIENCE", 0.4)
    monkeypatch.setattr(machine.sys, "platform", "linux")  # type: ignore[attr-defined]
    before = time.monotonic()
    found = look()
    assert time.monotonic() - before < 1.5
    assert found.gpus == (Gpu("AMD card0", 1000),), "one that hangs does not take the other along"


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="reads Linux' own files")
def test_this_machine() -> None:
    found = look()
    assert 0 < found.available <= found.total
    assert found.total <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 1.01
