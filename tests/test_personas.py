"""The shipped personas, the folders they are found in, and the guard before a persona file."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from orchestra.agents import persona_file, persona_yaml
from orchestra.agents.personas import Library, shipped
from orchestra.errors import ConfigError, PersonaInvalid, PersonaMissing
from orchestra.model.persona import Limits, LooksUp
from orchestra.settings import Settings

HEAD = "name: lawyer\ndescription: {en: Knows the law.}\n"
BODY = "<!-- zh -->\n你是法律专家。\n<!-- en -->\nYou are a lawyer.\n"
SHIPPED = ["computer_scientist", "general", "lawyer", "researcher", "standardization_expert", "support", "translator"]


def written(folder: Path, name: str = "lawyer", text: str = f"---\n{HEAD}---\n{BODY}") -> Path:
    path = folder / f"{name}.md"
    path.write_text(text, "utf-8")
    return path


# --- the shipped ones


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_persona_is_whole(name: str) -> None:
    persona = Library([shipped()]).persona(name)
    assert persona.name == name
    assert set(persona.seed_memory) == set(persona.title) == set(persona.description) == {"zh", "en"}
    assert len(re.findall("[\u4e00-\u9fff]", persona.speaks("zh"))) <= 250
    assert len(persona.speaks("en").split()) <= 160
    assert not re.search("[\u4e00-\u9fff]", persona.speaks("en"))
    assert len(persona.examples) >= 4
    assert persona.options.max_tokens
    assert persona.options.temperature is not None
    assert persona.options.num_ctx is None


def test_the_shipped_seed_memories_keep_their_rules() -> None:
    for persona in Library([shipped()]).all():
        zh, en = persona.speaks("zh"), persona.speaks("en").lower()
        assert "不知道就说不知道" in zh or "记不准就明说" in zh or "材料不够就说明" in zh or "不认识的词" in zh, persona.name
        assert "never invent" in en, persona.name
        assert "不编造" in zh, persona.name
        assert "stay in this role" in en, persona.name
        assert "始终保持" in zh, persona.name


def test_the_shipped_personas_are_told_apart() -> None:
    everybody = Library([shipped()]).all()
    for language in ("zh", "en"):
        assert len({persona.titled(language) for persona in everybody}) == len(everybody)
        assert len({persona.described(language) for persona in everybody}) == len(everybody)
    examples = [example for persona in everybody for example in persona.examples]
    assert len(set(examples)) == len(examples)
    assert {persona.name for persona in everybody if persona.looks_up} == {"researcher"}
    assert {persona.name for persona in everybody if not persona.follows_language} == {"translator"}


def test_the_coordinator_names_experts_that_there_are() -> None:
    library = Library([shipped()])
    assert set(library.persona("standardization_expert").experts) == {"computer_scientist", "lawyer"}
    for persona in library.all():
        assert set(persona.experts) <= set(library.names())


# --- where they are found


def test_the_first_folder_wins(tmp_path: Path) -> None:
    named, home = tmp_path / "named", tmp_path / "home"
    for folder, words in ((named, "from the named folder"), (home / "personas", "from the data folder")):
        folder.mkdir(parents=True)
        written(folder, text=f"---\n{HEAD}---\nYou are a lawyer {words}.\n")
    written(home / "personas", "baker", "---\nname: baker\ndescription: {en: Bakes.}\n---\nYou bake.\n")
    library = Library.of(Settings(personas=str(named), home=str(home)))
    assert library.names() == sorted([*SHIPPED, "baker"])
    assert library.persona("lawyer").speaks("en") == "You are a lawyer from the named folder."
    assert Library.of(Settings(home=str(home))).persona("lawyer").speaks("en").endswith("data folder.")
    assert "law" in Library.of(Settings(home=str(tmp_path / "none"))).persona("lawyer").speaks("en")


def test_never_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "personas").mkdir()
    for folder in (tmp_path, tmp_path / "personas"):
        written(folder, "intruder", "---\nname: intruder\ndescription: {en: x}\n---\nYou are somebody else.\n")
    monkeypatch.chdir(tmp_path)
    library = Library.of(Settings(home=str(tmp_path / "home")))
    assert library.names() == SHIPPED
    with pytest.raises(PersonaMissing):
        library.persona("intruder")


def test_a_missing_one_names_the_nearest() -> None:
    library = Library([shipped()])
    with pytest.raises(PersonaMissing) as caught:
        library.persona("layer")
    assert "lawyer" in caught.value.message("en")
    assert "lawyer" in caught.value.message("zh")
    with pytest.raises(PersonaMissing) as caught:
        library.persona("zzzzzz")
    assert caught.value.message("en") == "there is no persona 'zzzzzz'"


def test_nobody_who_cannot_answer_is_offered(tmp_path: Path) -> None:
    (tmp_path / "lawyers.md").write_text("no persona")
    for name in ("lawyers2", "layer"):
        with pytest.raises(PersonaMissing, match=r"there is: lawyer$"):
            Library([tmp_path, shipped()]).persona(name)


@pytest.mark.parametrize("name", ["Lawyer", "ＬＡＷＹＥＲ"])
def test_case_and_width_of_a_name_do_not_matter(name: str) -> None:
    assert Library([shipped()]).persona(name).name == "lawyer"


@pytest.mark.parametrize("form", ["../secret", "{absolute}", "sub/../../secret", "secret\x00", "．．/secret", "..", ".", "", "a" * 65])
def test_what_is_no_name_never_becomes_a_path(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "personas"
    (folder / "sub").mkdir(parents=True)
    secret = written(tmp_path, "secret", "---\nname: secret\ndescription: {en: x}\n---\nSecret.\n")
    with pytest.raises(PersonaMissing):
        Library([folder]).persona(form.format(absolute=secret.with_suffix("")))


def test_links_and_pipes_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "personas"
    folder.mkdir()
    (folder / "lawyer.md").symlink_to(written(tmp_path))
    os.mkfifo(folder / "pipe.md")
    (folder / "folder.md").mkdir()
    (folder / "gone.md").symlink_to(tmp_path / "nowhere.md")
    for name in ("lawyer", "pipe", "folder", "gone"):
        with pytest.raises(PersonaInvalid):
            Library([folder]).persona(name)


@pytest.mark.parametrize(
    ("error", "home", "en", "zh"),
    [
        (FileNotFoundError, True, "", ""),
        (PermissionError, True, "the folder {folder} cannot be read", "目录 {folder} 无法读取"),
        (FileNotFoundError, False, "there is no folder {folder}", "目录 {folder} 不存在"),
        (NotADirectoryError, False, "there is no folder {folder}", "目录 {folder} 不存在"),
        (PermissionError, False, "the folder {folder} cannot be read", "目录 {folder} 无法读取"),
    ],
)
def test_a_folder_that_was_named_is_there_and_can_be_read(
    error: type[OSError], home: bool, en: str, zh: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listed(folder: Path) -> list[str]:
        if folder == bad:
            raise error(1, "no", str(folder))
        return []

    bad = tmp_path / "home" / "personas" if home else tmp_path / "named"
    settings = Settings(personas="" if home else str(bad), home=str(tmp_path / "home"))
    monkeypatch.setattr("orchestra.agents.personas.os.listdir", listed)
    if not en:
        Library.of(settings)
        return
    with pytest.raises(ConfigError) as caught:
        Library.of(settings)
    assert en.format(folder=bad) in caught.value.message("en")
    assert zh.format(folder=bad) in caught.value.message("zh")
    assert ("ORCHESTRA_HOME" if home else "ORCHESTRA_PERSONAS (--personas)") in caught.value.hint("en")


# --- the guard


def test_a_file_in_full(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        text="---\nname: lawyer\ntitle: {zh: 法律专家, en: Lawyer}\ndescription: {zh: 懂法, en: Knows the law.}\n"
        "examples: [问题, A question]\nexperts: [general]\nmodel: qwen2.5:7b\n"
        "options: {temperature: 1, max_tokens: 50, stop: ['用户:'], seed: 7}\n---\n" + BODY,
    )
    persona = persona_file.read(path)
    assert persona.seed_memory == {"zh": "你是法律专家。", "en": "You are a lawyer."}
    assert (persona.model, persona.examples, persona.experts) == ("qwen2.5:7b", ("问题", "A question"), ("general",))
    assert (persona.options.temperature, persona.options.max_tokens, persona.options.stop) == (1, 50, ("用户:",))


def test_tools_limits_and_languages(tmp_path: Path) -> None:
    more = (
        "tools: [search, 'knowledge: our handbook', general, 'http://localhost:5000/chat', {knowledge: statutes}]\n"
        "experts: [general, support]\nknowledge: [statutes]\nlanguages: [en]\nlimits: {steps: 3, seconds: 60, tokens: 4000}\n"
    )
    persona = persona_file.read(written(tmp_path, text=f"---\n{HEAD}{more}---\n{BODY}"))
    assert persona.looks_up == LooksUp(search=True, knowledge=("statutes", "our handbook"))
    assert persona.experts == ("general", "support", "http://localhost:5000/chat")
    assert persona.tools == ("search", "knowledge: statutes", "knowledge: our handbook", *persona.experts)
    assert persona.limits == Limits(steps=3, seconds=60, tokens=4000)
    assert persona.languages == ("en",)
    plain = persona_file.read(written(tmp_path))
    assert (bool(plain.looks_up), plain.tools, plain.limits, plain.languages) == (False, (), Limits(), ("zh", "en"))


def test_a_body_without_sections_is_in_its_own_language(tmp_path: Path) -> None:
    assert persona_file.read(written(tmp_path, text=f"---\n{HEAD}---\n你是法律专家。\n")).seed_memory == {"zh": "你是法律专家。"}


def test_nothing_in_a_text_is_filled_in(tmp_path: Path) -> None:
    words = "Stay {{as}} {0.__class__} %s ${HOME} `id` you are."
    assert persona_file.read(written(tmp_path, text=f"---\n{HEAD}---\n{words}\n")).speaks("en") == words


def test_windows_line_ends_and_a_byte_order_mark_are_fine(tmp_path: Path) -> None:
    text = "\ufeff" + f"---\n{HEAD}---\n{BODY}".replace("\n", "\r\n")
    path = tmp_path / "lawyer.md"
    path.write_bytes(text.encode())
    assert persona_file.read(path).speaks("en") == "You are a lawyer."


# each with the line that the error must name and a word of what it must say
BROKEN = {
    "no front matter": ("You are a lawyer.", 1, "first line"),
    "no end": (f"---\n{HEAD}{BODY}", 1, "closing"),
    "empty front matter": (f"---\n---\n{BODY}", 2, "key: value"),
    "a list": (f"---\n- a\n---\n{BODY}", 2, "key: value"),
    "another name": (f"---\nname: other\ndescription: {{en: x}}\n---\n{BODY}", 2, "differs"),
    "upper case name": (f"---\nname: Lawyer\ndescription: {{en: x}}\n---\n{BODY}", 2, "name"),
    "name with a path": (f"---\nname: ../lawyer\ndescription: {{en: x}}\n---\n{BODY}", 2, "name"),
    "no name": (f"---\ndescription: {{en: x}}\n---\n{BODY}", 2, "missing"),
    "no description": (f"---\nname: lawyer\n---\n{BODY}", 2, "description"),
    "unknown key": (f"---\n{HEAD}colour: red\n---\n{BODY}", 4, "colour"),
    "unknown option": (f"---\n{HEAD}options:\n  temperature: 1\n  num_ctx: 4096\n---\n{BODY}", 6, "num_ctx"),
    "unknown language": (f"---\n{HEAD}title:\n  en: a\n  fr: b\n---\n{BODY}", 6, "title.fr"),
    "number for text": (f"---\n{HEAD}model: 3\n---\n{BODY}", 4, "model"),
    "text for number": (f"---\n{HEAD}options: {{temperature: warm}}\n---\n{BODY}", 4, "temperature"),
    "truth for number": (f"---\n{HEAD}options: {{max_tokens: yes}}\n---\n{BODY}", 4, "max_tokens"),
    "out of range": (f"---\n{HEAD}options: {{temperature: -1}}\n---\n{BODY}", 4, "temperature"),
    "no number": (f"---\n{HEAD}options: {{temperature: .nan}}\n---\n{BODY}", 4, "temperature"),
    "alias": (f"---\n{HEAD}title: &a {{en: x}}\nexamples: *a\n---\n{BODY}", 4, "anchors"),
    "alias alone": (f"---\n{HEAD}examples: *a\n---\n{BODY}", 4, "anchors"),
    "tag": (f"---\n{HEAD}model: !!python/name:os.system ''\n---\n{BODY}", 4, "tags"),
    "own tag": (f"---\n{HEAD}model: !secret x\n---\n{BODY}", 4, "tags"),
    "merge": (f"---\n{HEAD}<<: {{model: x}}\n---\n{BODY}", 4, "plain word"),
    "duplicate": (f"---\n{HEAD}name: lawyer\n---\n{BODY}", 4, "twice"),
    "nested duplicate": (f"---\n{HEAD}title:\n  en: a\n  en: b\n---\n{BODY}", 6, "twice"),
    "duplicate in quotes": (f"---\n{HEAD}'name': lawyer\n---\n{BODY}", 4, "twice"),
    "a list as key": (f"---\n{HEAD}[a, b]: c\n---\n{BODY}", 4, "plain word"),
    "deep": (f"---\n{HEAD}title: {'[' * 11}{']' * 11}\n---\n{BODY}", 4, "deeper"),
    "very deep": (f"---\n{HEAD}title: {'[' * 16000}\n---\n{BODY}", 4, "deeper"),
    "many keys": (f"---\n{HEAD}" + "".join(f"k{n}: 1\n" for n in range(1001)) + f"---\n{BODY}", 500, "1000"),
    "many items": (f"---\n{HEAD}examples: [{'a, ' * 5000}a]\n---\n{BODY}", 4, "1000"),
    "many lines": (f"---\n{HEAD}examples:\n" + "  - a\n" * 2500 + f"---\n{BODY}", 996, "1000"),
    "deep in lines": (f"---\n{HEAD}title:\n" + "".join(f"{' ' * n}a:\n" for n in range(1, 12)) + f"---\n{BODY}", 13, "deeper"),
    "a long text": (f"---\n{HEAD}title: {{en: \"" + "\\x41" * 4000 + f"\"}}\n---\n{BODY}", 4, "title.en"),
    "long comments": (f"---\n{HEAD}" + "#\n" * 8000 + f"colour: red\n---\n{BODY}", 8004, "colour"),
    "not YAML": (f"---\n{HEAD}title: {{en: x\n---\n{BODY}", 4, "the { that opens here"),
    "a tab": (f"---\n{HEAD}title:\n\ten: x\n---\n{BODY}", 5, "tab"),
    "two documents": (f"---\n{HEAD}--- \n---\n{BODY}".replace("--- \n", "...\n--- b\n"), 5, "second document"),
    "a control character": (f"---\n{HEAD}model: a\x07b\n---\n{BODY}", 4, "character"),
    "an endless number": (f"---\n{HEAD}options: {{seed: {'9' * 5000}}}\n---\n{BODY}", 4, "read"),
    "no such day": (f"---\n{HEAD}model: 2024-02-31\n---\n{BODY}", 4, "read"),
    "no seed memory": (f"---\n{HEAD}---\n\n", 5, "no seed memory"),
    "text before": (f"---\n{HEAD}---\nHello\n{BODY}", 5, "before"),
    "section twice": (f"---\n{HEAD}---\n{BODY}<!-- zh -->\n再说一次\n", 9, "twice"),
    "empty section": (f"---\n{HEAD}---\n<!-- zh -->\n\n<!-- en -->\nYou.\n", 5, "empty"),
    "section of another language": (f"---\n{HEAD}---\n<!-- en -->\nYou.\n<!-- fr -->\nVous.\n", 7, "fr"),
    "not UTF-8": (f"---\n{HEAD}---\n你是律师", 5, "UTF-8"),
    "languages of none": (f"---\n{HEAD}languages: []\n---\n{BODY}", 4, "languages"),
    "another language": (f"---\n{HEAD}languages: [zh, fr]\n---\n{BODY}", 4, "languages.1"),
    "a language alone": (f"---\n{HEAD}languages: zh\n---\n{BODY}", 4, "languages"),
    "yes for a language": (f"---\n{HEAD}follows_language: 'no'\n---\n{BODY}", 4, "follows_language"),
    "tools as a text": (f"---\n{HEAD}tools: search\n---\n{BODY}", 4, "tools"),
    "a tool of upper case": (f"---\n{HEAD}tools:\n  - search\n  - Lawyer\n---\n{BODY}", 6, "tools.1"),
    "a tool with a path": (f"---\n{HEAD}tools: [../lawyer]\n---\n{BODY}", 4, "tools.0"),
    "a tool at a file": (f"---\n{HEAD}tools: ['file:///etc/passwd']\n---\n{BODY}", 4, "tools.0"),
    "a tool that is a mapping": (f"---\n{HEAD}tools: [{{shell: rm}}]\n---\n{BODY}", 4, "tools.0"),
    "two tools in one": (f"---\n{HEAD}tools: [{{knowledge: a, search: b}}]\n---\n{BODY}", 4, "tools.0"),
    "knowledge without a name": (f"---\n{HEAD}tools: [{{knowledge: ''}}]\n---\n{BODY}", 4, "tools.0"),
    "too many tools": (f"---\n{HEAD}tools: [{', '.join(f't{n}' for n in range(17))}]\n---\n{BODY}", 4, "tools"),
    "an expert that is a number": (f"---\n{HEAD}experts: [3]\n---\n{BODY}", 4, "experts.0"),
    "unknown limit": (f"---\n{HEAD}limits:\n  calls: 3\n---\n{BODY}", 5, "limits.calls"),
    "a limit below zero": (f"---\n{HEAD}limits: {{steps: -1}}\n---\n{BODY}", 4, "limits.steps"),
    "a limit in words": (f"---\n{HEAD}limits: {{seconds: long}}\n---\n{BODY}", 4, "limits.seconds"),
    "an endless limit": (f"---\n{HEAD}limits: {{seconds: .inf}}\n---\n{BODY}", 4, "limits.seconds"),
    "half a token": (f"---\n{HEAD}limits: {{tokens: 0.5}}\n---\n{BODY}", 4, "limits.tokens"),
    "limits as a list": (f"---\n{HEAD}limits: [3]\n---\n{BODY}", 4, "limits"),
    "an empty example": (f"---\n{HEAD}examples:\n  - ''\n---\n{BODY}", 5, "examples.0"),
    "a long title": (f"---\n{HEAD}title: {{en: {'x' * 2001}}}\n---\n{BODY}", 4, "title.en"),
    "an empty name": (f"---\nname: ''\ndescription: {{en: x}}\n---\n{BODY}", 2, "name"),
    "a name of full width": (f"---\nname: ｌawyer\ndescription: {{en: x}}\n---\n{BODY}", 2, "name"),
    "a name in two lines": (f"---\nname: \"lawyer\\n\"\ndescription: {{en: x}}\n---\n{BODY}", 2, "name"),
    "a long front matter": (f"---\n{HEAD}" + "#\n" * 30000 + f"---\n{BODY}", 1, "16384"),
    "too large": (f"---\n{HEAD}---\n{BODY}" + "x" * 65536, 0, "64 KiB"),
}


@pytest.mark.parametrize(
    ("case", "en", "zh"),
    [
        ("unknown limit", "limits.calls: is not known; there is: steps, seconds, tokens", "可用的有：steps, seconds, tokens"),
        ("a limit below zero", "limits.steps: must be at least 0", "不能小于 0"),
        ("another language", "languages.1: must be 'zh' or 'en'", "应为以下之一"),
        ("a tool of upper case", "a tool is search, knowledge: NAME, a persona's name or an address", "工具应为"),
        ("a long title", "is longer than 2000 characters", "超过 2000 个字符"),
    ],
)
def test_what_a_value_must_be_is_said_in_words(case: str, en: str, zh: str, tmp_path: Path) -> None:
    with pytest.raises(PersonaInvalid) as caught:
        persona_file.read(written(tmp_path, text=BROKEN[case][0]))
    assert en in caught.value.message("en")
    assert zh in caught.value.message("zh")


# each with its place and what it must say; PyYAML's own words are of tokens and in English alone
UNREADABLE = {
    "title:\n\ten: x\n": ("5:1", "a tab stands here; indent with spaces", "请用空格缩进"),
    "title:\n  en: a\n zh: b\n": ("6:2", "the indent does not fit", "缩进与上面的行不一致"),
    "title:\n  en: a\n   zh: b\n": ("6:6", "no colon can stand here", "此处不能有冒号"),
    "model: a: b\n": ("4:9", "put the value in quotes", "给值加引号"),
    "title: {en: x\n": ("4:8", "the { that opens here is not closed", "此处的 { 没有闭合"),
    "examples: [a, 'b' 'c']\n": ("4:11", "lacks a comma", "缺少逗号"),
    "examples: [a, b\nmodel: x\n": ("4:11", "the [ that opens here", "此处的 [ 没有闭合"),
    "examples: [bread?]\n": ("4:11", "lacks a comma or quotes", "或引号"),
    "model: \"x\n": ("4:8", "the quote that opens here is not closed", "此处的引号没有闭合"),
    "model\nexamples: []\n": ("4:1", "a key without a colon", "键后面缺少冒号"),
    "model: \"a\\qb\"\n": ("4:11", "is no escape", "不是有效的转义"),
    "model: |x\n  y\n": ("4:9", "begins on the next line", "应从下一行开始"),
    "model: @x\n": ("4:8", "goes in quotes", "请加引号"),
    "model: a\x07b\n": ("4:9", "a character that no text file has", "控制字符"),
    "examples: - a\n": ("4:11", "no list item can stand here", "此处不能是列表项"),
    "model: *x\n": ("4:8", "anchors and aliases are not allowed", "不允许使用锚点和别名"),
    "model: a\nmodel: b\n": ("5:1", "the key 'model' stands twice; the first time on line 4", "第一次在第 4 行"),
    "options: {seed: 99-99-99, deadline: 2024-02-31}\n": ("4:37", "a number or a date that cannot be read", "无法读取的数字或日期"),
}


@pytest.mark.parametrize("front", UNREADABLE)
def test_what_is_no_yaml_is_said_with_its_column_in_our_words(front: str, tmp_path: Path) -> None:
    place, en, zh = UNREADABLE[front]
    path = written(tmp_path, text=f"---\n{HEAD}{front}---\n{BODY}")
    with pytest.raises(PersonaInvalid) as caught:
        persona_file.read(path)
    assert caught.value.message("en").startswith(f"{path}:{place}: ")
    assert en in caught.value.message("en")
    assert zh in caught.value.message("zh")
    assert not re.search("[a-z]{3}", str(caught.value.facts["detail_zh"]).replace("model", "")), "no English in Chinese"


def test_all_faults_of_a_file_are_told(tmp_path: Path) -> None:
    front = "name: judge\ndescription: {fr: x}\noptoins: {}\noptions: {temperature: 9, top_p: hot}\n"
    path = written(tmp_path, text=f"---\n{front}---\n<!-- zh -->\n\n<!-- en -->\nYou.\n<!-- en -->\nYou.\n")
    with pytest.raises(PersonaInvalid) as caught:
        persona_file.read(path)
    assert caught.value.message("en") == f"{path}:2: the name 'judge' differs from the file's (and 6 more: orchestra personas check)"
    assert "（另有 6 处" in caught.value.message("zh")
    assert [(fault.facts["line"], str(fault.facts["detail"]).partition(":")[0]) for fault in caught.value.faults] == [
        (2, "the name 'judge' differs from the file's"), (3, "description.fr"), (4, "optoins"), (5, "options.temperature"),
        (5, "options.top_p"), (7, "the section zh is empty"), (11, "the section en stands twice; the first time on line 9"),
    ]  # fmt: skip
    assert all("more" not in fault.message("en") for fault in caught.value.faults)


def test_of_a_thousand_faults_some_are_told_and_the_others_counted(tmp_path: Path) -> None:
    path = written(tmp_path, text=f"---\n{HEAD}" + "".join(f"k{n}: 1\n" for n in range(400)) + f"---\n{BODY}")
    with pytest.raises(PersonaInvalid, match="and 399 more") as caught:
        persona_file.read(path)
    assert len(caught.value.faults) == persona_file.MOST_TOLD


def test_a_key_with_a_slip_is_told_its_neighbour(tmp_path: Path) -> None:
    with pytest.raises(PersonaInvalid, match=r"optoins: is not known; there is: options$"):
        persona_file.read(written(tmp_path, text=f"---\n{HEAD}optoins: {{}}\n---\n{BODY}"))


def test_no_fault_is_told_in_the_words_of_its_check(tmp_path: Path) -> None:
    for case in BROKEN.keys() - {"not UTF-8"}:
        with pytest.raises(PersonaInvalid) as caught:
            persona_file.read(written(tmp_path, text=BROKEN[case][0]))
        told = caught.value.message("en").removeprefix(str(tmp_path))
        assert not re.search(r"should|pattern|Input|sys\.|_Limits|valid", told), case


def test_there_are_enough_broken_files() -> None:
    assert len(BROKEN) >= 60


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_refused_with_its_line(case: str, tmp_path: Path) -> None:
    text, line, word = BROKEN[case]
    path = tmp_path / "lawyer.md"
    path.write_bytes(text.encode("gbk" if case == "not UTF-8" else "utf-8"))
    took = []
    for _ in range(3):  # the fastest: what the process collects of other tests' memory meanwhile is not the guard's
        started = time.process_time()
        with pytest.raises(PersonaInvalid) as caught:
            persona_file.read(path)
        took.append(time.process_time() - started)
        if took[-1] < 0.1:
            break
    assert min(took) < 0.1
    assert caught.value.facts["line"] == line
    assert word in caught.value.facts["detail"]
    assert str(path)[:100] in caught.value.message("zh")
    assert re.search("[\u4e00-\u9fff]", caught.value.facts["detail_zh"])


@pytest.mark.parametrize(
    ("name", "value", "case"),
    [("DEEPEST", 50, "deep"), ("MOST_NODES", 5000, "many keys"), ("LARGEST_FILE", 2**20, "too large"),
     ("LONGEST_FRONT", 2**20, "a long front matter")],
)
def test_red_control_the_limits_decide(name: str, value: int, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(persona_yaml if hasattr(persona_yaml, name) else persona_file, name, value)
    try:
        persona_file.read(written(tmp_path, text=BROKEN[case][0]))
        said = ""
    except PersonaInvalid as refused:  # by the next guard
        said = str(refused.facts["detail"])  # not the whole message: it has a folder's name, and any number may be in that
    assert BROKEN[case][2] not in said, "refused by the limit that was lifted"
