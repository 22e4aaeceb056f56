"""`sessions ...` and `personas ...`: what was said, listed, found, copied, carried away and brought back."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from command_line import Line, Terminal, bare, chinese, line, process  # noqa: F401 - fixtures

from orchestra.cli.tables import width
from orchestra.model.messages import Message
from orchestra.sessions.store import Store

DELIVERY = "Can you please expedite the delivery?"


@pytest.fixture
def store(home: Path) -> Store:
    """Two dialogues: one in English, one in Chinese that broke off."""
    with Store(home) as store:
        store.create("order-12345", history=[Message("user", DELIVERY), Message("assistant", "It is on its way.\nSoon.")], persona="support")
        store.create("订单", history=[Message("user", "你好"), Message("assistant", "您好！")], model="llama3", language="zh")
        journal = store.begin("订单", "订单什么时候到？")
        journal.append("明天上")
        journal.finish(status="interrupted")
    return store


pytestmark = pytest.mark.usefixtures("store")


def test_list(line: Line) -> None:  # noqa: F811
    sessions = line("sessions", "list", "--json").json["sessions"]
    assert [(each["name"], each["turns"], each["persona"]) for each in sessions] == [("订单", 2, None), ("order-12345", 1, "support")]
    head, *rows = line("sessions", "list").out.splitlines()
    assert head.startswith("NAME")
    assert [row.split()[0] for row in rows] == ["订单", "order-12345"]


def test_nothing_to_list(line: Line, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("ORCHESTRA_HOME", str(tmp_path))
    done = line("sessions", "list")
    assert (done.code, done.out) == (0, "")
    assert "orchestra chat" in done.err
    assert line("sessions", "list", "--json").json == {"sessions": []}
    assert line("sessions", "show", "--json").error["code"] == "usage_error"


def test_show_as_json(line: Line) -> None:  # noqa: F811
    whole = line("sessions", "show", "order-12345", "--json").json
    assert whole["session"] == "order-12345"
    assert [(m["role"], m["content"], m["status"]) for m in whole["messages"]] == [
        ("user", DELIVERY, "done"),
        ("assistant", "It is on its way.\nSoon.", "done"),
    ]
    last = line("sessions", "show", "--json").json
    assert last["session"] == "订单", "without a name it is the last one"
    assert (last["messages"][-1]["content"], last["messages"][-1]["status"]) == ("明天上", "interrupted")


def test_show_to_people(line: Line) -> None:  # noqa: F811
    done = line("sessions", "show", "订单")
    assert done.out == "> 你好\n您好！\n\n> 订单什么时候到？\n明天上 [interrupted]\n\n"
    assert done.err == "订单 · llama3\n"


def test_show_is_harmless(line: Line, home: Path) -> None:  # noqa: F811
    with Store(home) as store:
        store.create("evil\x1b]0;owned\x07", history=[Message("user", "\x1b[2Jhi\u202e"), Message("assistant", "\x9b31mred")])
    plain = line("sessions", "show").out + line("sessions", "list").out + line("sessions", "search", "red").out
    markdown = line("sessions", "export", "evil\x1b]0;owned\x07", "--format", "md").out
    objects = line("sessions", "show", "--json").out + line("sessions", "export", "evil\x1b]0;owned\x07").out
    for text in (plain, markdown, objects):
        assert not set(text) & set("\x1b\x07\x9b\u202e"), text
    assert "owned" not in plain
    assert json.loads(line("sessions", "show", "--json").out)["messages"][0]["content"] == "\x1b[2Jhi\u202e", "JSON keeps the value"


@pytest.mark.parametrize(("words", "session"), [(("expedite",), "order-12345"), (("订单",), "订单"), (("on", "its", "way"), "order-12345")])
def test_search(line: Line, words: tuple[str, ...], session: str) -> None:  # noqa: F811
    hits = line("sessions", "search", *words, "--json").json["hits"]
    assert hits[0]["session"] == session
    assert set(hits[0]) >= {"session", "role", "text", "created"}
    assert session in line("sessions", "search", *words).out


def test_search_finds_nothing(line: Line) -> None:  # noqa: F811
    assert line("sessions", "search", "zebra", "--json").json == {"hits": []}
    done = line("sessions", "search", "zebra")
    assert (done.code, done.out, done.err) == (0, "", "nothing was found for 'zebra'\n")


def test_fork_and_rename(line: Line) -> None:  # noqa: F811
    assert line("sessions", "fork", "订单", "copy", "--at", "1", "--json").json == {"session": "copy", "from": "订单", "turns": 1}
    assert line("sessions", "fork", "订单").out == "订单-2\n"
    assert line("sessions", "rename", "copy", "other", "--json").json == {"session": "other", "before": "copy"}
    assert len(line("sessions", "show", "other", "--json").json["messages"]) == 2
    done = line("sessions", "fork", "订单", "--at", "9", "--json")
    assert (done.code, done.error["code"]) == (2, "usage_error")
    assert line("sessions", "show", "copy", "--json").error["code"] == "session_missing"


def test_export_and_import(line: Line, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "out.jsonl"
    assert line("sessions", "export", "订单", "-o", str(file), "--json").json == {"session": "订单", "format": "jsonl", "file": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.read_text() == line("sessions", "export", "订单").out
    again = line("sessions", "export", "订单", "-o", str(file), "--json")
    assert (again.code, again.error["code"]) == (2, "usage_error")
    assert line("sessions", "import", str(file), "--name", "back", "--json").json == {"session": "back", "turns": 2}

    def said(name: str) -> list[tuple[str, str, str]]:
        return [(m["role"], m["content"], m["status"]) for m in line("sessions", "show", name, "--json").json["messages"]]

    assert said("back") == said("订单")
    assert line("sessions", "import", str(file), "--json").error["code"] == "session_exists"
    assert line("sessions", "import", str(tmp_path / "nothing"), "--json").error["code"] == "usage_error"
    assert line("sessions", "export", "order-12345", "--format", "md").out.startswith("# order-12345\n")
    assert line("sessions", "export", "order-12345", "--format", "xml", "--json").error["code"] == "usage_error"
    assert json.loads(line("sessions", "export", "订单", "--json").json["text"].splitlines()[0])["name"] == "订单"


def test_an_import_is_all_or_nothing(line: Line, tmp_path: Path) -> None:  # noqa: F811
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"role": "user", "content": "a"}\n{"role": "user", "content": "\xff"}\n')
    done = line("sessions", "import", str(bad), "--name", "bad", "--json")
    assert (done.code, done.error["code"]) == (49, "import_invalid")
    assert "line 2: not UTF-8 (byte 29" in done.error["message"]
    assert line("sessions", "show", "bad", "--json").error["code"] == "session_missing"


def test_an_import_from_a_pipe() -> None:
    lines = '\ufeff{"role": "user", "content": "一"}\n{"role": "assistant", "content": "a\\u2028b"}\n'
    done = process("sessions", "import", "-", "--name", "piped", "--json", stdin=lines.encode())
    assert done.json == {"session": "piped", "turns": 1}


def test_backup(line: Line, tmp_path: Path) -> None:  # noqa: F811
    file = tmp_path / "copy" / "sessions.db"
    assert line("sessions", "backup", str(file), "--json").error["code"] == "usage_error", "there is no such folder"
    file.parent.mkdir()
    done = line("sessions", "backup", str(file), "--json").json
    assert done == {"file": str(file), "bytes": file.stat().st_size}
    assert line("sessions", "backup", str(file), "--json").error["code"] == "usage_error", "it is never written over"
    with Store(file.parent) as copy:
        assert [record.name for record in copy.sessions()] == ["订单", "order-12345"]


def test_delete_asks_and_without_a_terminal_refuses() -> None:
    done = process("sessions", "delete", "订单", "--json")
    assert (done.code, done.error["code"]) == (2, "usage_error")
    assert "--yes" in done.error["hint"]
    for typed, code, left in (("n\n", 1, 2), ("y\n", 0, 1)):
        with Terminal("sessions", "delete", "订单") as screen:
            screen.until("[y/N]")
            screen.type(typed)
            assert screen.code() == code
        assert "订单 (2 turns)" in bare(screen.shown)
        assert len(process("sessions", "list", "--json").json["sessions"]) == left


def test_delete_several_or_none(line: Line) -> None:  # noqa: F811
    done = line("sessions", "delete", "订单", "nothing", "--yes", "--json")
    assert (done.code, done.error["code"]) == (46, "session_missing")
    assert len(line("sessions", "list", "--json").json["sessions"]) == 2
    done = line("sessions", "delete", "订单", "order-12345", "订单", "-y", "--json")
    assert done.json == {"deleted": ["订单", "order-12345"]}
    assert line("sessions", "search", "订单", "--json").json == {"hits": []}


@pytest.mark.usefixtures("chinese")
def test_in_chinese(line: Line) -> None:  # noqa: F811
    assert "已中断" in line("sessions", "show").out
    assert line("sessions", "list").out.startswith("名称")
    assert line("sessions", "search", "zebra").err == "没有找到 'zebra'\n"


def test_a_table_on_a_terminal_keeps_names_whole() -> None:
    with Terminal("personas", "list", COLUMNS="60") as screen:
        assert screen.code() == 0
    lines = bare(screen.shown).splitlines()
    assert any(each.startswith("standardization_expert ") for each in lines)
    assert max(map(width, lines)) <= 60


# --- personas


@pytest.fixture
def own(home: Path) -> Path:
    """A folder for the user's own personas."""
    folder = home / "personas"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


