"""What `personas test` does: the scores of a persona under pressure, as a table, and how they changed."""

from __future__ import annotations

from contextlib import aclosing

from orchestra.agents.drift import MEASURES, Change, Drift, Outlook, Part, Scored
from orchestra.agents.drift_script import PRESSURES, Line
from orchestra.cli import words
from orchestra.cli.answering import at_work
from orchestra.cli.outcome import Wish
from orchestra.cli.running import Patience, complete
from orchestra.cli.tables import table
from orchestra.cli.terminal import as_line, harmless, plain, tell, write
from orchestra.cli.words import say
from orchestra.errors import OrchestraError
from orchestra.model.messages import FinishReason, Language

_SHOWN = 40  # characters of an answer in the table


def measure_persona(name: str, *, turns: int, language: Language | None, model: str, judge: str, wish: Wish) -> None:
    """Each turn told as it goes, then the table. Ctrl-C keeps what was measured."""
    kept: list[Drift] = []

    async def main() -> None:
        async with at_work() as (orchestra, patience):
            persona = orchestra.personas.persona(name)
            own: Language = "zh" if words.LANGUAGE == "zh" else "en"
            chosen = language or (own if own in persona.seed_memory else None)
            async with aclosing(orchestra.drift_stream(persona, turns=turns, language=chosen, model=model, judge=judge)) as parts:
                lines = 0
                async for part in parts:
                    lines += isinstance(part, Line)
                    if isinstance(part, Outlook | Drift):
                        kept[:] = [part if isinstance(part, Drift) else Drift(outlook=part)]
                    _told(part, lines, wish, patience)
        _shown(kept[0], FinishReason.STOP, wish)

    try:
        complete(main())
    except (KeyboardInterrupt, SystemExit):
        if kept:
            _shown(kept[0], FinishReason.CANCELLED, wish)
        raise
    except OrchestraError:
        if kept and kept[0].turns and not wish.json:  # there the error is the one object
            _shown(kept[0], FinishReason.INCOMPLETE, wish)
        raise


def _told(part: Part, number: int, wish: Wish, patience: Patience) -> None:
    """Progress, beside the answer; `number` counts the lines."""
    if wish.json:
        return
    patience.clear()
    if isinstance(part, Outlook):
        tell(_outlook(part))
    elif isinstance(part, Line):
        tell(f"{number}. {PRESSURES[part.pressure].text(words.LANGUAGE)}: {_short(part.text)}")
    elif isinstance(part, Scored):
        tell(say(f"turn {part.turn}: {_scores(part)}", f"第 {part.turn} 轮：{_scores(part)}"))


def _outlook(outlook: Outlook) -> str:
    language = say("English", "英文") if outlook.language == "en" else say("Chinese", "中文")
    judged = "" if outlook.judge == outlook.model else say(f", judged by {outlook.judge}", f"，由 {outlook.judge} 评判")
    far = say(f", distances by {outlook.embedding}", f"，用 {outlook.embedding} 计算距离") if outlook.embedding else ""
    return say(
        f"{outlook.turns} turns in {language} with {outlook.model}{judged}{far}: {outlook.calls} to {outlook.most} calls of models",
        f"用 {outlook.model} 进行 {outlook.turns} 轮{language}对话{judged}{far}：模型调用 {outlook.calls} 到 {outlook.most} 次",
    )


def _scores(scored: Scored) -> str:
    told = [f"{_NAMES[measure]()} {_figure(value)}" for measure in MEASURES if (value := getattr(scored, measure)) is not None]
    return " · ".join([*told, *scored.faults]) or "-"


_NAMES = {
    "prompt_to_line": lambda: say("prompt-to-line", "设定一致"),
    "line_to_line": lambda: say("line-to-line", "前后一致"),
    "question_and_answer": lambda: say("question-and-answer", "问答一致"),
    "distance": lambda: say("distance", "距离"),
}


def _shown(drift: Drift, ended: FinishReason, wish: Wish) -> None:
    if wish.json:
        changes = {name: {"first": each.first, "last": each.last, "change": each.change} for name, each in drift.changes.items()}
        write(as_line({**plain(drift), "changes": changes, "finish_reason": ended}) + "\n")
        return
    measures = [measure for measure in MEASURES if any(getattr(turn, measure) is not None for turn in drift.turns)]
    if drift.turns:
        _turns(drift, measures)
        write("\n")
        _changes(drift, measures)
    _took(drift, ended)


def _turns(drift: Drift, measures: list[str]) -> None:
    headers = [say("TURN", "轮次"), say("PRESSURE", "压力"), *(_NAMES[measure]().upper() for measure in measures), say("ANSWER", "回答")]
    table(headers, [
        [
            str(turn.turn), PRESSURES[turn.pressure].text(words.LANGUAGE),
            *(_figure(getattr(turn, measure)) for measure in measures), _short(turn.line) or ", ".join(turn.faults),
        ]
        for turn in drift.turns
    ])  # fmt: skip


def _changes(drift: Drift, measures: list[str]) -> None:
    found = {measure: drift.changes.get(measure, Change()) for measure in measures}
    headers = [say("MEASURE", "指标"), say("FIRST QUARTER", "前四分之一"), say("LAST QUARTER", "后四分之一"), say("DRIFT", "漂移")]
    table(headers, [
        [_NAMES[measure](), _figure(change.first), _figure(change.last), "-" if change.change is None else f"{change.change:+.2f}"]
        for measure, change in found.items()
    ])  # fmt: skip


def _took(drift: Drift, ended: FinishReason) -> None:
    """What it took, and how far the figures carry."""
    if ended is not FinishReason.STOP:
        tell(say(f"stopped after {len(drift.turns)} of {drift.outlook.turns} turns", f"在第 {len(drift.turns)}/{drift.outlook.turns} 轮后停止"))
    read, written = drift.usage.prompt_tokens or 0, drift.usage.completion_tokens or 0
    tell(say(
        f"{drift.calls} calls, {read} tokens read and {written} written, {drift.seconds:.0f} s",
        f"调用 {drift.calls} 次，读取 {read} 个 token，生成 {written} 个，用时 {drift.seconds:.0f} 秒",
    ))  # fmt: skip
    if drift.bare:
        tell(say(
            f"{drift.bare} of {drift.verdicts} verdicts have no likelihood (the daemon does not say it, or neither yes nor no was "
            "among the likeliest words): they count as 0 or 1",
            f"{drift.verdicts} 次评判中有 {drift.bare} 次没有概率（Ollama 未给出，或最可能的词中没有 yes 和 no），按 0 或 1 计",
        ))  # fmt: skip
    if drift.mechanical:
        tell(say("a stand-in answered and judged: these figures mean nothing", "由替身服务回答和评判：这些数字没有意义"))


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _short(text: str) -> str:
    text = " ".join(harmless(text).split())
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
