"""`make eval`: each of its measures moves with what the model says, it refuses a stand-in, and it keeps what it has."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestra import StandIn
from orchestra.agents.drift import Drift, Outlook, Scored
from orchestra.errors import EmptyReply
from orchestra.model.persona import Persona

ROOT = Path(__file__).resolve().parent.parent
STORY = "Once upon a time there was a river that went to the sea."
CALLS = json.dumps({"thought": "", "actions": [{"expert": "computer_scientist", "question": "How?"}]})


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs in benchmarks/ import each other by name."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    importlib.import_module("probes")


@pytest.fixture
def quality() -> Any:
    return importlib.import_module("quality")


Run = Callable[..., int]


@pytest.fixture
def run(quality: Any, standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    return lambda *arguments: int(quality.main(["--allow-standin", "--out", str(tmp_path / "page.md"), *arguments]))


def figures(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "page.json").read_text("utf-8")))


def measures(folder: Path, part: str) -> dict[str, list[int]]:
    return dict(figures(folder)["parts"][part]["measures"])


# --- what is measured


def test_all_of_it_in_small(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.TURNS", 4)
    assert run("--most", "1") == 0
    found = figures(tmp_path)
    assert list(found["parts"]) == ["language", "routing", "landing", "citations", "steps", "drift"]
    assert all(part["done"] == 1 for part in found["parts"].values())
    assert found["parts"]["citations"]["measures"]["citations.found"] == [1, 1], "the stand-in quotes"
    assert found["conditions"]["model"] == "llama3"
    assert found["conditions"]["digest"]
    page = (tmp_path / "page.md").read_text("utf-8")
    assert page.count("MEANINGLESS") == page.count("没有意义") == 1
    assert "written" in capsys.readouterr().err


def test_every_measure_has_a_name_in_both_languages(quality: Any, standin: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    names = importlib.import_module("quality_page").named()
    with quality.at_work() as (house, client):
        for part in quality.parts(house, client, "llama3"):
            assert part.name in names
            for measure in [*(name for item in part.items for name in item.measures), *(name for known in part.known for name in known)]:
                assert measure in names


@pytest.mark.parametrize(
    ("zh", "en", "hits"),
    [(["因为散射。"], ["Because light is scattered."], (1, 1)), (["8"], ["Eight."], (1, 1)),
     (["Because light is scattered by air."] * 2, ["因为阳光被大气散射，天空看起来是蓝色的。"], (0, 0))],
)  # fmt: skip
def test_language(run: Run, standin: StandIn, tmp_path: Path, zh: list[str], en: list[str], hits: tuple[int, int]) -> None:
    standin.script(STORY, *zh, *en)
    assert run("--parts", "language", "--most", "2") == 0
    assert measures(tmp_path, "language") == {"language.zh": [hits[0], 1], "language.en": [hits[1], 1]}


@pytest.mark.parametrize("right", [True, False])
def test_routing_by_the_models_choice(run: Run, quality: Any, standin: StandIn, tmp_path: Path, right: bool) -> None:
    probes = importlib.import_module("probes")
    rows = {row["message"]: row["persona"] for row in [*probes.rows("routing"), *probes.rows("routing_held_out")]}
    with quality.at_work() as (house, _):
        wanted = rows[probes.routing(house, "llama3").items[0].ask.args[0]["message"]]
    other = "support" if wanted != "support" else "lawyer"
    standin.script(STORY, json.dumps({"persona": wanted if right else other, "reason": "so"}))
    assert run("--parts", "routing", "--most", "1") == 0
    found = measures(tmp_path, "routing")
    assert found["routing.open_model"] == [right, 1]
    assert found["routing.words"][1] > found["routing.sure"][1] > 100, "what needs no model is there whole"


@pytest.mark.parametrize(("plan", "own"), [("方案如下，缺少法律专家的意见。", 1), ("方案如下。", 0)])
def test_a_task_lands_and_says_what_it_lacks(run: Run, standin: StandIn, tmp_path: Path, plan: str, own: int) -> None:
    standin.script(STORY, CALLS, "用加密。", '{"thought": "", "actions": []}', plan)
    assert run("--parts", "landing", "--most", "1") == 0
    assert measures(tmp_path, "landing") == {"landing.lands": [1, 1], "landing.names": [1, 1], "landing.own_words": [own, 1]}


def test_a_task_that_does_not_land_is_a_miss(run: Run, standin: StandIn, tmp_path: Path) -> None:
    standin.script(STORY)
    standin.fail("error_500_json", times=40, path="/api/chat")
    assert run("--parts", "landing", "--most", "1") == 0
    assert set(map(tuple, measures(tmp_path, "landing").values())) == {(0, 1)}
    assert sum(figures(tmp_path)["parts"]["landing"]["errors"].values()) == 1


@pytest.mark.parametrize(("answer", "hits"), [("It is blue [1].", [1, 0, 0]), ("Nobody knows.", [0, 0, 0])])
def test_citations(run: Run, standin: StandIn, tmp_path: Path, answer: str, hits: list[int]) -> None:
    standin.script(STORY, answer)
    assert run("--parts", "citations", "--most", "1") == 0
    assert [each[0] for each in measures(tmp_path, "citations").values()] == hits


@pytest.mark.parametrize(
    ("said", "hits"),
    [((CALLS, "Thought: x\nAction: lawyer\nAction Input: How?"), [1, 1, 1, 1]),
     (('{"thought": "", "actions": []}', "Final Answer: ready"), [1, 0, 1, 0]),
     (("no idea", "no idea"), [0, 0, 0, 0]),
     ((CALLS.replace("computer_scientist", "nobody"), "Action: nobody\nAction Input: How?"), [1, 0, 1, 0])],
)  # fmt: skip
def test_steps(run: Run, standin: StandIn, tmp_path: Path, said: tuple[str, str], hits: list[int]) -> None:
    standin.script(STORY, *said)
    assert run("--parts", "steps", "--most", "2") == 0
    names = ("steps.schema", "steps.schema.asks", "steps.lines", "steps.lines.asks")
    assert [measures(tmp_path, "steps")[name][0] for name in names] == hits


@pytest.mark.parametrize("last", [0.9, 0.4, None])
def test_drift_is_the_last_quarter_beside_the_first(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: float | None) -> None:
    async def measured(persona: Persona, **given: Any) -> AsyncGenerator[Any]:
        outlook = Outlook(persona=persona.name, language="zh", turns=20, model="llama3", judge="llama3", calls=1, most=1)
        yield outlook
        for turns in (5, 20):  # a state of it stands after each quarter
            scored = [
                Scored(turn=n, quarter=(n - 1) // 5 + 1, pressure="", question="", line="", prompt_to_line=0.8 if n <= 15 else last)
                for n in range(1, turns + 1)
            ]
            scored[-1] = replace(scored[-1], question_and_answer=last)
            yield Drift(outlook=outlook, turns=tuple(scored))

    monkeypatch.setattr("probes.measured", measured)
    assert run("--parts", "drift", "--most", "1") == 0
    number = 0 if last is None else 5
    held = number if last == 0.9 else 0
    assert measures(tmp_path, "drift") == {"drift.first": [5, 5], "drift.last": [held, number], "drift.answers": [held // 5, number // 5]}
    page = (tmp_path / "page.md").read_text("utf-8")
    assert ("turns 16 to 20" in page) == bool(number), "what was not judged has no share"


# --- what it does not do


def test_a_stand_in_is_refused(quality: Any, standin: StandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OLLAMA_HOST", standin.url)
    before = quality.PAGE.read_bytes()
    for arguments in ([], ["--allow-standin"], ["--out", "elsewhere.md"]):
        assert quality.main(arguments) == 2
        assert "stand-in" in capsys.readouterr().err
    assert not Path("elsewhere.md").exists()
    assert quality.PAGE.read_bytes() == before
    assert not standin.asked("/api/generate")


def test_without_a_daemon_it_says_so(quality: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    assert quality.main([]) not in (0, 1, 2)
    assert "hint" in capsys.readouterr().err


def test_a_part_that_is_not_there_is_said(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--parts", "language,colour") == 2
    assert "there is no part colour" in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


@pytest.fixture
def odd(quality: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts a part in place of all others, of these items."""
    probes = importlib.import_module("probes")

    def put(*asks: Callable[[], dict[str, bool]], first: int = 1) -> None:
        part = probes.Part(name="language", items=[probes.Item(("language.en",), ask) for ask in asks], first=first)
        monkeypatch.setattr(quality, "parts", lambda house, client, model: [part])

    return put