SOUND = "---\nname: {name}\ndescription:\n  en: Tries things out.\n---\nYou try things out.\n"


def test_personas_are_listed(line: Line, own: Path) -> None:  # noqa: F811
    (own / "tester.md").write_text(SOUND.format(name="tester"))
    (own / "broken.md").write_text("nothing")
    listed = {each["name"]: each for each in line("personas", "list", "--json").json["personas"]}
    assert {"computer_scientist", "lawyer", "standardization_expert", "tester", "broken"} <= set(listed)
    assert listed["lawyer"]["languages"] == ["zh", "en"]
    assert (listed["tester"]["path"], listed["tester"]["error"]) == (str(own / "tester.md"), "")
    assert f"{own / 'broken.md'}:1" in listed["broken"]["error"]
    shown = line("personas", "list")
    assert shown.code == 0
    assert "Tries things out." in shown.out


def test_a_persona_is_shown(line: Line) -> None:  # noqa: F811
    whole = line("personas", "show", "lawyer", "--json").json
    assert set(whole["seed_memory"]) == {"zh", "en"}
    assert whole["options"] == {"temperature": 0.3, "max_tokens": 700}
    shown = line("personas", "show", "lawyer").out
    assert whole["seed_memory"]["zh"].splitlines()[0] in shown
    assert line("personas", "show", "lawer", "--json").error["code"] == "persona_missing"


def test_personas_are_checked(line: Line, own: Path, tmp_path: Path) -> None:  # noqa: F811
    sound = line("personas", "check", "--json")
    assert (sound.code, sound.json["ok"]) == (0, True)
    (own / "broken.md").write_text(SOUND.format(name="other"))
    (own / "Bad Name.md").write_text(SOUND.format(name="bad"))
    (own / "lawyer.md").write_text(SOUND.format(name="lawyer"))
    done = line("personas", "check", "--json")
    assert (done.code, done.json["ok"]) == (52, False)
    assert {row["name"] for row in done.json["personas"] if not row["ok"]} == {"broken", "Bad Name"}
    assert len([row for row in done.json["personas"] if row["name"] == "lawyer"]) == 2, "the one that is hidden too"
    file = tmp_path / "mine.md"
    file.write_text(SOUND.format(name="mine"))
    assert line("personas", "check", "lawyer", str(file)).code == 0
    assert line("personas", "check", "broken").out.startswith("FAIL broken")
    assert line("personas", "check", "nobody", "--json").error["code"] == "persona_missing"
    assert line("personas", "check", str(tmp_path / "nothing.md")).code == 52
