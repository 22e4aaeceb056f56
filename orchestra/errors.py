"""Every error that Orchestra raises, in one tree.

    OrchestraError
      ConfigError                 a setting or an address that cannot be used
      UsageError                  an argument that cannot be used
      DaemonFault                 the daemon, or the way to it
        DaemonUnreachable  DaemonDisconnected  NotOllama  RedirectRefused  AuthFailed
        DaemonBusy  DaemonError  LoadFailed  DaemonTooOld
      ModelFault                  the model that was named
        NoModel  ModelMissing  ModelUnsupported  PromptTooLong  PullFailed
      ReplyFault                  an answer that began and did not end well; `.reply` is what came
        StreamTruncated  StreamCorrupt  LineTooLong  ReplyTooLarge  EmptyReply
        FirstTokenTimeout  StreamStalled
      StoreFault                  the folder and the file of the sessions
        StoreBusy  StoreCorrupt  StoreTooNew  StorageFull  StoreUnwritable
        SessionMissing  SessionExists  SessionBusy  ImportInvalid
      PersonaFault
        PersonaMissing  PersonaInvalid
      ExtraMissing                a part that is not installed
      PortTaken                   somebody listens where we want to
      OutputLost                  the answer cannot be written where it was sent
      StandInFault                the stand-in daemon's script does not fit what was asked

Each has a `status` (for HTTP), an `exit_code` of its own (for the shell), a message that says what
happened and a hint that says what to do, both in English and Chinese.
"""

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


class DaemonFault(OrchestraError):
    """The daemon, or the way to it."""
    status, exit_code = 502, 11


class DaemonUnreachable(DaemonFault):
    """Nothing answers at the address."""
    status, exit_code = 503, 3
    says = Words("cannot reach Ollama at {url}: {detail}", "无法连接 Ollama（{url}）：{detail_zh}")
    advice = Words(
        "start it with `ollama serve`, or set OLLAMA_HOST; `orchestra demo` works without it",
        "请用 `ollama serve` 启动，或设置 OLLAMA_HOST；`orchestra demo` 无需 Ollama 也能运行",
    )


class DaemonDisconnected(DaemonFault):
    """The connection broke before an answer began."""
    exit_code = 12
    says = Words("Ollama at {url} closed the connection before answering", "Ollama（{url}）在回答之前断开了连接")
    advice = Words("see the daemon's log, then try again", "请查看 Ollama 的日志，然后重试")


class NotOllama(DaemonFault):
    """Something answered that is not an Ollama daemon."""
    exit_code = 13
    says = Words("{url} answered, but not like Ollama: {detail}", "{url} 有应答，但不是 Ollama：{detail_zh}")
    advice = Words(
        "check OLLAMA_HOST: it needs Ollama's own address, without /v1 and without a proxy in between",
        "请检查 OLLAMA_HOST：应为 Ollama 本身的地址，不带 /v1，中间也不要有代理",
    )


class RedirectRefused(DaemonFault):
    """The daemon's address sends requests elsewhere; a prompt is never sent on."""
    exit_code = 14
    says = Words("{url} redirects to {target}; the prompt was not sent there", "{url} 重定向到 {target}，提示词未被转发")
    advice = Words("set OLLAMA_HOST to the final address if you trust it", "如果信任该地址，请将 OLLAMA_HOST 直接设为它")


class AuthFailed(DaemonFault):
    """401 or 403: the daemon, or what stands before it, wants another caller."""
    status, exit_code = 401, 15
    says = Words("Ollama at {url} refused the request (status {status}): {detail}", "Ollama（{url}）拒绝了请求（状态 {status}）：{detail}")
    advice = Words(
        "for a cloud model run `ollama signin`; behind a proxy allow this host name (OLLAMA_ORIGINS)",
        "云端模型请先运行 `ollama signin`；经过代理时请放行该主机名（OLLAMA_ORIGINS）",
    )


