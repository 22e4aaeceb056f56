"""What `bench` has measured, told: a table, one object, a page; which side is faster, and what was held equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestra.cli import words
from orchestra.cli.tables import size
from orchestra.cli.words import say
from orchestra.errors import OrchestraError
from orchestra.instruments import pages, plots
from orchestra.instruments.bench import Plan, Run, Side
from orchestra.instruments.spread import METRICS, Finding, Metric, Spread, findings


@dataclass(slots=True)
class Result:
    """What was measured so far."""

    plan: Plan
    sides: dict[str, Side] = field(default_factory=dict)

    def findings(self) -> list[Finding]:
        """Which side is faster in what, or why nothing is said."""
        return findings([side.work() for side in self.sides.values()])


def as_object(result: Result) -> dict[str, Any]:
    """What `--json` prints. Times in seconds, speeds in tokens a second, memory in bytes."""
    plan = result.plan
    return {
        "prompt": plan.prompt, "tokens": plan.tokens, "runs": plan.runs, "cold": plan.cold, "controlled": controlled(plan),
        "sides": [_side(side) for side in result.sides.values()],
        "findings": [
            {
                "metric": found.metric, "better": found.better, "worse": found.worse, "times": round(found.times, 3),
                "faster": not found.reasons, "reasons": [say(*reason) for reason in found.reasons],
            }
            for found in result.findings()
        ],
    }  # fmt: skip


def _side(side: Side) -> dict[str, Any]:
    names = ("name", "kind", "url", "model", "precision", "parameters", "weights", "version", "window", "memory", "vram", "raw", "stand_in")
    fault, language = side.error, words.LANGUAGE
    error = fault and {"code": fault.code(), "message": fault.message(language), "hint": fault.hint(language)}
    return {
        **{name: getattr(side, name) for name in names},
        "load": _spread(Spread(side.loads) if side.loads else None),
        **{metric: _spread(side.spread(metric)) for metric in METRICS},
        "first": side.first and _run(side.first), "answers": [_run(run) for run in side.runs], "error": error,
    }  # fmt: skip


def _spread(spread: Spread | None) -> dict[str, Any] | None:
    return None if spread is None else {"median": spread.median, "min": spread.least, "max": spread.most, "values": spread.values}


def _run(run: Run) -> dict[str, Any]:
    names = ("first_token", "seconds", "prompt_tokens", "tokens", "counted", "prompt_speed", "speed")
    return {name: getattr(run, name) for name in (*names, "daemon_prompt_speed", "daemon_speed", "finish_reason")}


def rows(sides: Sequence[Side]) -> list[list[str]]:
    """One row for each figure that any side has; median (least-most)."""
    lines: list[tuple[str, Callable[[Side], str]]] = [
        (say("model", "模型"), lambda side: side.model),
        (say("precision", "精度"), lambda side: side.precision or say("not known", "未知")),
        (say("parameters", "参数量"), lambda side: side.parameters),
        (say("prompt as it is", "直接续写"), lambda side: say("yes", "是") if side.raw else say("no", "否")),
        (say("window", "窗口"), lambda side: str(side.window or "")),
        (say("memory", "内存"), lambda side: size(side.memory) if side.memory else ""),
        (say("of it on the GPU", "其中在显存"), lambda side: size(side.vram) if side.vram else ""),
        (say("load, s", "加载（秒）"), lambda side: _said(Spread(side.loads) if side.loads else None)),
        (say("first answer: first token, s", "首次回答：首个 token（秒）"), lambda side: _number(side.first.first_token) if side.first else ""),
        *((_label(metric), lambda side, metric=metric: _said(side.spread(metric), runs=len(side.runs))) for metric in METRICS),
        (say("by the daemon: prompt", "Ollama 自报：提示词"), lambda side: _said(_of_runs(side, "daemon_prompt_speed"))),
        (say("by the daemon: generation", "Ollama 自报：生成"), lambda side: _said(_of_runs(side, "daemon_speed"))),
        (say("tokens of the prompt", "提示词 token 数"), lambda side: _counts(side, "prompt_tokens")),
        (say("tokens of the answer", "回答 token 数"), lambda side: _counts(side, "tokens")),
        (say("runs", "次数"), lambda side: str(len(side.runs))),
    ]
    drawn = [[label, *(cell(side) for side in sides)] for label, cell in lines]
    return [row for row in drawn if any(row[1:])]


def _label(metric: Metric) -> str:
    return {
        "first_token": say("first token, s", "首个 token（秒）"),
        "prompt_speed": say("prompt, tokens/s", "提示词（token/秒）"),
        "speed": say("generation, tokens/s", "生成（token/秒）"),
    }[metric]


def _of_runs(side: Side, name: str) -> Spread | None:
    values = [value for run in side.runs if (value := getattr(run, name)) is not None]
    return Spread(tuple(values)) if values else None


def _counts(side: Side, name: str) -> str:
    spread = _of_runs(side, name)
    if spread is None:
        return ""
    both = f"{spread.least}" if spread.least == spread.most else f"{spread.least}-{spread.most}"
    return both if all(run.counted for run in side.runs) or name != "tokens" else f"~{both}"


def _said(spread: Spread | None, *, runs: int = 0) -> str:
    if spread is None:
        return ""
    known = len(spread.values)
    beside = [f"{_number(spread.least)}-{_number(spread.most)}"] if known > 1 else []
    beside += [say(f"{known} of {runs} runs", f"{runs} 次中的 {known} 次")] if known < runs else []
    return _number(spread.median) + (f" ({'; '.join(beside)})" if beside else "")


def _number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3}f}"


def finding(found: Finding) -> str:
    """One finding in a sentence."""
    label = _label(found.metric)
    if not found.reasons:
        times = f"{found.times:.2f}"
        return say(
            f"{label}: {found.better} is {times} times as fast as {found.worse}",
            f"{label}：{found.better} 的速度是 {found.worse} 的 {times} 倍",
        )
    reasons = say("; ", "；").join(say(*reason) for reason in found.reasons)
    pair = (found.better, found.worse)
    return say(f"{label}: nothing is said of {' and '.join(pair)}: {reasons}", f"{label}：{'与'.join(pair)} 无法比较：{reasons}")


def remarks(sides: Sequence[Side]) -> list[str]:
    """Whose figures are no model's, whose speed cannot be timed, and why sides have no more runs, each with what to do."""
    burst = say("answers that came in one go have no speed that could be timed; raise --tokens", "有回答一次性到达，无法计量其生成速度；请调大 --tokens")
    looped = say("its answers ran in a loop, which Ollama ended; tokens are counted in pieces", "回答陷入重复，被 Ollama 终止；token 数按片段计")
    mechanical = say("a stand-in answers: these are no model's figures", "由替身服务回答：这些数字不是模型的")
    return [
        *(f"{side.name}: {mechanical}" for side in sides if side.stand_in),
        *(f"{side.name}: {looped}" for side in sides if any(run.finish_reason == "repetition" for run in side.runs)),
        *(f"{side.name}: {burst}" for side in sides if any(run.in_one_go for run in side.runs)),
        *(f"{side.name}: {_told(side.error)}" for side in sides if side.error is not None),
        *_unlike_weights(sides),
    ]


