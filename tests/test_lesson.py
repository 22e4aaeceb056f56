"""The lesson's page: its commands and Python run in order against the stand-in, both languages alike, nothing left out."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command_line import Line, line  # noqa: F401
from served import running
from test_rented_gpu import understood

from orchestra.settings import Settings
from orchestra.standin import StandIn

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "lesson.md"
CHINESE, _, ENGLISH = PAGE.read_text("utf-8").partition("\n---\n")
HALVES = {"zh": CHINESE, "en": ENGLISH}
_BLOCK = re.compile(r"^(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
_PORT = re.compile(r"app\.run\(port=(\d+)")
_HAN = re.compile("[\u4e00-\u9fff]")
# The lesson's blocks, by section: text generation, dialogue, retrieval, agents; the set-up stands after the exercises.
PLACES = [*(f"1.{n}" for n in range(1, 8)), "2.1", "2.2", "3.1", *(f"4.{n}" for n in range(1, 6)), *(f"6.{n}" for n in range(1, 6))]
PARAMETERS = """
    cache_dir snapshot_download from_pretrained torch_dtype device_map return_tensors .to(model.device) .to("cuda") torch.no_grad()
    max_length skip_special_tokens repetition_penalty truncation API_KEY SEARCH_ENGINE_ID developerKey cx documents[:3] seed_memory
    port pad_token_id timeout Tool.from_function task="text-generation" max_new_tokens AgentType.ZERO_SHOT_REACT_DESCRIPTION
    max_iterations handle_parsing_errors verbose
""".split()

# What the lesson's two printings, or its own blocks, have differently, by the beginning of the heading it stands under.
DIFFERENT = {
    "5.": ["https://github.com/tylerelyt/LLaMa-in-Action", "https://github.com/tylerelyt/llama>"],
    "6.": ["macOS", "Linux", "Windows", "WSL", "bash"],
    "8.": [" bfloat16", " float16", " float32", "1.6, 1.7, 2.2"],
    "": ["1.5, 1.7, 4.3, 4.4", "Learn by doing"],
}


class Block(NamedTuple):
    """A block of code, and why it is not run, if it is not."""

    kind: str
    code: str
    why: str


def blocks(text: str) -> list[Block]:
    return [Block(m["kind"], m["code"], m["why"] or "") for m in _BLOCK.finditer(text)]


def sections(text: str) -> dict[str, str]:
    """What stands under each heading of the second level; the beginning under none."""
    parts = re.split(r"^## (.+)\n", text, flags=re.MULTILINE)
    return {"": parts[0], **dict(zip(parts[1::2], parts[2::2], strict=True))}


def prose(text: str) -> str:
    """The text without its code."""
    return re.sub(r"`[^`\n]+`", "", _BLOCK.sub("", text))


# --- it runs


class Reader:
    """Does what the page says, in one folder: services stay up, and their ports are wherever they are free."""

    def __init__(self, daemon: str, command: Line, ends: ExitStack) -> None:
        self.command, self.ends = command, ends
        self.addresses = {"http://localhost:11434": daemon}

    def reach(self, code: str) -> str:
        for name, address in self.addresses.items():
            code = code.replace(name, address)
        return code

    def shell(self, code: str) -> None:
        for each in self.reach(code).splitlines():
            if each.startswith("orchestra "):
                done = self.command(*shlex.split(each)[1:])
                assert done.code == 0, f"{each}\n{done.err}"
                assert (done.out + done.err).strip(), f"{each} says nothing"
            else:
                said = each.replace("curl ", "curl -s --fail-with-body --noproxy '*' ", 1)
                subprocess.run(["bash", "-ec", said], check=True, timeout=30, capture_output=True)

    def python(self, code: str) -> None:
        space: dict[str, Any] = {"__name__": "lesson"}
        exec(compile(self.reach(code), str(PAGE), "exec"), space)
        if port := _PORT.search(code):
            address = self.ends.enter_context(running(space["app"], Settings.read()))
            self.addresses[f"http://localhost:{port[1]}"] = address


@contextmanager
def reading(daemon: StandIn, command: Line) -> Iterator[Reader]:
    with ExitStack() as ends:
        yield Reader(daemon.url, command, ends)


@pytest.fixture
def reader(line: Line, standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:  # noqa: F811
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    monkeypatch.chdir(tmp_path)
    with reading(standin, line) as reader:
        yield reader


RUN = [title for title, text in sections(CHINESE).items() if any(not each.why for each in blocks(text))]


@pytest.mark.parametrize("title", RUN, ids=range(len(RUN)))
def test_each_block_runs_in_order(title: str, reader: Reader) -> None:
    for block in blocks(sections(CHINESE)[title]):
        if not block.why:
            {"sh": reader.shell, "python": reader.python}[block.kind](block.code)


def test_a_block_that_fails_is_noticed(reader: Reader) -> None:
    for code in ("orchestra generate hello --model not-there", "curl http://localhost:11434/nowhere"):
        with pytest.raises((AssertionError, subprocess.CalledProcessError)):
            reader.shell(code)
    with pytest.raises(AssertionError):
        reader.python("assert not 1")


def test_what_is_not_run_is_understood_at_least() -> None:
    lines = [each for block in blocks(CHINESE) if block.why for each in block.code.splitlines() if each.startswith("orchestra ")]
    assert len(lines) > 8
    assert [each for each in lines if not understood(shlex.split(each)[1:])] == []


def test_the_three_programs_are_the_shipped_ones() -> None:
    shipped = {path.name: path.read_text("utf-8") for path in (ROOT / "examples" / "lesson").glob("agent_*.py")}
    shown = {block.code.partition("\n")[0].removeprefix("# "): block.code for block in blocks(CHINESE) if block.code.startswith("# agent_")}
    assert shown.keys() == shipped.keys()
    for name, code in shown.items():
        assert code.partition("\n")[2] == shipped[name].rpartition('"""\n\n')[2], name