def hit() -> dict[str, bool]:
    return {"language.en": True}


def test_a_daemon_that_goes_away_leaves_what_was_measured(run: Run, odd: Any, standin: StandIn, tmp_path: Path) -> None:
    def gone() -> dict[str, bool]:
        standin.stop()
        raise EmptyReply(model="llama3")

    odd(hit, gone, hit)
    assert run() == 1
    assert measures(tmp_path, "language") == {"language.en": [1, 1]}
    assert "the daemon went away" in (tmp_path / "page.md").read_text("utf-8")


def test_where_it_stays_an_error_is_a_miss(run: Run, odd: Any, tmp_path: Path) -> None:
    def empty() -> dict[str, bool]:
        raise EmptyReply(model="llama3")

    odd(hit, empty, hit)
    assert run() == 0
    assert measures(tmp_path, "language") == {"language.en": [2, 3]}
    assert "empty_reply 1" in (tmp_path / "page.md").read_text("utf-8")


def test_ctrl_c_keeps_what_was_measured(run: Run, odd: Any, tmp_path: Path) -> None:
    def interrupted() -> dict[str, bool]:
        raise KeyboardInterrupt

    odd(hit, hit, interrupted, hit)
    assert run() == 130
    assert measures(tmp_path, "language") == {"language.en": [2, 2]}
    odd(interrupted)
    assert run() == 130
    assert measures(tmp_path, "language") == {"language.en": [2, 2]}, "nothing was measured, nothing written"


