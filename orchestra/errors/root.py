"""The root of the tree, and what is wrong before anything is sent."""

from __future__ import annotations

from typing import Any, ClassVar

from orchestra.texts import Words


class OrchestraError(Exception):
    """The root. `facts` fill the texts; `reply` (a `Reply`) is the answer so far where there is one."""
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    says: ClassVar[Words] = Words("something went wrong: {detail}", "出错了：{detail}")
    advice: ClassVar[Words] = Words("run the command again with --debug and report what it prints", "请加上 --debug 再运行一次，并反馈输出内容")

    def __init__(self, *, reply: Any = None, **facts: Any) -> None:
        self.facts = facts
        self.reply = reply
        super().__init__(self.message())

    @classmethod
    def code(cls) -> str:
        """The error's name for programs: `DaemonUnreachable` -> `daemon_unreachable`."""
        return "".join("_" + c.lower() if c.isupper() and i else c.lower() for i, c in enumerate(cls.__name__))

    def message(self, language: str = "en") -> str:
        """What happened, in one line."""
        return self.says.text(language, self.facts)

    def hint(self, language: str = "en") -> str:
        """What to do, in one line."""
        return self.advice.text(language, self.facts)


class ConfigError(OrchestraError):
    """A setting that cannot be used, found before anything was sent."""
    status, exit_code = 500, 10
    says = Words("{name} is set to {value!r}: {detail}", "{name} 的值为 {value!r}：{detail_zh}")
    advice = Words("correct {name}, for example {example}", "请修改 {name}，例如 {example}")


class UsageError(OrchestraError):
    """An argument that cannot be used."""
    status, exit_code = 422, 2
    says = Words("{detail}", "{detail_zh}")
    advice = Words("{fix}", "{fix_zh}")