class DaemonBusy(DaemonFault):
    """503 or 429, also after waiting."""
    status, exit_code = 503, 16
    says = Words("Ollama at {url} is busy: {detail}", "Ollama（{url}）正忙：{detail}")
    advice = Words("try again in a moment, or raise OLLAMA_MAX_QUEUE on the daemon", "请稍后再试，或在 Ollama 端调大 OLLAMA_MAX_QUEUE")


class DaemonError(DaemonFault):
    """The daemon answered with an error of its own."""
    exit_code = 17
    says = Words("Ollama reports an error (status {status}): {detail}", "Ollama 报告错误（状态 {status}）：{detail}")
    advice = Words(
        "see the daemon's log (`journalctl -u ollama` or ~/.ollama/logs)",
        "请查看 Ollama 的日志（`journalctl -u ollama` 或 ~/.ollama/logs）",
    )


class LoadFailed(DaemonFault):
    """The model could not be loaded into memory."""
    exit_code = 18
    says = Words("Ollama could not load {model}: {detail}", "Ollama 无法加载模型 {model}：{detail}")
    advice = Words(
        "free memory (`orchestra doctor` shows how much there is), or take a smaller quantization",
        "请释放内存（`orchestra doctor` 会显示可用内存），或换用更小的量化版本",
    )


class DaemonTooOld(DaemonFault):
    """The daemon lacks something that was asked for."""
    status, exit_code = 501, 19
    says = Words("Ollama {version} is too old for {feature}", "Ollama {version} 版本过旧，不支持{feature}")
    advice = Words("update Ollama to {needed} or newer", "请将 Ollama 升级到 {needed} 或更新版本")


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


class ModelUnsupported(ModelFault):
    """The model cannot do that (tools, images, thinking, suffix, embeddings, chat)."""
    exit_code = 22
    says = Words("the model {model!r} cannot do this: {detail}", "模型 {model!r} 不支持此操作：{detail}")
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
        "shorten it, pass --window {needed_window}, or start the daemon with OLLAMA_CONTEXT_LENGTH={needed_window}",
        "请缩短内容，或使用 --window {needed_window}，或以 OLLAMA_CONTEXT_LENGTH={needed_window} 启动 Ollama",
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


class StoreFault(OrchestraError):
    """The folder and the file of the sessions."""
    status, exit_code = 500, 40


class StoreBusy(StoreFault):
    """Another process holds the store's lock for too long."""
    status, exit_code = 503, 41
    says = Words("the store {path} was locked for {seconds} s", "存储 {path} 已被锁定 {seconds} 秒")
    advice = Words("see which program holds it (`lsof {path}`), then try again", "请查看是哪个程序占用（`lsof {path}`），然后重试")


class StoreCorrupt(StoreFault):
    """The file is no database, or a damaged one. It is left untouched."""
    exit_code = 42
    says = Words("{path} is not a readable store: {detail}", "{path} 不是可读取的存储文件：{detail}")
    advice = Words(
        "move it away (it was left untouched) or set ORCHESTRA_HOME to another folder",
        "请将它移走（文件未被改动），或将 ORCHESTRA_HOME 设为其他目录",
    )


class StoreTooNew(StoreFault):
    """The file was written by a newer Orchestra. It is left untouched."""
    exit_code = 43
    says = Words("{path} was written by a newer Orchestra ({detail})", "{path} 由更新版本的 Orchestra 写入（{detail}）")
    advice = Words("update Orchestra, or set ORCHESTRA_HOME to another folder", "请升级 Orchestra，或将 ORCHESTRA_HOME 设为其他目录")


class StorageFull(StoreFault):
    """No room to write."""
    status, exit_code = 507, 44
    says = Words("no room left to write {path} ({free} bytes free)", "没有空间写入 {path}（剩余 {free} 字节）")
    advice = Words("free some space; nothing that was stored is lost", "请清理磁盘空间；已保存的内容不会丢失")


