"""What happens on a machine where nothing is prepared: the script behind `make demo` and `make test`.

Most of it runs with a stand-in for the interpreter, a few lines of sh that make an empty environment and whose pip says
and returns what the test wants; one test goes the whole way with a real interpreter and no network.
"""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

PYTHON = """\
#!/bin/sh
here=PROJECT/fake
case "$*" in
*'sys.exit(sys.version_info'*) exit "$(cat "$here/too-old" 2>/dev/null || echo 0)" ;;
*print*) cat "$here/version" 2>/dev/null || echo 3.12.1 ;;
*ensurepip*) exit "$(cat "$here/no-ensurepip" 2>/dev/null || echo 0)" ;;
*'-m venv'*)
    echo venv >>"$here/calls"
    mkdir -p "$3/bin" "$3/lib/python3.12/site-packages/a-1.dist-info"
    touch "$3/pyvenv.cfg"
    echo "VIRTUAL_ENV='$3'" >"$3/bin/activate"
    cp "$0" "$3/bin/python"
    ;;
*'-m pip'*)
    echo pip >>"$here/calls"
    echo "$*" >"$here/pip-asked"
    cat "$here/pip-says"
    sleep "$(cat "$here/pip-takes" 2>/dev/null || echo 0)"
    exit "$(cat "$here/pip-returns" 2>/dev/null || echo 0)"
    ;;
esac
"""
SAYS = "Obtaining file:///x\nCollecting httpx>=0.28 (from x)\nCollecting anyio\nInstalling collected packages: a, b\n"


