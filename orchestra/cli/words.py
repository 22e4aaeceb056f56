"""What the command line says, in English and Chinese."""

from __future__ import annotations

from orchestra.texts import interface_language

LANGUAGE = interface_language()


def say(en: str, zh: str) -> str:
    """The text in the language of this process."""
    return zh if LANGUAGE == "zh" else en


def ending(reason: str, keep: int | None = None) -> str:
    """One line about an answer that did not simply end; empty for one that did."""
    lines = {
        "length": say("the answer reached its bound on tokens (--max-tokens)", "回答达到了 token 上限（--max-tokens）"),
        "context_full": say("the context window is full: the answer ends here", "上下文窗口已满：回答到此为止"),
        "repetition": say("the answer began to loop and was stopped; the clean part is kept", "回答开始重复，已被停止；保留了正常的部分"),
        "low_quality": say("the answer turned into garbage and was stopped", "回答变成了乱码，已被停止"),
        "deadline": say("the answer took too long and was stopped (--deadline)", "回答超时，已被停止（--deadline）"),
        "step_limit": say("the limit on steps was reached; the answer is made of what there was (--steps)", "达到步数上限，已用现有内容作答（--steps）"),
        "token_limit": say("the limit on tokens was reached; the answer is made of what there was", "达到 token 总量上限，已用现有内容作答"),
        "cancelled": say("stopped", "已停止"),
        "incomplete": say("the answer is incomplete", "回答不完整"),
    }
    return lines.get(reason, "")


def note(name: str) -> str:
    """A receipt's note in words."""
    known = {
        "compacting": say(
            "older turns are being summarised for the next one (Ctrl-C leaves now; nothing is lost)",
            "正在为下一轮总结较早的对话（按 Ctrl-C 可立即离开，不会丢失内容）",
        ),
        "compacted": say("older turns were summarised first, to make room for this one", "已先总结较早的对话，为本轮腾出空间"),
        "asked_again": say("the first answer was in another language and was asked for again", "第一次的回答不是所要的语言，已重新提问一次"),
        "other_language": say("this answer is not in the language that was wanted", "该回答不是所要的语言"),
        "repetition_skipped": say("a loop was cut out, and the answer went on", "已剪去重复的部分并继续回答"),
        "repaired": say("the first answer did not fit the schema and was corrected", "第一次的回答不符合 schema，已修正一次"),
        "garbled": say("the answer contains characters that could not be decoded", "回答中含有无法解码的字符"),
        "not searched": say("nothing was looked up for this answer", "该回答没有查找资料"),
        "not in the sources": say("the answer was not found in the sources", "资料中没有找到答案"),
        "not supported by the sources": say("what this answer cites was not found in its sources", "该回答所引用的内容未见于来源"),
        "stale results": say("the search service did not answer; earlier results were used", "搜索服务没有应答，使用了较早的结果"),
        "no sources": say("this answer has no sources", "该回答没有来源"),
        "ground_failed": say("what was to be looked up could not be: answered without it", "未能查找资料，回答时没有参考资料"),
        "ground_too_long": say("what was looked up did not fit and was left out", "查到的资料放不下，未包含在内"),
        "segments_left_out": say("the lines about other topics did not fit and were left out", "关于其他话题的说明放不下，未包含在内"),
        "repeated_call": say("the coordinator asked the same thing again and again and was stopped", "协调者反复提出同一问题，已停止询问"),
        "no_usable_step": say("the coordinator's steps could not be used; every expert was asked the task", "协调者的步骤无法使用，已直接询问每位专家"),
        "step_failed": say("a step of the coordinator failed; the answer is made of what there was", "协调者的一个步骤失败，已用现有内容作答"),
        "shortened": say("what the experts said did not fit and was shortened", "专家意见放不下，已作删节"),
        "older_left_out": say("the oldest messages did not fit and were left out", "最早的消息放不下，未包含在内"),
        "not_stored": say("this answer could not be stored", "该回答未能保存"),
    }
    label, colon, names = name.partition(": ")
    if colon and label == "missing":
        return say(f"without the part of: {names}", f"缺少以下专家的部分：{names}")
    read, slash, sent = names.partition("/")
    if slash and label == "truncated":
        return say(
            f"the daemon read {read} of the prompt's {sent} tokens: it has cut the rest",
            f"Ollama 只读取了提示词 {sent} 个 token 中的 {read} 个：其余被截断",
        )
    if slash and label == "count differs":
        return say(f"the daemon counts {read} tokens in the prompt, not {sent}", f"Ollama 计得提示词为 {read} 个 token，而非 {sent} 个")
    return known.get(name, name)
