"""What `personas check` finds between files, and what one broken file does to those who use the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Line, chinese, line  # noqa: F401 - fixtures

from orchestra import Orchestra, StandIn
from orchestra.agents.persona_check import Remark, remarks
from orchestra.agents.persona_file import line_naming
from orchestra.agents.personas import Library
from orchestra.errors import PersonaInvalid

TEXT = "---\nname: {name}\ndescription: {{en: Bakes.}}\n{more}---\nYou bake.\n"
BROKEN = TEXT.format(name="broken", more="colour: red\n")


@pytest.fixture
def own(home: Path) -> Path:
    folder = home / "personas"
    folder.mkdir(parents=True)
    return folder


def written(folder: Path, name: str, more: str = "") -> Path:
    path = folder / f"{name}.md"
    path.write_text(TEXT.format(name=name, more=more), "utf-8")
    return path


def found(folder: Path, name: str) -> list[Remark]:
    library = Library([folder])
    return remarks(library.persona(name), folder / f"{name}.md", library, lambda base: base == "handbook")


# --- what every request sends


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("word " * 160, []),
        ("word " * 161, ["the seed memory has 161 words; 160 are enough"]),
        ("<!-- zh -->\n" + "法" * 250 + "\n<!-- en -->\nYou bake.\n", []),
        ("<!-- zh -->\n" + "法" * 251 + "\n<!-- en -->\nYou bake.\n", ["the seed memory has 251 Han characters; 250 are enough"]),
    ],
)
def test_a_long_seed_memory_is_remarked_on(tmp_path: Path, body: str, said: list[str]) -> None:
    (tmp_path / "long.md").write_text("---\nname: long\ndescription: {en: Bakes.}\n---\n" + body, "utf-8")
    remarked = found(tmp_path, "long")
    assert [(remark.said.text("en"), remark.broken) for remark in remarked] == [(each, False) for each in said]


# --- between files


def test_experts_that_are_there_are_fine(tmp_path: Path) -> None:
    for name in ("baker", "miller", "farmer"):
        written(tmp_path, name)
    written(tmp_path, "chief", "experts: [baker, 'http://localhost:5000/chat']\ntools: [search, miller, knowledge: handbook]\n")
    written(tmp_path, "baker", "experts: [miller]\n")
    assert found(tmp_path, "chief") == found(tmp_path, "baker") == []


@pytest.mark.parametrize(
    ("more", "line", "words"),
    [
        ("experts:\n  - baker\n  - millre\n", 6, "expert millre is nobody; there is: miller"),
        ("tools:\n  - search\n  - chief\n", 6, "expert chief is the persona itself"),
        ("experts: [fox]\n", 4, "circle: chief -> fox -> hen -> chief"),
        ("examples: ['--- 6 ---']\nexperts: [baker, chief]\n", 5, "expert chief is the persona itself"),
    ],
)
def test_what_is_wrong_with_experts_is_named_with_its_line(tmp_path: Path, more: str, line: int, words: str) -> None:  # noqa: F811
    for name, experts in {"baker": "", "miller": "experts: [baker]\n", "fox": "experts: [miller, hen]\n", "hen": "experts: [chief]\n"}.items():
        written(tmp_path, name, experts)
    written(tmp_path, "chief", more)
    [remark] = found(tmp_path, "chief")
    assert (remark.line, remark.broken) == (line, True)
    assert words in remark.said.en
    assert "专家" in remark.said.zh


def test_a_circle_that_one_only_leads_into_is_that_of_others(tmp_path: Path) -> None:
    written(tmp_path, "chief", "experts: [fox]\n")
    written(tmp_path, "fox", "experts: [hen]\n")
    written(tmp_path, "hen", "experts: [fox]\n")
    assert found(tmp_path, "chief") == []
    assert found(tmp_path, "fox")
    assert found(tmp_path, "hen")


def test_a_base_may_be_made_later(tmp_path: Path) -> None:
    written(tmp_path, "chief", "tools:\n  - knowledge: handbook\n  - knowledge: the {laws}\n")
    [remark] = found(tmp_path, "chief")
    assert (remark.line, remark.broken) == (6, False)
    assert "the {laws} is not there yet" in remark.said.en


def test_the_line_of_what_is_named_nowhere(tmp_path: Path) -> None:
    assert line_naming(written(tmp_path, "chief", "experts: [fox]\n"), "hen") == 1


# --- on the command line


def test_check_says_what_is_wrong_between_files(line: Line, own: Path, tmp_path: Path) -> None:  # noqa: F811
    chief = written(own, "chief", "experts: [nobody]\nknowledge: [laws]\n")
    done = line("personas", "check", "chief", "--json")
    assert (done.code, done.json["ok"]) == (52, False)
    [row] = done.json["personas"]
    assert row["detail"] == f"{chief}:4: the expert nobody is nobody"
    assert row["warnings"] == [f"{chief}:5: the knowledge base laws is not there yet (orchestra knowledge add PATH --name laws)"]
    written(own, "chief", "experts: [lawyer]\nknowledge: [laws]\n")
    done = line("personas", "check")
    assert done.code == 0
    assert f"warn chief  {chief}:5: the knowledge base laws" in done.out
    (tmp_path / "laws.md").write_text("# Laws\n\nThere are some.\n")
    assert line("knowledge", "add", str(tmp_path / "laws.md"), "--name", "laws").code == 0
    assert "warn" not in line("personas", "check", "chief").out


def test_check_tells_every_fault_of_a_file(line: Line, own: Path) -> None:  # noqa: F811
    path = written(own, "chief", "colour: red\nmodel: 3\n")
    done = line("personas", "check", "chief")
    assert done.code == 52
    assert done.out.splitlines() == [
        f"FAIL chief  {path}:4: " + "colour: is not known; there is: name, title, description, languages, follows_language, examples, tools, "
        "experts, knowledge, model, options, limits",
        f"FAIL chief  {path}:5: model: must be a text (in quotes where it looks like something else)",
    ]
    [row] = line("personas", "check", "chief", "--json").json["personas"]
    assert len(row["faults"]) == 2
    written(own, "chief", "experts: [nobody, noone]\n")
    assert [told.partition(": ")[2] for told in line("personas", "check", "chief").out.splitlines()] == [
        "the expert nobody is nobody", "the expert noone is nobody",
    ]  # fmt: skip
    written(own, "chief", "".join(f"k{n}: 1\n" for n in range(30)))
    assert line("personas", "check", "chief").out.splitlines()[-1] == "FAIL chief  and 10 more of the kind"


def test_a_file_elsewhere_may_name_its_neighbours(line: Line, tmp_path: Path) -> None:  # noqa: F811
    written(tmp_path, "baker")
    chief = written(tmp_path, "chief", "experts: [baker, lawyer]\n")
    assert line("personas", "check", str(chief)).code == 0


@pytest.mark.usefixtures("chinese")
def test_check_in_chinese(line: Line, own: Path) -> None:  # noqa: F811
    written(own, "chief", "experts: [nobody]\nknowledge: [laws]\n")
    assert "没有名为 nobody 的专家" in line("personas", "check", "chief").out
    assert "尚不存在" in line("personas", "check", "chief").out


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_new_wrote_is_to_be_filled_in(line: Line, own: Path, language: str, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr("orchestra.cli.words.LANGUAGE", language)
    assert line("personas", "new", "miller").code == 0
    file = own / "miller.md"
    for part, words in (("seed memory", ("seed memory", "种子记忆")), ("examples", ("examples", "示例")), ("", ("", ""))):
        done = line("personas", "check", "miller")
        assert done.code == 0
        assert ("`personas new`" in done.out) == bool(part)
        assert words[language == "zh"] in done.out
        text = file.read_text("utf-8")
        if part == "seed memory":
            head, _, _ = text.partition("<!-- ")
            file.write_text(f"{head}<!-- {language} -->\nYou mill.\n", "utf-8")
        else:
            file.write_text(TEXT.format(name="miller", more=""), "utf-8")


# --- one broken file


def test_route_goes_on_and_says_which_is_left_out(line: Line, own: Path) -> None:  # noqa: F811
    path = own / "broken.md"
    path.write_text(BROKEN)
    done = line("route", "我的订单 12345 能加急吗？")
    assert (done.code, done.out) == (0, "support\n")
    warning = done.err.splitlines()[0]
    assert warning.startswith(f"warning: {path}:4: colour: is not known; ")
    assert warning.endswith("; broken is left out (orchestra personas check broken)")
    path.unlink()
    assert "warning" not in line("route", "我的订单 12345 能加急吗？").err


@pytest.mark.usefixtures("chinese")
def test_the_warning_is_in_chinese_and_reaches_no_terminal_control(line: Line, own: Path) -> None:  # noqa: F811
    (own / "broken.md").write_text(BROKEN.replace("colour", '"\\e[31mcolour"'))
    first = line("route", "我的订单 12345 能加急吗？").err.splitlines()[0]
    assert first.startswith("警告：")
    assert first.endswith("broken 未被采用（请运行：orchestra personas check broken）")
    assert "\x1b" not in first


def test_a_dialogue_and_a_task_go_on(own: Path, standin: StandIn, caplog: pytest.LogCaptureFixture) -> None:
    (own / "broken.md").write_text(BROKEN)
    with Orchestra(host=standin.url) as orchestra:
        for message in ("我的订单 12345 能加急吗？", "那退款呢？"):
            assert orchestra.session("one", persona="auto").ask(message, max_tokens=8).text
        assert orchestra.integrate("制定标准", panel=True, max_tokens=20).text
        with pytest.raises(PersonaInvalid):
            orchestra.session("two", persona="broken")
        with pytest.raises(PersonaInvalid):
            orchestra.integrate("制定标准", experts=["broken"])
    assert len([record for record in caplog.records if "broken is left out" in record.getMessage()]) == 1
