"""What `doctor` says of containers, WSL, proxies, memory, shares and slots: each broken on purpose, each with its fix."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from command_line import process
from test_machine import read

from orchestra.instruments import doctor, here, surroundings
from orchestra.instruments.check import NOTHING, Check
from orchestra.instruments.doctor import examined
from orchestra.instruments.footprint import Footprint
from orchestra.instruments.inventory import Sized, sized
from orchestra.instruments.machine import Gpu, Machine
from orchestra.model.catalog import ModelCard
from orchestra.model.client import Client
from orchestra.runtime import Blocking, finish
from orchestra.settings import Settings
from orchestra.standin import StandIn

LOCAL = "http://127.0.0.1:11434"
GB = 10**9


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Machine:
    """The machine of the test's parameter is this one."""
    found = read(request.param)
    monkeypatch.setattr(doctor, "look", lambda: found)
    return found


def well(check: Check) -> bool:
    """Whether a check is ok; what is said is there in both languages, and a fix exactly where it is not."""
    assert check.detail.en
    assert check.detail.zh
    assert bool(check.fix.en) == bool(check.fix.zh) == (not check.ok)
    return check.ok


def daemon(host: str) -> Check:
    return finish(examined(Settings.read(host=host), Blocking()))[0]


# --- the way to the daemon


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("{place}", "(from OLLAMA_HOST)"),
        ("http://{place}", "(from OLLAMA_HOST)"),
        ("http://{place}/", "(from OLLAMA_HOST)"),
        ("0.0.0.0:{port}", "(from OLLAMA_HOST=0.0.0.0:{port})"),
        ('"{place}"', '(from OLLAMA_HOST="{place}")'),
        (":{port}", "(from OLLAMA_HOST=:{port})"),
    ],
)
def test_the_address_and_what_it_was_made_of(standin: StandIn, host: str, said: str) -> None:
    place = standin.url.removeprefix("http://")
    fills = {"place": place, "port": place.partition(":")[2]}
    found = daemon(host=host.format(**fills))
    assert well(found)
    assert found.detail.en == f"{standin.url} {said.format(**fills)}"


@pytest.mark.parametrize(
    ("machine", "host", "said"),
    [
        ("docker-v2", "127.0.0.1:9", "http://host.docker.internal:11434"),
        ("podman", "127.0.0.1:9", "http://host.containers.internal:11434"),
        ("wsl2-nvidia", "localhost:9", "on the Windows side"),
        ("linux-server", "127.0.0.1:9", ""),
        ("wsl1", "127.0.0.1:9", ""),
    ],
    indirect=["machine"],
)
def test_what_is_not_there_may_be_outside(machine: Machine, host: str, said: str) -> None:
    found = daemon(host=host)
    assert not well(found)
    assert said in found.fix.en
    assert ("OLLAMA_HOST=http://" in found.fix.en) == ("OLLAMA_HOST=http://" in found.fix.zh) == bool(said)


def test_who_named_another_machine_is_not_sent_outside() -> None:
    assert surroundings.way_out(read("docker-v2")) != NOTHING
    for url, near in ((LOCAL, True), ("http://localhost:1", True), ("http://[::1]:1", True), ("http://10.0.0.5:11434", False)):
        assert surroundings.is_here(url) == near
    assert not surroundings.is_here("http://host.docker.internal:11434")


def test_the_place_is_said() -> None:
    texts = {name: surroundings.place(read(name)).detail.en for name in ("docker-v2", "podman", "wsl2-nvidia", "linux-server")}
    assert texts == {
        "docker-v2": "a Docker container, limited to 8.6 GB",
        "podman": "a Podman container",
        "wsl2-nvidia": "WSL2: 127.0.0.1 is Linux' side",
        "linux-server": "neither a container nor WSL",
    }


@pytest.mark.parametrize(
    ("environment", "url", "ok"),
    [
        ({}, LOCAL, True),
        ({"HTTP_PROXY": "http://p:1"}, LOCAL, False),
        ({"all_proxy": "socks5://p:1"}, LOCAL, False),
        ({"http_proxy": "http://p:1", "NO_PROXY": "127.0.0.1"}, LOCAL, True),
        ({"http_proxy": "http://p:1", "no_proxy": "localhost, 127.0.0.1"}, LOCAL, True),
        ({"http_proxy": "http://p:1", "no_proxy": "*"}, LOCAL, True),
        ({"http_proxy": "http://p:1", "no_proxy": ".local"}, "http://gpu.local:11434", True),
        ({"http_proxy": "http://p:1", "no_proxy": "cal"}, "http://gpu.local:11434", False),
        ({"HTTP_PROXY": ""}, LOCAL, True),
    ],
)
def test_proxies(environment: dict[str, str], url: str, ok: bool) -> None:
    found = surroundings.proxies(environment, url)
    assert well(found) == ok
    if not ok:
        assert found.fix.en.startswith("export NO_PROXY=")
        assert found.fix.en.endswith(url.removeprefix("http://").partition(":")[0])