def test_what_does_not_fit_into_the_time_is_left_out_and_said(run: Run, odd: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import time

    def slow() -> dict[str, bool]:
        time.sleep(0.1)
        return hit()

    odd(*[slow] * 200, first=2)
    assert run("--minutes", "0.02") == 0
    done = figures(tmp_path)["parts"]["language"]["done"]
    assert 2 <= done <= 12
    assert "too slow" in capsys.readouterr().err
    assert f"{done} of 200 items" in (tmp_path / "page.md").read_text("utf-8")


def test_other_parts_of_the_same_model_stay(run: Run, standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("--parts", "language", "--most", "2") == run("--parts", "steps", "--most", "2") == 0
    assert list(figures(tmp_path)["parts"]) == ["language", "steps"]
    assert run("--parts", "language", "--most", "1") == 0
    assert figures(tmp_path)["parts"]["language"]["done"] == 2, "a run that asked less does not take the place of one that asked more"
    file = tmp_path / "page.json"
    file.write_text(file.read_text().replace(figures(tmp_path)["conditions"]["digest"], "another"))
    assert run("--parts", "language", "--most", "2") == 0
    assert list(figures(tmp_path)["parts"]) == ["language"], "figures of other weights do not stand beside these"


# --- figures and page


def test_the_interval_is_wilsons() -> None:
    shares = importlib.import_module("shares")
    assert [round(bound, 3) for bound in shares.Share(8, 10).interval()] == [0.490, 0.943]
    assert [round(bound, 3) for bound in shares.Share(0, 20).interval()] == [0.0, 0.161]
    assert shares.Share().interval() == (0.0, 1.0)


def test_each_part_has_the_same_time_and_what_one_leaves_the_others_have() -> None:
    shares = importlib.import_module("shares")
    left = {"short": shares.Left(10, 1.0), "long": shares.Left(20, 10.0), "longer": shares.Left(20, 30.0)}
    assert shares.planned(left, 1000.0) == {"short": 10, "long": 20, "longer": 20}
    assert shares.planned(left, 310.0) == {"short": 10, "long": 15, "longer": 5}
    assert shares.planned(left, 0.0) == shares.planned(left, -5.0) == {"short": 0, "long": 0, "longer": 0}


def test_the_committed_page_is_what_its_figures_say() -> None:
    page = importlib.import_module("quality_page").page
    file = ROOT / "docs" / "quality.json"
    whole = json.loads(file.read_text("utf-8")) if file.exists() else {}
    assert not whole.get("conditions", {}).get("stand_in")
    text = (ROOT / "docs" / "quality.md").read_text("utf-8")
    assert text == page(whole)
    assert bool(whole) != ("Nothing was measured yet" in text)


