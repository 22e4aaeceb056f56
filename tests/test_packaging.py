"""What a user installs: a wheel that is complete, a core that is light, versions that are all pinned."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
CORE: list[str] = PROJECT["project"]["dependencies"]
DEV: list[str] = PROJECT["project"]["optional-dependencies"]["dev"]
BACKEND: list[str] = PROJECT["build-system"]["requires"]
INSTALLER = {"pip"}  # llm asks for it; the one that an environment was made with stays
EDITABLE = {"editables"}  # the build backend asks for it while it makes an editable install; it stays nowhere
MOST_DISTRIBUTIONS, MOST_BYTES = 32, 90 * 10**6  # with Orchestra itself


def installed_with(requirements: Iterable[str]) -> dict[str, str]:
    """Name and installed version of all that `requirements` bring on this machine."""
    found: dict[str, str] = {}
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        wanted = distribution(name)
        assert requirement.specifier.contains(wanted.version, prereleases=True), f"{requirement} is not met by {wanted.version}"
        known = name in found
        found[name] = wanted.version
        if not known or requirement.extras:
            waiting += [(Requirement(text), one) for text in wanted.requires or [] for one in ["", *requirement.extras]]
    found.pop(canonicalize_name(PROJECT["project"]["name"]), None)  # an extra that names another one of its own
    return found


def pins() -> dict[str, str]:
    """The lines of constraints.txt; nothing but exact versions may stand there."""
    found: dict[str, str] = {}
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"([\w.-]+)==([\w.]+)", line)
        assert match, f"no exact version: {line!r}"
        found[canonicalize_name(match[1])] = match[2]
    return found


def size(names: Iterable[str]) -> int:
    """Bytes on disk of the files that the distributions list, compiled ones included."""
    files = [file.locate() for name in names for file in distribution(name).files or []]
    return sum(Path(str(file)).stat().st_size for file in files if Path(str(file)).is_file())


@pytest.fixture(scope="module")
def everything() -> dict[str, str]:
    try:
        return installed_with([*CORE, *DEV, *BACKEND])
    except PackageNotFoundError as missing:
        pytest.skip(f"{missing.name} is not installed: `make test` brings it")


def test_everything_that_is_installed_is_pinned_and_nothing_else(everything: dict[str, str]) -> None:
    pinned = pins()
    assert {name: version for name, version in everything.items() if pinned.get(name) != version and name not in INSTALLER} == {}
    assert set(pinned) - set(everything) == EDITABLE


def test_the_core_is_light() -> None:
    core = installed_with(CORE)
    assert len(core) + 1 <= MOST_DISTRIBUTIONS
    weight = size(core) + sum(file.stat().st_size for file in (ROOT / "orchestra").rglob("*") if file.is_file())
    assert weight <= MOST_BYTES


def test_the_weight_is_really_measured() -> None:
    assert size(["pydantic-core"]) > 10**6
    assert len(installed_with(["httpx"])) > 4
    with pytest.raises(AssertionError, match="is not met"):
        installed_with(["httpx<0.1"])


@pytest.mark.parametrize("line", ["httpx>=1", "httpx", "--index-url x", "httpx @ file:///x"])
def test_a_loose_pin_is_noticed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "constraints.txt").write_text(line)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    with pytest.raises(AssertionError, match="no exact version"):
        pins()


# --- the wheel


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder into which a wheel of this checkout, with one more persona, was installed without its dependencies."""
    pytest.importorskip("hatchling", reason="the build backend is not installed: `make test` brings it")
    folder = tmp_path_factory.mktemp("wheel")
    source, target = folder / "source", folder / "site"
    source.mkdir()
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("pyproject.toml", "LICENSE", "README.md", "orchestra", "personas", "tests"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=ignore)
        elif (ROOT / name).exists():
            shutil.copy(ROOT / name, source / name)
    (source / "personas").mkdir(exist_ok=True)
    (source / "personas/probe.md").write_text("---\nname: probe\n---\n")
    (source / "orchestra/model/probe.dat").write_bytes(b"\x00")
    run(source, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (wheel,) = folder.glob("orchestra_ollama-*.whl")
    run(folder, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile", "--target", str(target), str(wheel))
    return target


def run(folder: Path, *command: str) -> str:
    """What the command prints; its complaints where it fails."""
    done = subprocess.run([sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_carries_the_personas_inside_the_package(elsewhere: Path) -> None:
    program = "import orchestra, pathlib; print(*(p.name for p in (pathlib.Path(orchestra.__file__).parent / 'personas').glob('*.md')))"
    found = run(elsewhere, "-c", program).split()
    assert sorted(found) == sorted([p.name for p in (ROOT / "personas").glob("*.md")] + ["probe.md"])


def test_the_wheel_carries_every_file_of_the_package_and_nothing_beside_it(elsewhere: Path) -> None:
    kept = {p.relative_to(elsewhere).as_posix() for p in elsewhere.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    package = {p.relative_to(ROOT).as_posix() for p in (ROOT / "orchestra").rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    assert package | {"orchestra/model/probe.dat"} <= kept
    assert {path.split("/")[0] for path in kept if ".dist-info/" not in path} == {"orchestra", "bin"}


def test_the_wheel_says_what_it_is(elsewhere: Path) -> None:
    (info,) = elsewhere.glob("orchestra_ollama-*.dist-info")
    metadata = (info / "METADATA").read_text("utf-8")
    assert "License-Expression: MIT" in metadata
    assert (info / "licenses/LICENSE").exists()
    assert "orchestra = orchestra.cli:main" in (info / "entry_points.txt").read_text("utf-8")
    assert f"Requires-Python: {PROJECT['project']['requires-python']}" in metadata