def _unlike_weights(sides: Sequence[Side]) -> list[str]:
    """A line where those sides that say what they are made of do not say the same."""
    told = [(side, side.weights or side.parameters) for side in sides if side.weights or side.parameters]
    if len({each for _, each in told}) < 2:
        return []
    listed = [f"{side.name} {side.parameters}".strip() for side, _ in told]
    return [say(f"these are different weights: {', '.join(listed)}", f"权重不同：{'、'.join(listed)}")]


def _told(error: OrchestraError) -> str:
    return f"{error.message(words.LANGUAGE)} · {error.hint(words.LANGUAGE)}"


def controlled(plan: Plan) -> list[str]:
    """What was held equal, and what was not."""
    said = [
        say(
            f"the same prompt for all, each run with a number of its own before it, so that no cache answers; temperature 0, "
            f"at most {plan.tokens} tokens of answer; no penalties asked of endpoints, what theirs applies is not known",
            f"所有各方使用同一提示词，每次在前面加上不同的编号以避开缓存；temperature 0，回答最多 {plan.tokens} 个 token；"
            "对端点不要求任何惩罚，其自身是否施加未知",
        ),
        say(
            f"{plan.runs} runs a side, one side after the other, the first answer apart; median (least-most), timed here from the sending "
            "of the request",
            f"每一方 {plan.runs} 次，依次进行，首次回答另计；中位数（最小-最大），在本机从发出请求起计时",
        ),
        say(
            "not held equal: the hardware of the sides, what else runs there, the kernels and the cache of keys and values that each uses",
            "未加控制：各方的硬件、同时运行的其他程序、各自使用的算子与 KV 缓存",
        ),
    ]
    if plan.cold:
        said.append(
            say(
                f"models of daemons were unloaded and loaded anew, {plan.cold} times; files that the system still held in memory were not "
                "read from the disk again",
                f"Ollama 的模型已卸载并重新加载 {plan.cold} 次；系统内存中缓存的文件不会再从磁盘读取",
            )
        )
    return said


def as_page(result: Result) -> str:
    """The page that `--html` writes."""
    sides = list(result.sides.values())
    panels = [(_label(metric), [(side.name, found.values) for side in sides if (found := side.spread(metric))]) for metric in METRICS]
    panels = [(title, rows) for title, rows in panels if rows]
    caption = say("every run a point, the median a line", "每个点为一次运行，竖线为中位数")
    drawn = [pages.figure(plots.points(panels), caption)] if panels else []
    said = [pages.element("p", line) for line in [*(finding(found) for found in result.findings()), *remarks(sides)]]
    return pages.page(
        say("How fast the models answer", "模型回答速度"),
        *drawn,
        pages.table(["", *(side.name for side in sides)], rows(sides)),
        pages.section(say("What can be said", "结论"), *said) if said else "",
        pages.section(say("What was held equal", "控制的条件"), *(pages.element("p", line) for line in controlled(result.plan))),
        pages.section(say("The prompt", "提示词"), pages.prose(result.plan.prompt)),
        language=words.LANGUAGE,
    )
