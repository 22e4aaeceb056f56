"""Persona names and files as they are met while serving: no name leads outside, and a file in the making changes nothing."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestra.agents import personas
from orchestra.agents.personas import Library, canonical
from orchestra.errors import PersonaInvalid, PersonaMissing

TEXT = "---\nname: {name}\ndescription: {{en: Version {version}.}}\n---\n<!-- zh -->\n第 {version} 版。\n<!-- en -->\nVersion {version}.\n"


def written(folder: Path, name: str = "keeper", version: int = 0, *, file: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ((file or name) + ".md")
    path.write_text(TEXT.format(name=name, version=version), "utf-8")
    return path


def aged(path: Path) -> None:
    """As if the file had been written a minute ago."""
    long_ago = path.stat().st_mtime - 60
    os.utime(path, (long_ago, long_ago))


# --- names


@pytest.mark.parametrize("other", ["Keeper", "ＫＥＥＰＥＲ", "KEEPER"])
def test_two_files_of_one_name_are_both_named(tmp_path: Path, other: str) -> None:
    written(tmp_path)
    written(tmp_path, file=other)
    library = Library([tmp_path])
    assert library.names() == ["keeper"]
    with pytest.raises(PersonaInvalid) as caught:
        library.persona("keeper")
    for language in ("en", "zh"):
        assert "keeper.md" in caught.value.message(language)
        assert other + ".md" in caught.value.message(language)


def test_of_two_folders_the_first_still_wins(tmp_path: Path) -> None:
    written(tmp_path / "a", version=1)
    written(tmp_path / "b", version=2)
    assert Library([tmp_path / "a", tmp_path / "b"]).persona("keeper").speaks("en") == "Version 1."


def test_a_file_whose_name_needs_changing_says_so(tmp_path: Path) -> None:
    written(tmp_path, file="Keeper")
    with pytest.raises(PersonaInvalid, match="differs from the file"):
        Library([tmp_path]).persona("keeper")


@pytest.mark.parametrize(("name", "known"), [("Lawyer", "lawyer"), ("ｌａｗ＿１", "law_1"), ("ſupport", "support"), ("con", ""), ("COM1", ""),
                                             ("．．", ""), ("a/b", ""), ("律师", ""), ("lawyer\n", ""), ("", "")])  # fmt: skip
def test_names_are_known_in_one_form(name: str, known: str) -> None:
    assert canonical(name) == known


HOSTILE = [
    "../secret", "..", ".", "", "sub/../../secret", "secret\x00", "．．/secret", "．．／secret", "{outside}/secret", "{outside}/secret.md",
    "CON", "con", "nul", "lpt1", "~/secret", "$HOME/secret", "..\\secret", "file://{outside}/secret", "secret.md", "link", "linked/secret",
    "a" * 65, "%2e%2e/secret", "keeper/../../secret", "\u2025/secret", "secret\n", " secret", "sécret", "secret/", "/proc/self/environ",
]  # fmt: skip

WATCHED = """
import json, sys
from pathlib import Path
from orchestra.agents import persona_file
from orchestra.agents.personas import Library
from orchestra.errors import OrchestraError
folder, names = Path(sys.argv[1]), json.loads(sys.argv[2])
library, opened = Library([folder]), []
watching = False
def noted(event, arguments):
    if watching and not isinstance(arguments[0], int) and event in ("open", "os.listdir", "os.scandir", "os.readlink"):
        opened.append(str(arguments[0]))
sys.addaudithook(noted)
watching = True
found = []
for name in names:
    try:
        found.append(library.persona(name).name)
    except OrchestraError:
        pass
watching = False
print(json.dumps({"opened": opened, "found": found}))
"""


def watched(folder: Path, names: list[str]) -> dict[str, list[str]]:
    """What a process opens when it is asked for personas of these names."""
    done = subprocess.run([sys.executable, "-c", WATCHED, str(folder), json.dumps(names)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def test_no_name_leads_outside_the_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "personas", tmp_path / "outside"
    for place in (outside, tmp_path):
        written(place, "secret")
    written(folder)
    (folder / "link.md").symlink_to(outside / "secret.md")
    (folder / "linked").symlink_to(outside)
    done = watched(folder, [name.format(outside=outside) for name in HOSTILE])
    assert done["found"] == []
    assert [path for path in done["opened"] if path != str(folder)] == []
    control = watched(folder, ["keeper"])
    assert control == {"opened": [str(folder), str(folder / "keeper.md")], "found": ["keeper"]}, "it would see what is opened"


# --- while serving


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, what a test has just written is new."""
    monkeypatch.setattr(personas, "SETTLED", 30)