class StoreUnwritable(StoreFault):
    """The folder cannot be written."""
    exit_code = 45
    says = Words("cannot write to {path}: {detail}", "无法写入 {path}：{detail}")
    advice = Words("set ORCHESTRA_HOME to a folder that you may write to", "请将 ORCHESTRA_HOME 设为可写入的目录")


class SessionMissing(StoreFault):
    """There is no session of that name."""
    status, exit_code = 404, 46
    says = Words("there is no session {name!r}{nearest}", "没有名为 {name!r} 的会话{nearest_zh}")
    advice = Words("`orchestra sessions list` shows what there is", "`orchestra sessions list` 可查看已有的会话")


class SessionExists(StoreFault):
    """The name is taken."""
    status, exit_code = 409, 47
    says = Words("there is already a session {name!r}", "名为 {name!r} 的会话已存在")
    advice = Words("choose another name, or delete that one first", "请换一个名称，或先删除已有的会话")


class SessionBusy(StoreFault):
    """Another turn of the session is being answered."""
    status, exit_code = 409, 48
    says = Words("the session {name!r} is answering another turn", "会话 {name!r} 正在回答另一轮")
    advice = Words("wait for it, or fork it (`orchestra sessions fork {name}`)", "请等待完成，或分叉该会话（`orchestra sessions fork {name}`）")


class ImportInvalid(StoreFault):
    """A file that is no exported session. Nothing of it was stored."""
    status, exit_code = 422, 49
    says = Words("{path}, line {line}: {detail}", "{path} 第 {line} 行：{detail}")
    advice = Words("import takes what `orchestra sessions export` writes", "请使用 `orchestra sessions export` 导出的文件")


class PersonaFault(OrchestraError):
    """A persona that cannot be used."""
    status, exit_code = 422, 50


class PersonaMissing(PersonaFault):
    """There is no persona of that name."""
    status, exit_code = 404, 51
    says = Words("there is no persona {name!r}{nearest}", "没有名为 {name!r} 的角色{nearest_zh}")
    advice = Words("`orchestra personas list` shows what there is", "`orchestra personas list` 可查看已有的角色")


class PersonaInvalid(PersonaFault):
    """A persona file that cannot be read."""
    exit_code = 52
    says = Words("{path}:{line}: {detail}", "{path}:{line}：{detail_zh}")
    advice = Words("correct the file; personas/lawyer.md is an example", "请修改该文件；可参考 personas/lawyer.md")


class ExtraMissing(OrchestraError):
    """A part of Orchestra that is not installed."""
    status, exit_code = 501, 60
    says = Words("{feature} needs a part that is not installed", "{feature} 需要尚未安装的组件")
    advice = Words("run: pip install 'orchestra-ollama[{extra}]'", "请运行：pip install 'orchestra-ollama[{extra}]'")


class PortTaken(OrchestraError):
    """Somebody else listens on the port."""
    status, exit_code = 503, 62
    says = Words("cannot listen on port {port}: {detail}", "无法监听端口 {port}：{detail}")
    advice = Words("choose another one with --port, or see who has it: lsof -i :{port}", "请用 --port 换一个端口，或查看占用者：lsof -i :{port}")


class OutputLost(OrchestraError):
    """Standard output takes no more: a full disk, a device that has gone."""
    exit_code = 63
    says = Words("the output cannot be written: {detail}", "无法写入输出：{detail}")
    advice = Words("send it elsewhere; a dialogue is kept: orchestra sessions show", "请换一个输出位置；会话已保存：orchestra sessions show")


class StandInFault(OrchestraError):
    """The stand-in daemon's script does not fit what was asked of it."""
    exit_code = 61
    says = Words("the stand-in's script does not fit: {detail}", "替身服务的脚本不匹配：{detail}")
    advice = Words("give the stand-in as many replies as are asked for", "脚本回复数量应与请求数量一致")


def every_error() -> list[type[OrchestraError]]:
    """All classes of the tree, the root first; for the documentation and its test."""
    found: list[type[OrchestraError]] = [OrchestraError]
    for error in found:
        found.extend(error.__subclasses__())
    return found
