"""Personas, parts that are not installed, ports, the stand-in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from orchestra.errors.root import OrchestraError
from orchestra.texts import Words


class PersonaFault(OrchestraError):
    """A persona that cannot be used."""
    status, exit_code = 422, 50


class PersonaMissing(PersonaFault):
    """There is no persona of that name."""
    status, exit_code = 404, 51
    says = Words("there is no persona {name!r}{nearest}", "没有名为 {name!r} 的角色{nearest_zh}")
    advice = Words("`orchestra personas list` shows what there is", "`orchestra personas list` 可查看已有的角色")


class PersonaInvalid(PersonaFault):
    """A persona file that cannot be read: its first fault. `line` and `column` are 0 where the file as a whole is meant."""
    exit_code = 52
    says = Words("{path}{place}: {detail}{more}", "{path}{place}：{detail_zh}{more_zh}")
    advice = Words(
        "correct the file; `orchestra personas new NAME` writes one that explains every key",
        "请修改该文件；`orchestra personas new 名称` 会生成一个逐项说明的文件",
    )

    def __init__(self, *, reply: Any = None, **facts: Any) -> None:
        self.faults: tuple[PersonaInvalid, ...] = (self,)
        place = "".join(f":{number}" for number in (facts.get("line"), facts.get("column")) if number)
        super().__init__(reply=reply, **{"place": place, "more": "", "more_zh": "", **facts})

    @classmethod
    def first_of(cls, faults: Sequence[PersonaInvalid], number: int) -> PersonaInvalid:
        """The first fault of a file that has `number` of them, and says so; `faults` are those that are told one by one."""
        others = number - 1
        more = (f" (and {others} more: orchestra personas check)", f"（另有 {others} 处：orchestra personas check）") if others else ("", "")
        first = cls(**{**faults[0].facts, "more": more[0], "more_zh": more[1], "number": number})
        first.faults = tuple(faults)
        return first


class SeedTooLong(PersonaFault):
    """A seed memory that leaves no room for question and answer in the window of the loaded model. Nothing was sent."""
    status, exit_code = 413, 57
    says = Words(
        "the seed memory of {name!r} takes {needed} tokens, and the window of {model} holds {window}: question and answer have no room",
        "角色 {name!r} 的种子记忆占 {needed} 个 token，而 {model} 的上下文窗口只有 {window}：问题和回答没有空间",
    )
    advice = Words(
        "shorten it to {limit} tokens, pass --window {needed_window}, or start the daemon with OLLAMA_CONTEXT_LENGTH={needed_window}",
        "请将其缩短到 {limit} 个 token，或使用 --window {needed_window}，或以 OLLAMA_CONTEXT_LENGTH={needed_window} 启动 Ollama",
    )
    shorten: ClassVar[Words] = Words(
        "shorten it to {limit} tokens: this model was made for {most} at most", "请将其缩短到 {limit} 个 token：该模型最多支持 {most} 个"
    )

    def hint(self, language: str = "en") -> str:
        """What to do: a larger window where the model has one, else a shorter text."""
        beyond = 0 < self.facts.get("most", 0) < self.facts.get("needed_window", 0)
        return (self.shorten if beyond else self.advice).text(language, self.facts)


class ModelNotOurs(PersonaFault):
    """A model of that name is there, and `orchestra personas install` did not make it, or it was changed since."""
    status, exit_code = 409, 56
    says = Words("the model {model!r} was not made by Orchestra, or was changed since", "模型 {model!r} 不是由 Orchestra 创建的，或创建后被修改过")
    advice = Words(
        "install under another name with --as NAME, or replace it with --force; to remove it: ollama rm {model}",
        "请用 --as NAME 换一个名称安装，或用 --force 替换它；如需删除：ollama rm {model}",
    )
    removal: ClassVar[Words] = Words("it stays; to remove it all the same: ollama rm {model}", "该模型未被移除；如仍需删除：ollama rm {model}")

    def hint(self, language: str = "en") -> str:
        """What to do: where it was to be removed (`removing`), only how."""
        return (self.removal if self.facts.get("removing") else self.advice).text(language, self.facts)


class ExtraMissing(OrchestraError):
    """A part of Orchestra that is not installed."""
    status, exit_code = 501, 60
    says = Words("{feature} needs a part that is not installed", "{feature} 需要尚未安装的组件")
    advice = Words("run: pip install 'orchestra-ollama[{extra}]'", "请运行：pip install 'orchestra-ollama[{extra}]'")


class PortTaken(OrchestraError):
    """Somebody else listens on the port."""
    status, exit_code = 503, 62
    says = Words("cannot listen on port {port}: {detail}", "无法监听端口 {port}：{detail_zh}")
    advice = Words("choose another one with --port, or see who has it: lsof -i :{port}", "请用 --port 换一个端口，或查看占用者：lsof -i :{port}")


class OutputLost(OrchestraError):
    """Standard output takes no more: a full disk, a device that has gone."""
    exit_code = 63
    says = Words("the output cannot be written: {detail}", "无法写入输出：{detail_zh}")
    advice = Words("send it elsewhere; a dialogue is kept: orchestra sessions show", "请换一个输出位置；会话已保存：orchestra sessions show")


class StandInFault(OrchestraError):
    """The stand-in daemon's script does not fit what was asked of it."""
    exit_code = 61
    says = Words("the stand-in's script does not fit: {detail}", "替身服务的脚本不匹配：{detail}")
    advice = Words("give the stand-in as many replies as are asked for", "脚本回复数量应与请求数量一致")