def half_written(path: Path, version: int, kind: int) -> None:
    """What a reader may meet of a file that is being replaced in place: nothing, a part that is no persona, a part that is."""
    text = TEXT.format(name=path.stem, version=version)
    if kind == 3:
        path.unlink()
    else:
        path.write_text(("", text[:20], text[: text.index("<!-- en")])[kind], "utf-8")


@pytest.mark.usefixtures("patient")
def test_a_hundred_replaces(tmp_path: Path) -> None:
    path = written(tmp_path)
    aged(path)
    library = Library([tmp_path])
    before = library.persona("keeper")
    for version in range(1, 101):
        if version % 2:
            new = written(tmp_path / "elsewhere", version=version)
            aged(new)
            new.replace(path)
        else:
            half_written(path, version, version // 2 % 4)
            assert library.persona("keeper") == before, "the old one stays"
            written(tmp_path, version=version)
            assert library.persona("keeper") == before, "it may not be the whole yet"
            aged(path)
        before = library.persona("keeper")
        assert before.seed_memory == {"zh": f"第 {version} 版。", "en": f"Version {version}."}


def test_red_control_without_patience_half_a_persona_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(personas, "SETTLED", 0)
    path = written(tmp_path)
    library = Library([tmp_path])
    library.persona("keeper")
    half_written(path, 1, 2)
    assert set(library.persona("keeper").seed_memory) == {"zh"}


def test_a_broken_or_removed_file_is_logged_and_the_persona_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = written(tmp_path / "own", version=1)
    written(tmp_path / "shipped", version=0)
    library = Library([tmp_path / "own", tmp_path / "shipped"])
    before = library.persona("keeper")
    with caplog.at_level(logging.WARNING, "orchestra"):
        path.write_text("---\nname: keeper\n---\n", "utf-8")
        aged(path)
        assert library.persona("keeper") == before
        assert f"{path}:2: description" in caplog.text
        caplog.clear()
        path.unlink()
        assert library.persona("keeper") == before, "the shipped one must not answer in the moment between two files"
        assert "gone" in caplog.text
    with pytest.raises(PersonaMissing):
        library.persona("nobody")
    assert Library(library.folders).persona("keeper").speaks("en") == "Version 0.", "a new process takes what there is"


BROKEN = "---\nname: {name}\ndescription: {{en: x}}\ncolour: red\n---\nYou bake.\n"


def test_one_broken_file_does_not_take_the_others_away(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    written(tmp_path, version=1)
    broken = tmp_path / "baker.md"
    broken.write_text(BROKEN.format(name="baker"))
    (tmp_path / "Keeper two.md").write_text("no name of a persona: not looked at")
    library = Library([tmp_path])
    for _ in range(3):
        assert [persona.name for persona in library.all()] == ["keeper"]
    [record] = caplog.records
    assert record.getMessage().startswith(f"{broken}:4: colour: is not known; "), "said once, not at every message"
    assert record.getMessage().endswith("; baker is left out (orchestra personas check baker)")
    with pytest.raises(PersonaInvalid):
        library.persona("baker")
    written(tmp_path, "baker")
    assert [persona.name for persona in library.all()] == ["baker", "keeper"]
    for name in ("baker", "keeper"):
        (tmp_path / f"{name}.md").write_text(BROKEN.format(name=name))
    with pytest.raises(PersonaInvalid, match="baker"):
        Library([tmp_path]).all()


def test_one_that_hides_a_shipped_one_and_is_broken_is_not_answered_for_by_that(tmp_path: Path) -> None:
    written(tmp_path / "shipped")
    written(tmp_path / "shipped", "baker")
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "keeper.md").write_text("half")
    assert [persona.name for persona in Library([tmp_path / "own", tmp_path / "shipped"]).all()] == ["baker"]


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path)
    aged(path)
    library = Library([tmp_path])
    before = library.persona("keeper")
    monkeypatch.setattr("orchestra.agents.persona_file.read", None)
    assert library.persona("keeper") is before
