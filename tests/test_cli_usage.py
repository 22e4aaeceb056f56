"""A line that cannot be taken is answered in one language, and in words that say what a value must be."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path

import pytest
from command_line import Line, chinese, line, process

from orchestra import StandIn
from orchestra.errors.system import why

__all__ = ["chinese", "line"]
BAKER = "---\nname: baker\ndescription: {en: Bakes.}\nexamples: ['How do I bake bread?']\n---\nYou bake.\n"

SAID = {
    ("ask",): ("Missing argument 'QUESTION'.", "缺少参数 'QUESTION'"),
    ("integrate", "x", "--steps", "0"): ("'--steps' must be at least 1", "'--steps' 不能小于 1"),
    ("integrate", "x", "--steps", "few"): ("'--steps' must be a whole number", "'--steps' 应为整数"),
    ("integrate", "x", "--steps", "1.5"): ("'--steps' must be a whole number", "'--steps' 应为整数"),
    ("ask", "x", "-t", "9"): ("'--temperature' / '-t' must be at most 5", "'--temperature' / '-t' 不能大于 5"),
    ("ask", "x", "-t", "hot"): ("'--temperature' / '-t' must be a number", "'--temperature' / '-t' 应为数字"),
    ("ask", "x", "--lang", "fr"): ("'--lang' must be 'zh' or 'en'", "'--lang' 应为以下之一：'zh'、'en'"),
    ("chat", "x", "--on-repetition", "go"): (
        "'--on-repetition' must be 'stop', 'skip' or 'ignore'", "'--on-repetition' 应为以下之一：'stop'、'skip'、'ignore'"
    ),
    ("ask", "a", "b", "c"): ("Got unexpected extra argument(s) (b c)", "多余的参数：b c（含空格的文字请加引号）"),
    ("ask", "x", "--lang"): ("Option '--lang' requires an argument.", "选项 '--lang' 需要一个值"),
    ("ask", "x", "--json=3"): ("Option '--json' does not take a value.", "选项 '--json' 不带值"),
    ("ask", "--nothing"): ("No such option: --nothing", "没有选项 --nothing"),
    ("ask", "--modle", "m"): ("No such option: --modle; there is: --model", "没有选项 --modle；相近的有：--model"),
    ("nothing",): ("No such command 'nothing'.", "没有命令 'nothing'"),
    ("personas", "chekc"): ("No such command 'chekc'. Did you mean 'check'?", "没有命令 'chekc'；相近的有：'check'"),
}  # fmt: skip


@pytest.mark.parametrize("arguments", SAID)
def test_what_is_wrong_with_a_line_is_said(line: Line, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for language, label, said in zip(("en", "zh"), ("error: ", "错误： "), SAID[arguments], strict=True):
        monkeypatch.setattr("orchestra.cli.words.LANGUAGE", language)
        done = line(*arguments)
        assert done.code == 2
        assert done.err.splitlines()[0] == label + said
        if language == "zh":
            assert not re.search("Input|Invalid|Missing|unexpected|requires|such|not one of", done.err)


# --- the folder of personas, anywhere on the line


@pytest.fixture
def bakery(tmp_path: Path) -> str:
    folder = tmp_path / "bakery"
    folder.mkdir()
    (folder / "baker.md").write_text(BAKER, "utf-8")
    return str(folder)


def test_a_folder_of_personas_may_be_named_anywhere(line: Line, bakery: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ORCHESTRA_PERSONAS", raising=False)
    for arguments in (
        ("personas", "show", "baker", "--json", "--personas", bakery), ("--personas", bakery, "personas", "show", "baker", "--json"),
        ("personas", f"--personas={bakery}", "show", "baker", "--json"), ("personas", "show", "--personas", bakery, "baker", "--json"),
    ):  # fmt: skip
        assert line(*arguments).json["name"] == "baker"
        assert "ORCHESTRA_PERSONAS" not in os.environ, "it is for one line"
    assert line("route", "How do I bake bread?", "--personas", bakery).out == "baker\n"
    assert line("personas", "show", "baker", "--json").error["code"] == "persona_missing", "the red control"
    monkeypatch.setenv("ORCHESTRA_PERSONAS", "/nowhere")
    assert line("personas", "list", "--personas", bakery).code == 0
    assert os.environ["ORCHESTRA_PERSONAS"] == "/nowhere"


def test_a_folder_that_is_not_there_is_said(line: Line) -> None:
    refused = line("personas", "list", "--personas", "/nowhere", "--json").error
    assert refused["code"] == "config_error"
    assert "there is no folder /nowhere" in refused["message"]
    assert line("personas", "list", "--personas").err.startswith("error: Option '--personas' requires an argument.")
    assert line("route", "--", "--personas").code == 0


def test_a_dialogue_is_with_one_of_that_folder(bakery: str, standin: StandIn) -> None:
    standin.script("Knead it.")
    done = process("chat", "How?", "--persona", "baker", "--personas", bakery, OLLAMA_HOST=standin.url)
    assert (done.code, done.out) == (0, "Knead it.\n")
    assert "You bake." in str(standin.asked("/api/chat")[0]["messages"][0])


# --- what the system refuses


@pytest.mark.usefixtures("chinese")
def test_the_systems_reasons_are_in_chinese_too(line: Line, tmp_path: Path) -> None:
    assert "/nowhere：文件或目录不存在" in line("knowledge", "add", "/nowhere").err
    assert "文件或目录不存在" in line("sessions", "import", "/nowhere").err
    assert "文件或目录不存在" in line("generate", "x", "--schema", "/nowhere").err
    (tmp_path / "list.json").write_text("[]")
    assert "schema 应为 JSON 对象" in line("generate", "x", "--schema", str(tmp_path / "list.json")).err
    with socket.create_server(("127.0.0.1", 0)) as other:
        said = line("standin", "--port", str(other.getsockname()[1])).err
    assert "地址已被占用" in said
    assert "in use" not in said


@pytest.mark.parametrize(
    ("error", "en", "zh"),
    [
        (OSError(errno.EACCES, "Permission denied"), "Permission denied", "没有权限"),
        (OSError(errno.EADDRINUSE, "Address already in use"), "Address already in use", "地址已被占用"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known", "无法解析该主机名"),
        (OverflowError("port must be 0-65535."), "port must be 0-65535.", "端口应在 0 到 65535 之间"),
        (OSError(9999, "Something new"), "Something new", "Something new"),
        (OSError("no number"), "no number", "no number"),
    ],
)
def test_why_the_system_refused(error: Exception, en: str, zh: str) -> None:
    assert why(error) == (en, zh)
