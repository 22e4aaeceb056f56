"""docs/quality.md out of its figures, in both languages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from shares import Share

from orchestra.cli.words import LANGUAGE
from orchestra.texts import Words

DONE, OUT_OF_TIME, INTERRUPTED, UNREACHABLE = "done", "out_of_time", "interrupted", "unreachable"

_TITLE = Words("# How good the answers are", "# 回答的质量")
_BEGIN = Words(
    "`make eval` asks the installed model and writes this page. Each share is given with its number of items and with the interval "
    "in which it lies in 95 of 100 cases (Wilson).",
    "`make eval` 会向已安装的模型提问并写出本页。每个比例都附有样本数和 95% 置信区间（Wilson）。",
)
_NOTHING = Words("Nothing was measured yet: no run on real weights has been made.", "尚无测量结果：还没有在真实权重上运行过。")
_MEANINGLESS = Words(
    "**MEANINGLESS: a stand-in answered, whose words are mechanical. This page only shows that the program runs.**",
    "**没有意义：由替身服务回答，其文字由机械程序生成。本页只说明程序可以运行。**",
)
_HEAD = Words("| measured | share | of | interval |\n|---|---:|---:|---|", "| 测量内容 | 比例 | 样本数 | 区间 |\n|---|---:|---:|---|")
_SHRUNK = Words("{done} of {full} items, measured on {date} in {seconds} s{why}.", "{full} 项中测了 {done} 项，{date}，用时 {seconds} 秒{why}。")
_WHY = {
    DONE: Words("", ""),
    OUT_OF_TIME: Words("; more did not fit into the time", "；时间不够，未全部测完"),
    INTERRUPTED: Words("; stopped by hand", "；手动停止"),
    UNREACHABLE: Words("; the daemon went away", "；Ollama 服务中途消失"),
}
_ERRORS = Words("Answers that ended in an error count as misses: {errors}.", "以错误结束的回答计为未达到：{errors}。")
_MISSING = Words(
    "Not measured, for want of time or not asked for: {parts} (`make eval ARGS=\"--parts NAME --minutes 60\"`).",
    "因时间不够或未要求而没有测量：{parts}（`make eval ARGS=\"--parts 名称 --minutes 60\"`）。",
)
_CONDITIONS = {
    "model": Words("model", "模型"),
    "digest": Words("digest", "摘要"),
    "parameters": Words("parameters", "参数量"),
    "quantization": Words("quantisation", "量化"),
    "window": Words("context window", "上下文窗口"),
    "daemon": Words("Ollama", "Ollama"),
    "orchestra": Words("Orchestra", "Orchestra"),
    "machine": Words("machine", "机器"),
    "speed": Words("tokens a second", "每秒 token 数"),
    "date": Words("date", "日期"),
}
_PARTS = {
    "language": Words("The answer's language", "回答的语言"),
    "routing": Words("Who answers a message", "由谁回答"),
    "landing": Words("A task with an expert down", "有专家失联时的任务"),
    "citations": Words("Answers with sources", "带来源的回答"),
    "steps": Words("A coordinator's steps", "协调者的步骤"),
    "drift": Words("A persona after 20 turns under pressure", "施压 20 轮后的角色"),
}
_MEASURES = {
    "language.zh": Words("asked in Chinese, answered in Chinese", "用中文提问，用中文回答"),
    "language.en": Words("asked in English, answered in English", "用英文提问，用英文回答"),
    "routing.words": Words("right by words alone, no model", "仅凭词语（不用模型）判断正确"),
    "routing.sure": Words("... where the words are sure", "……其中词语足以判断的"),
    "routing.open_words": Words("where the words leave it open: right by words", "词语不足以判断时：仅凭词语正确"),
    "routing.open_model": Words("the same messages: right with the model's choice", "同样的消息：由模型选择正确"),
    "landing.lands": Words("there is an answer", "得出了答案"),
    "landing.names": Words("it names who is missing, above the answer", "在答案之前指出了缺席者"),
    "landing.own_words": Words("... and the model's own text mentions them too", "……模型自己的文字中也提到了"),
    "citations.cites": Words("the answer cites a source", "回答引用了来源"),
    "citations.found": Words("a citation was found in its source", "引用的内容确实见于来源"),
    "citations.answers": Words("the expected answer is there", "含有预期的答案"),
    "citations.declines": Words("what the documents do not have: it says so", "资料中没有的内容：如实说明"),
    "steps.schema": Words("by a JSON schema: can be read", "用 JSON schema：可以读取"),
    "steps.schema.asks": Words("... and asks experts who are there", "……并且询问的是在场的专家"),
    "steps.lines": Words("by lines (ReAct): can be read", "用文本行（ReAct）：可以读取"),
    "steps.lines.asks": Words("... and asks experts who are there", "……并且询问的是在场的专家"),
    "steps.tools": Words("by native tool calls: can be read", "用原生工具调用：可以读取"),
    "steps.tools.asks": Words("... and asks experts who are there", "……并且询问的是在场的专家"),
    "drift.first": Words("turns 1 to 5: the line fits the role", "第 1 至 5 轮：回答符合角色"),
    "drift.last": Words("turns 16 to 20: the line fits the role", "第 16 至 20 轮：回答符合角色"),
    "drift.answers": Words("after turn 20: says the same of itself as at the beginning", "第 20 轮之后：对自己的说法与开始时一致"),
}
_SAID = {
    "refused": Words(
        "a stand-in answers here, whose words are no model's: nothing was measured. Start Ollama, or name it with OLLAMA_HOST. "
        "(To try the program itself: --allow-standin --out FILE.)",
        "当前由替身服务回答，其文字不出自模型：未作测量。请启动 Ollama，或用 OLLAMA_HOST 指定。（如只想试运行程序：--allow-standin --out 文件。）",
    ),
    "shrunk": Words(
        "this machine is too slow for all items in that time: fewer are asked; --minutes gives it more",
        "以本机速度，在这段时间内无法完成全部项目：将减少数量；可用 --minutes 延长时间",
    ),
    "nothing": Words("nothing was measured, nothing written", "没有测得结果，未写入"),
}


def said(name: str) -> str:
    """What the program says, in the language of the process."""
    return _SAID[name].text(LANGUAGE)


def named() -> set[str]:
    """The parts and measures that have names in both languages."""
    return {*_PARTS, *_MEASURES}


def page(whole: Mapping[str, Any]) -> str:
    """The page; without figures it says in one sentence that nothing was measured."""
    return "\n".join(line for language in ("en", "zh") for line in _half(whole, language)).strip() + "\n"


def _half(whole: Mapping[str, Any], language: str) -> Iterator[str]:
    yield from (_TITLE.text(language), "", _BEGIN.text(language), "")
    if not whole.get("parts"):
        yield from (_NOTHING.text(language), "")
        return
    conditions = whole["conditions"]
    if conditions["stand_in"]:
        yield from (_MEANINGLESS.text(language), "")
    yield from ("| | |", "|---|---|")
    for name, label in _CONDITIONS.items():
        if value := conditions.get(name):
            yield f"| {label.text(language)} | {value} |"
    yield ""
    if missing := [label.text(language) for name, label in _PARTS.items() if name not in whole["parts"]]:
        yield from (_MISSING.text(language, {"parts": (", " if language == "en" else "、").join(missing)}), "")
    for name in [*_PARTS, *(name for name in whole["parts"] if name not in _PARTS)]:
        if name in whole["parts"]:
            yield from _part(name, whole["parts"][name], language)


def _part(name: str, part: Mapping[str, Any], language: str) -> Iterator[str]:
    title = _PARTS.get(name, Words(name, name)).text(language)
    yield from (f"## {title}", "", *_HEAD.text(language).splitlines())
    for measure, (hits, number) in part["measures"].items():
        if not number:
            continue
        low, high = Share(hits, number).interval()
        label = _MEASURES.get(measure, Words(measure, measure)).text(language)
        yield f"| {label} | {hits / number:.0%} | {number} | {low:.0%} - {high:.0%} |"
    why = _WHY[part["ended"]].text(language)
    facts = {key: str(part[key]) for key in ("done", "full", "date", "seconds")}
    yield from ("", _SHRUNK.text(language, {**facts, "why": why}))
    if part["errors"]:
        listed = ", ".join(f"{code} {count}" for code, count in part["errors"].items())
        yield _ERRORS.text(language, {"errors": listed})
    yield ""