def test_a_proxy_is_really_not_used(standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    checks = {each.name: each for each in finish(examined(Settings.read(host=standin.url), Blocking()))}
    assert (checks["daemon"].ok, checks["proxies"].ok) == (True, False)


@pytest.mark.parametrize(
    ("parallel", "theirs", "ok"), [(1, "", True), (4, "", True), (1, "1", True), (4, "4", True), (1, "4", False), (4, "1", False), (1, "0", True), (2, "x", True)]
)
def test_slots(parallel: int, theirs: str, ok: bool) -> None:
    found = surroundings.slots(Settings(parallel=parallel), {"OLLAMA_NUM_PARALLEL": theirs})
    assert well(found) == ok
    assert found.fix.en == ("" if ok else f"export ORCHESTRA_PARALLEL={theirs}")
    assert ("does not say" in found.detail.en) == (theirs == "")


def test_the_penalty_that_the_daemon_no_longer_has() -> None:
    assert "default is 1.0" in doctor.penalty("0.32.15", Settings()).detail.en
    assert "default is 1.1" in doctor.penalty("0.32.9", Settings()).detail.en
    assert well(doctor.penalty("0.32.15", Settings()))
    assert not well(doctor.penalty("0.32.15", Settings(repeat_penalty=1.0)))


def test_a_daemon_that_lacks_logprobs() -> None:
    for version, said in (("0.12.10", "logprobs"), ("0.12.5", "cut a long prompt")):
        found = doctor.version_of(version)
        assert not well(found)
        assert said in found.detail.en
    assert well(doctor.version_of("0.12.11"))


# --- memory


def model(name: str, needed: int, **fields: object) -> Sized:
    return Sized(ModelCard(name=name, **fields), Footprint(weights=needed, kv_cache=0, overhead=0, context=8192))  # type: ignore[arg-type]


def test_memory_for_what_is_not_loaded() -> None:
    plain = Machine(total=16 * GB, available=12 * GB)
    assert well(surroundings.memory([model("m", 8 * GB)], plain, LOCAL))
    tight = surroundings.memory([model("m", 13 * GB), model("s", GB)], plain, LOCAL)
    assert not well(tight)
    assert not tight.required
    assert tight.detail.en == "16.0 GB, 12.0 GB free; m needs 13.0 GB at 8192 tokens: tight"
    big = surroundings.memory([model("s", GB), model("m", 40 * GB)], plain, LOCAL)
    assert big.detail.en.endswith("m needs 40.0 GB at 8192 tokens: too big")
    assert big.fix.en == "take a smaller model: orchestra models --recommend"
    assert well(surroundings.memory([model("m", 40 * GB, loaded=True)], plain, LOCAL)), "it is loaded, so it fits"
    assert well(surroundings.memory([model("e", 40 * GB, capabilities=("embedding",))], plain, LOCAL))
    assert well(surroundings.memory([model("m", 40 * GB)], Machine(), LOCAL)), "what the system does not say is no fault"


def test_memory_of_the_graphics_card() -> None:
    card = Machine(total=16 * GB, available=12 * GB, gpus=(Gpu("RTX 3060", 12 * GB, 11 * GB),))
    assert surroundings.memory([model("m", 8 * GB)], card, LOCAL).detail.en == "16.0 GB, 12.0 GB free; RTX 3060 12.0 GB"
    assert not well(surroundings.memory([model("m", 14 * GB)], card, LOCAL))
    apple = read("macos-apple")
    assert surroundings.memory([], apple, LOCAL).detail.en.endswith("; Apple M2")
    assert not well(surroundings.memory([model("m", 12 * GB)], apple, LOCAL))


def test_another_machines_memory_is_not_ours() -> None:
    found = surroundings.memory([model("m", 40 * GB)], Machine(total=GB, available=GB), "http://10.0.0.5:11434")
    assert well(found)
    assert "on another machine" in found.detail.en


def test_models_are_sized_with_their_slots(standin: StandIn) -> None:
    one, four = (finish(sized(Client(Blocking(), Settings.read(host=standin.url, parallel=slots)), 4096)) for slots in (1, 4))
    assert [each.footprint.kv_cache * 4 for each in one] == [each.footprint.kv_cache for each in four]


# --- the folder of the data


@pytest.mark.parametrize(
    ("mounts", "said"),
    [
        ("nas:/home {parent} nfs4 rw 0 0", "on a share (nfs4)"),
        ("//nas/share {parent} cifs rw 0 0", "on a share (cifs)"),
        ("/dev/sda1 {parent} ext4 rw 0 0", ""),
        ("nas:/home {parent} nfs4 rw 0 0\ntmpfs {folder} tmpfs rw 0 0", ""),
    ],
)
def test_a_folder_on_a_share(tmp_path: Path, mounts: str, said: str) -> None:
    folder = tmp_path / "orchestra"
    found = here.folder(folder, Machine(mounts=mounts.format(parent=tmp_path.resolve(), folder=folder.resolve())))
    assert well(found) == (not said)
    assert said in found.detail.en
    assert ("ORCHESTRA_HOME" in found.fix.en) == bool(said)


def test_a_folder_on_windows_side() -> None:
    found = here.folder(Path("/mnt/c/Users/anna/orchestra"), read("wsl2-nvidia"))
    assert not well(found)
    assert "Windows' side of WSL" in found.detail.en
    assert "/mnt/c" in found.detail.zh


def test_a_link_to_a_share_is_followed(tmp_path: Path) -> None:
    (tmp_path / "share").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "share")
    mounts = f"nas:/x {(tmp_path / 'share').resolve()} nfs rw 0 0"
    assert not here.folder(tmp_path / "link" / "below", Machine(mounts=mounts)).ok


# --- as a process


def test_doctor_as_json_is_quick(standin: StandIn) -> None:
    before = time.monotonic()
    done = process("doctor", "--json", OLLAMA_HOST=standin.url)
    assert time.monotonic() - before < 3
    assert done.code == 0
    assert {"daemon", "memory", "place", "proxies", "slots", "data folder", "search"} <= {each["name"] for each in done.json["checks"]}
