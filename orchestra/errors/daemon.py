"""The daemon, or the way to it."""

from __future__ import annotations

from orchestra.errors.root import OrchestraError
from orchestra.texts import Words


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