# --- it is whole, in both languages


def outline(text: str) -> list[Any]:
    """The order of headings, blocks, rows of tables and points of lists."""
    bare = _BLOCK.sub(lambda m: f"```{m['kind']} {bool(m['why'])}", text)
    return re.findall(r"^(#+|\||-|\d\.|```.*)", bare, re.MULTILINE)


def test_both_languages_have_the_same_order_of_things() -> None:
    assert outline(CHINESE) == outline(ENGLISH)
    assert outline(CHINESE).count("|") > 60
    assert outline(CHINESE) != outline(ENGLISH.replace("\n| 8 |", "\n8", 1)), "a row that is missing would be noticed"


def test_both_languages_show_the_same_code() -> None:
    chinese, english = blocks(CHINESE), blocks(ENGLISH)
    assert [(each.kind, each.code, bool(each.why)) for each in chinese] == [(each.kind, each.code, bool(each.why)) for each in english]


def test_each_half_is_in_its_language() -> None:
    assert _HAN.search(prose(ENGLISH).replace("[中文](#课程逐行对照)", "").replace('"是"', "")) is None
    for paragraph in prose(CHINESE.replace("[English](#the-lesson-line-by-line)", "")).split("\n\n"):
        assert not re.search("[A-Za-z]{3}", paragraph) or _HAN.search(paragraph), paragraph


@pytest.mark.parametrize("language", HALVES)
def test_nothing_of_the_lesson_is_left_out(language: str) -> None:
    text = HALVES[language]
    assert re.findall(r"^### (\d\.\d) ", text, re.MULTILINE) == PLACES
    found = sections(text)
    (questions,) = [body for title, body in found.items() if title.startswith("7.")]
    assert re.findall(r"^\| (\d+) \|", questions, re.MULTILINE) == [str(n) for n in range(1, 16)]
    (parameters,) = [body for title, body in found.items() if title.startswith("8.")]
    assert [each for each in PARAMETERS if each not in parameters] == []


@pytest.mark.parametrize("language", HALVES)
@pytest.mark.parametrize("start", DIFFERENT, ids=["code", "environment", "blocks", "printings"])
def test_what_is_different_is_pointed_out(start: str, language: str) -> None:
    found = sections(HALVES[language])
    body = next(body for title, body in found.items() if title.startswith(start)) if start else list(found.values())[-1]
    assert [each for each in DIFFERENT[start] if each not in body.replace("、", ", ")] == []


def test_links_lead_somewhere() -> None:
    def anchors(text: str) -> set[str]:
        return {re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}

    targets = [each for each in re.findall(r"\]\(([^)\s]+)\)", PAGE.read_text("utf-8")) if not each.startswith("http")]
    assert len(targets) > 10
    for target in targets:
        path, _, anchor = target.partition("#")
        there = (PAGE.parent / path).resolve() if path else PAGE
        assert there.exists(), target
        assert not anchor or anchor in anchors(there.read_text("utf-8")), target


def test_settings_that_are_named_exist() -> None:
    known = (ROOT / "docs" / "reference.md").read_text("utf-8")
    assert [name for name in re.findall(r"ORCHESTRA_[A-Z_]+", CHINESE) if f"`{name}`" not in known] == []


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readme_leads_here_from_its_first_screen(readme: str) -> None:
    first = (ROOT / readme).read_text("utf-8").splitlines()[:30]
    assert any("docs/lesson.md" in each for each in first)
