"""An answer that began and did not end well; `.reply` is what came."""

from __future__ import annotations

from orchestra.errors.root import OrchestraError
from orchestra.texts import Words


class ReplyFault(OrchestraError):
    """An answer that began and did not end well; `.reply` is the answer so far."""
    status, exit_code = 502, 36


class StreamTruncated(ReplyFault):
    """The stream ended without its closing line: the answer is incomplete."""
    exit_code = 5
    says = Words("the answer broke off: Ollama ended the stream without saying so", "回答中断：Ollama 在没有说明的情况下结束了输出")
    advice = Words(
        "the text so far is kept; ask again, or raise --repeat-penalty where it was looping",
        "已收到的文字已保留；请重新提问，如果内容在重复，请调高 --repeat-penalty",
    )


class Interrupted(ReplyFault):
    """Orchestra itself was told to end while this was being answered, or before it was begun."""
    status, exit_code = 503, 39
    says = Words("Orchestra is being shut down: the answer was broken off", "Orchestra 正在关闭：回答已中断")
    advice = Words("what was said in a session is kept; ask again in a moment", "会话中已有的内容已保留；请稍后重新提问")


class StreamCorrupt(ReplyFault):
    """A line of the stream is no JSON object."""
    exit_code = 30
    says = Words("line {line} of Ollama's answer cannot be read: {detail}", "Ollama 回答的第 {line} 行无法解析：{detail}")
    advice = Words("check what stands between you and the daemon (a proxy?), then ask again", "请检查与 Ollama 之间是否有代理，然后重试")


class LineTooLong(ReplyFault):
    """A line of the stream is longer than any that a daemon sends."""
    exit_code = 31
    says = Words("a line of the answer is longer than {limit} bytes", "回答中有一行超过 {limit} 字节")
    advice = Words("this is not a healthy Ollama: check OLLAMA_HOST", "这不是正常的 Ollama：请检查 OLLAMA_HOST")


class ReplyTooLarge(ReplyFault):
    """The answer as a whole is larger than the limit."""
    exit_code = 32
    says = Words("the answer is larger than {limit} bytes", "回答超过 {limit} 字节")
    advice = Words("this is not a healthy Ollama: check OLLAMA_HOST", "这不是正常的 Ollama：请检查 OLLAMA_HOST")


class EmptyReply(ReplyFault):
    """Status 200 and not one byte."""
    exit_code = 33
    says = Words("Ollama answered with nothing at all", "Ollama 返回了空的回答")
    advice = Words("see the daemon's log: its engine may have stopped; then ask again", "请查看 Ollama 的日志：推理引擎可能已停止；然后重试")


class FirstTokenTimeout(ReplyFault):
    """The first token did not come in time."""
    status, exit_code = 504, 34
    says = Words("no first token from {model} within {seconds} s", "{model} 在 {seconds} 秒内没有输出第一个 token")
    advice = Words(
        "a slow machine needs more patience: set ORCHESTRA_FIRST_TOKEN_TIMEOUT, or take a smaller model",
        "较慢的机器需要更多时间：请设置 ORCHESTRA_FIRST_TOKEN_TIMEOUT，或换用更小的模型",
    )


class StreamStalled(ReplyFault):
    """The answer stopped coming."""
    status, exit_code = 504, 35
    says = Words("the answer stood still for {seconds} s", "回答停滞了 {seconds} 秒")
    advice = Words(
        "the text so far is kept; see `ollama ps`, or set ORCHESTRA_PIECE_TIMEOUT",
        "已收到的文字已保留；请查看 `ollama ps`，或设置 ORCHESTRA_PIECE_TIMEOUT",
    )


class SchemaMismatch(ReplyFault):
    """The answer is not what the schema asks for, also after one repair; `.reply` has its text."""
    status, exit_code = 422, 37
    says = Words("the answer does not fit the schema: {detail}", "回答不符合给定的 schema：{detail_zh}")
    advice = Words("{fix}", "{fix_zh}")
