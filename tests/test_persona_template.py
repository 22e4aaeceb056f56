"""The beginning of a persona of one's own: sound as it stands, never over a file, and taken up at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import Line, line
from test_personas import BROKEN

from orchestra.agents.persona_file import read
from orchestra.agents.persona_template import begin, template
from orchestra.agents.personas import Library
from orchestra.cli import words
from orchestra.errors import PersonaInvalid, UsageError

__all__ = ["line"]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ["tester", "tax_adviser-2", "123", "yes", "null", "-a", "---", "a" * 64])
def test_a_new_file_is_sound(name: str, language: str, tmp_path: Path) -> None:
    path = begin(name, tmp_path / "none" / "yet", language)
    persona = read(path)
    assert (persona.name, path.name) == (name, f"{name}.md")
    assert set(persona.seed_memory) == set(persona.description) == {language}
    assert persona.titled(language).strip()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_it_leaves_out_can_be_put_in(language: str, tmp_path: Path) -> None:
    path = tmp_path / "tester.md"
    # a comment that shows a key begins like one; what explains is a sentence
    path.write_text(re.sub(r"(?m)^# (?=(?:tools|languages|model|limits):|  )", "", template("tester", language)), "utf-8")
    persona = read(path)
    assert persona.tools == ("search", "knowledge: handbook", "lawyer", "http://localhost:5001")
    assert (persona.languages, persona.model, persona.limits.steps) == ((language,), "llama3", 3)


@pytest.mark.parametrize("there", ["lawyer.md", "Lawyer.md", "ｌawyer.md"])
def test_never_over_a_file(there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine", "utf-8")
    with pytest.raises(UsageError) as caught:
        begin("Lawyer", tmp_path, "en")
    assert there in caught.value.message("zh")
    assert [path.read_text("utf-8") for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("name", ["../lawyer", "", "con", "律师", "a b", "a" * 65])
def test_what_is_no_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        begin(name, tmp_path, "en")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        begin("tester", tmp_path / "file" / "personas", "en")


def test_on_the_command_line(line: Line, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = line("personas", "new", "Tester", "--json")
    assert done.json == {"name": "tester", "path": str(home / "personas" / "tester.md"), "other": ""}, done
    assert Library([home / "personas"]).persona("tester").name == "tester"
    assert line("personas", "check", "tester").code == 0
    again = line("personas", "new", "tester", "--json")
    assert (again.code, again.error["code"]) == (2, "usage_error")
    hidden = line("personas", "new", "lawyer")
    assert hidden.out == f"{home / 'personas' / 'lawyer.md'}\n"
    assert "lawyer.md" in hidden.err, "what it stands before now"
    monkeypatch.setattr(words, "LANGUAGE", "zh")
    assert line("personas", "new", "examiner").code == 0
    assert "种子记忆" in (home / "personas" / "examiner.md").read_text("utf-8")
    listed = {each["name"]: each for each in line("personas", "list", "--json").json["personas"]}
    assert listed["lawyer"]["path"] == str(home / "personas" / "lawyer.md")


def test_check_explains_every_broken_file(line: Line, tmp_path: Path) -> None:
    files = []
    for number, (case, (text, _, _)) in enumerate(BROKEN.items()):
        path = tmp_path / str(number) / "lawyer.md"
        path.parent.mkdir()
        path.write_bytes(text.encode("gbk" if case == "not UTF-8" else "utf-8"))
        files.append(str(path))
    done = line("personas", "check", *files, "--json")
    assert done.code == PersonaInvalid.exit_code
    assert [row["path"] for row in done.json["personas"] if not row["ok"]] == files
    assert all(row["detail"].startswith(f"{row['path']}:") for row in done.json["personas"])


def test_check_names_both_files_of_one_name(line: Line, home: Path) -> None:
    own = home / "personas"
    path = begin("tester", own, "en")
    (own / "Tester.md").write_text(path.read_text("utf-8"), "utf-8")
    rows = {row["path"]: row["detail"] for row in line("personas", "check", "--json").json["personas"] if not row["ok"]}
    assert set(rows) == {str(path), str(own / "Tester.md")}
    assert "Tester.md" in rows[str(path)]
    assert "tester.md" in rows[str(path)]
    assert line("personas", "check", "tester").code == PersonaInvalid.exit_code
    assert line("chat", "Hello", "--persona", "tester").code == PersonaInvalid.exit_code


def test_list_shows_only_columns_that_say_something(line: Line, home: Path) -> None:
    assert "MODEL" not in line("personas", "list").out
    path = begin("tester", home / "personas", "en")
    path.write_text(path.read_text("utf-8").replace("# model: llama3", "model: qwen2.5:7b"), "utf-8")
    lines = line("personas", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "TITLE", "LANGUAGES", "MODEL", "FROM", "DESCRIPTION"]
    assert "qwen2.5:7b" in next(each for each in lines if each.startswith("tester "))
    shown = line("personas", "show", "researcher").out
    assert "tools: search\n" in shown
