"""The model that was named cannot do what was asked."""

from __future__ import annotations

from typing import ClassVar

from orchestra.errors.root import OrchestraError
from orchestra.texts import Words


class ModelFault(OrchestraError):
    """The model that was named cannot do what was asked."""
    status, exit_code = 400, 20


class NoModel(ModelFault):
    """The daemon has no model of the kind that is needed."""
    status, exit_code = 404, 21
    says = Words("Ollama at {url} has no {kind} model installed", "Ollama（{url}）没有安装{kind_zh}模型")
    advice = Words("run: orchestra pull {suggestion}", "请运行：orchestra pull {suggestion}")


class ModelMissing(ModelFault):
    """The daemon does not have the model."""
    status, exit_code = 404, 4
    says = Words("the model {model!r} is not installed{nearest}", "模型 {model!r} 尚未安装{nearest_zh}")
    advice = Words("run: ollama pull {model}   (or: orchestra pull {model})", "请运行：ollama pull {model}（或 orchestra pull {model}）")
    nothing: ClassVar[Words] = Words(
        "nothing to remove; `orchestra personas list` shows what is installed", "无需移除；`orchestra personas list` 可查看已安装的角色"
    )

    def hint(self, language: str = "en") -> str:
        """What to do: nothing where it was to be removed (`removing`)."""
        return (self.nothing if self.facts.get("removing") else self.advice).text(language, self.facts)


class ModelUnsupported(ModelFault):
    """The model cannot do that (tools, images, thinking, suffix, embeddings, chat)."""
    exit_code = 22
    says = Words("the model {model!r} cannot do this: {detail}", "模型 {model!r} 不支持此操作：{detail_zh}")
    advice = Words(
        "choose another model with --model; `orchestra models` lists what each can do",
        "请用 --model 换一个模型；`orchestra models` 会列出各模型的能力",
    )


class PromptTooLong(ModelFault):
    """The prompt does not fit into the window of the loaded model. Nothing was cut."""
    status, exit_code = 413, 23
    says = Words(
        "the prompt needs {needed} tokens and the window of {model} holds {window}: {over} too many",
        "提示词需要 {needed} 个 token，而 {model} 的上下文窗口只有 {window}：超出 {over} 个",
    )
    advice = Words(
        "shorten it, pass --window {needed_window} (or set ORCHESTRA_WINDOW to it, which every command reads), "
        "or start the daemon with OLLAMA_CONTEXT_LENGTH={needed_window}",
        "请缩短内容，或使用 --window {needed_window}（或设置 ORCHESTRA_WINDOW，所有命令均会读取），或以 OLLAMA_CONTEXT_LENGTH={needed_window} 启动 Ollama",
    )
    shorten: ClassVar[Words] = Words("shorten it: this model was made for {most} tokens at most", "请缩短内容：该模型最多支持 {most} 个 token")

    def hint(self, language: str = "en") -> str:
        """What to do: a larger window where the model has one, else a shorter text."""
        beyond = 0 < self.facts.get("most", 0) < self.facts.get("needed_window", 0)
        return (self.shorten if beyond else self.advice).text(language, self.facts)


class PullFailed(ModelFault):
    """The registry or the way to it."""
    status, exit_code = 502, 24
    says = Words("could not pull {model}: {detail}", "无法下载 {model}：{detail}")
    advice = Words("check the name and the network, then run it again: a pull goes on where it stopped", "请检查名称和网络后重试：下载会从中断处继续")