class Project:
    """A copy of the project's frame in a folder with a blank and Chinese in its name, and a stand-in interpreter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "克隆 one"
        self.fake = self.folder / "fake"
        self.fake.mkdir(parents=True)
        (self.folder / "tools").mkdir()
        for name in ("tools/bootstrap.sh", "Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, self.folder / name)
        self.set(pip_says=SAYS)
        self.python = self.interpreter(self.folder / "python3")
        self.program("apt-get")
        self.program("apt-cache", '[ "$2" = python3.12 ]')
        self.environment = {"PATH": f"{self.fake}:{os.environ['PATH']}", "LANG": "C", "PYTHON": str(self.python)}

    def program(self, name: str, text: str = "") -> None:
        """A program that the script finds first on the PATH."""
        path = self.fake / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    def interpreter(self, path: Path) -> Path:
        """The stand-in interpreter under another name."""
        path.parent.mkdir(exist_ok=True)
        path.write_text(PYTHON.replace("PROJECT", f"'{self.folder}'"))
        path.chmod(0o755)
        return path

    def set(self, **facts: object) -> None:
        """What the stand-in interpreter does from now on."""
        for name, value in facts.items():
            (self.fake / name.replace("_", "-")).write_text(str(value))

    @property
    def calls(self) -> list[str]:
        """What the stand-in interpreter was asked to do so far."""
        path = self.fake / "calls"
        return path.read_text().split() if path.exists() else []

    def start(self, part: str = "core", **environment: str) -> subprocess.Popen[str]:
        command = ["sh", str(self.folder / "tools/bootstrap.sh"), part]
        pipe = subprocess.PIPE
        env = {**self.environment, **environment}
        return subprocess.Popen(command, env=env, cwd="/", stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    def run(self, part: str = "core", **environment: str) -> tuple[int, list[str]]:
        """The exit code, and the lines that were said."""
        process = self.start(part, **environment)
        out, err = process.communicate(timeout=50)
        assert out == ""
        return process.returncode, err.splitlines()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def two_lines(result: tuple[int, list[str]]) -> tuple[str, str]:
    """What happened and what helps, and nothing else."""
    code, lines = result
    assert code == 1
    assert len(lines) == 2, lines
    assert lines[0].startswith("Orchestra: ")
    assert lines[1].startswith("  to do: ")
    return lines[0], lines[1]


def after_the_announcement(result: tuple[int, list[str]]) -> tuple[int, list[str]]:
    """What is said once there is something to install."""
    assert result[1][0] == "Orchestra: installing into .venv (core, pinned versions, once)"
    return result[0], result[1][1:]


# --- it works


def test_a_first_run_installs_and_says_so_in_two_plain_lines(project: Project) -> None:
    code, lines = project.run()
    assert code == 0
    assert lines == [
        "Orchestra: installing into .venv (core, pinned versions, once)",
        f"Orchestra: installed into .venv (core: 1 packages, {lines[1].split(', ')[-1].split()[0]} s)",
    ]
    assert project.calls == ["venv", "pip"]
    assert (project.fake / "pip-asked").read_text().endswith("-c constraints.txt -e .[serve]\n"), "the demo ends with the gateway"
    assert SAYS in (project.folder / ".venv/install.log").read_text()
    assert not list((project.folder / ".venv").glob(".orchestra-lock*"))


def test_a_second_run_does_nothing_and_costs_nothing(project: Project) -> None:
    project.run()
    durations = []
    for _ in range(3):
        began = time.perf_counter()
        assert project.run() == (0, [])
        durations.append(time.perf_counter() - began)
    assert min(durations) < 0.2
    assert project.calls == ["venv", "pip"]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_what_is_wanted_has_changed(project: Project, name: str) -> None:
    project.run()
    with (project.folder / name).open("a") as file:
        file.write("# changed\n")
    assert project.run()[0] == 0
    assert project.calls == ["venv", "pip", "pip"]


def test_the_tools_come_on_top_and_bring_the_core(project: Project) -> None:
    project.run("core")
    project.run("dev")
    project.run("core")
    project.run("dev")
    assert project.calls == ["venv", "pip", "pip"]


def test_the_tools_first_are_enough_for_the_core(project: Project) -> None:
    project.run("dev")
    assert project.run("core") == (0, [])
    assert project.calls == ["venv", "pip"]


def test_a_checkout_that_was_moved_gets_a_new_environment(project: Project) -> None:
    project.run()
    elsewhere = project.folder.with_name("elsewhere")
    shutil.copytree(project.folder, elsewhere)
    project.folder = elsewhere
    assert project.run()[0] == 0
    assert project.calls == ["venv", "pip", "venv", "pip"]


def test_an_interpreter_that_is_gone_gets_a_new_environment(project: Project) -> None:
    project.run()
    (project.folder / ".venv/bin/python").unlink()
    assert project.run()[0] == 0
    assert project.calls == ["venv", "pip", "venv", "pip"]


def test_a_folder_that_is_no_environment_is_not_cleared(project: Project, tmp_path: Path) -> None:
    precious = tmp_path / "precious/lib/file"
    precious.parent.mkdir(parents=True)
    precious.write_text("kept")
    assert project.run(VENV=str(tmp_path / "precious"))[0] == 0
    assert precious.read_text() == "kept"


def test_two_at_once_install_once(project: Project) -> None:
    project.set(pip_takes="0.5")
    processes = [project.start(), project.start()]
    said = [process.communicate(timeout=20)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert project.calls == ["venv", "pip"]
    assert sum("waiting for it" in text for text in said) == 1


def test_on_a_terminal_one_line_is_rewritten(project: Project) -> None:
    master, slave = pty.openpty()
    command = ["sh", str(project.folder / "tools/bootstrap.sh"), "core"]
    process = subprocess.Popen(command, env=project.environment, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b"".join(_drained(master)).decode()
    assert process.wait(10) == 0
    assert seen.count("\n") == 1
    assert "\r\x1b[KOrchestra: fetching package 2: anyio\r" in seen
    assert "writing 2 packages" in seen


def _drained(descriptor: int) -> Iterator[bytes]:
    with suppress(OSError):  # Linux says so when the other end is closed
        while data := os.read(descriptor, 4096):
            yield data
    os.close(descriptor)


# --- it stops on the way


def test_an_install_that_was_killed_is_begun_afresh(project: Project) -> None:
    project.set(pip_takes="30")
    process = project.start()
    while "pip" not in project.calls:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    project.set(pip_takes="0")
    assert project.run()[0] == 0
    assert project.calls == ["venv", "pip", "venv", "pip"]
    assert project.run() == (0, [])


def test_ctrl_c_ends_it_at_once_and_says_how_to_go_on(project: Project) -> None:
    project.set(pip_takes="30")
    process = project.start()
    while "pip" not in project.calls:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "Orchestra: interrupted; make demo goes on from here"
    assert not (project.folder / ".venv/.orchestra-lock").exists()


# --- it cannot work, and says why


def test_a_python_that_is_too_old(project: Project) -> None:
    project.set(too_old=1, version="3.9.18")
    what, helps = two_lines(project.run())
    assert what == f"Orchestra: Python 3.11 or newer is needed; here is 3.9.18 ({project.python})"
    assert helps.endswith("apt install python3.12 python3.12-venv   (then: make demo)")
    assert project.calls == []


def test_no_python_at_all(project: Project, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cat", "cmp", "date", "dirname", "grep", "id", "mkdir", "ps", "rm", "sh", "sleep", "touch", "tr"):
        (programs / name).symlink_to(str(shutil.which(name)))
    what, helps = two_lines(project.run("dev", PYTHON="", PATH=str(programs)))
    assert what == "Orchestra: Python 3.11 or newer is needed; there is none on the PATH"
    assert helps == "  to do: install Python 3.11 or newer, then: make test PYTHON=/path/to/python3"
    for manager, command in (("brew", "brew install python@3.13"), ("dnf", "dnf install python3.12"), ("pacman", "pacman -S python")):
        (programs / manager).symlink_to("/bin/true")
        assert command in two_lines(project.run("dev", PYTHON="", PATH=str(programs)))[1]
        (programs / manager).unlink()


def test_a_newer_one_beside_it_is_found(project: Project, tmp_path: Path) -> None:
    old = tmp_path / "bin/python3"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    project.interpreter(tmp_path / "bin/python3.12")
    assert project.run(PYTHON="", PATH=f"{tmp_path}/bin:{project.environment['PATH']}")[0] == 0
    assert project.calls == ["venv", "pip"]


def test_an_interpreter_that_cannot_be_run(project: Project) -> None:
    what, _ = two_lines(project.run(PYTHON="/nowhere/python3"))
    assert what == "Orchestra: Python 3.11 or newer is needed; /nowhere/python3 cannot be run"


def test_a_python_without_ensurepip(project: Project) -> None:
    project.set(no_ensurepip=1)
    what, helps = two_lines(project.run())
    assert what == f"Orchestra: Python 3.12.1 ({project.python}) comes without venv and ensurepip, which make the environment"
    assert helps.endswith("apt install python3.12-venv   (then: make demo)")


def test_a_folder_that_cannot_be_written(project: Project, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    what, helps = two_lines(project.run(VENV=f"{tmp_path}/file/venv"))
    assert what == f"Orchestra: cannot write to {tmp_path}/file/venv"
    assert helps == '  to do: make demo VENV="$HOME/.orchestra-venv"'


def test_a_registry_that_cannot_be_reached(project: Project) -> None:
    project.set(pip_says="WARNING: Retrying after NewConnectionError\nERROR: No matching distribution found", pip_returns=1)
    what, helps = two_lines(after_the_announcement(project.run()))
    assert what == "Orchestra: the package registry cannot be reached (log: .venv/install.log)"
    assert "PIP_INDEX_URL" in helps
    project.set(pip_says=SAYS, pip_returns=0)
    assert project.run()[0] == 0
    assert project.calls == ["venv", "pip", "pip"]


def test_any_other_failure_shows_the_log(project: Project) -> None:
    project.set(pip_says="Collecting a\nERROR: something rare\n", pip_returns=2)
    code, lines = project.run()
    assert code == 1
    assert "ERROR: something rare" in lines
    assert lines[-2] == "Orchestra: the packages could not be installed (the whole log: .venv/install.log)"


def test_a_full_disk(project: Project) -> None:
    project.set(pip_says="Installing collected packages: a\nOSError: [Errno 28] No space left on device\n", pip_returns=1)
    _, lines = project.run()
    assert lines[-2].endswith("no space left")
    assert "df -h ." in lines[-1]
    project.set(pip_says=SAYS, pip_returns=0)
    assert project.run()[0] == 0
    assert project.calls == ["venv", "pip", "venv", "pip"], "what was half written is begun afresh"


def test_it_speaks_chinese(project: Project) -> None:
    project.set(too_old=1, version="3.9.18")
    code, lines = project.run(LANG="zh_CN.UTF-8")
    assert code == 1
    assert lines[-2] == f"Orchestra：需要 Python 3.11 或更新版本；当前只有 3.9.18 ({project.python})"
    assert lines[-1].startswith("  解决办法：")


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_stops_there(project: Project, target: str) -> None:
    project.set(too_old=1, version="3.9.18")
    done = subprocess.run(
        ["make", target], cwd=project.folder, env=project.environment, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert [line.split(":")[0].strip() for line in done.stderr.splitlines()] == ["Orchestra", "to do", "make"]


def test_a_real_interpreter_without_network(project: Project, tmp_path: Path) -> None:
    closed = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": "", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}
    what, _ = two_lines(after_the_announcement(project.run(PYTHON=sys.executable, HOME=str(tmp_path), **closed)))
    assert what == "Orchestra: the package registry cannot be reached (log: .venv/install.log)"
    assert "Traceback" not in (project.folder / ".venv/install.log").read_text()
