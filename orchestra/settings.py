"""One table of settings: name, default, environment variable, what it is for.

The environment is read once, at the edge (`Settings.read()`), and handed down as a frozen value. The table
drives the command line's help, `doctor` and the documentation; a test compares them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from orchestra.errors import ConfigError
from orchestra.texts import Words


class Setting(NamedTuple):
    """One row of the table."""

    name: str
    variable: str
    kind: str
    default: Any
    help: Words


def _row(kind: str, default: Any, variable: str, en: str, zh: str) -> Any:
    # a secret is handed on, and printed nowhere
    return field(default=default, repr=kind != "secret", metadata={"kind": kind, "variable": variable, "help": Words(en, zh)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What can be set, with its defaults. Durations are seconds, sizes are bytes."""

    host: str = _row("text", "", "OLLAMA_HOST", "where the Ollama daemon listens", "Ollama 的监听地址")
    home: str = _row("text", "", "ORCHESTRA_HOME", "folder of the sessions and other data", "会话等数据的目录")
    personas: str = _row("text", "", "ORCHESTRA_PERSONAS", "one more folder of persona files", "额外的角色文件目录")
    model: str = _row("text", "", "ORCHESTRA_MODEL", "the model that answers", "用于回答的模型")
    base_model: str = _row("text", "", "ORCHESTRA_BASE_MODEL", "the model that completes text", "用于续写的基础模型")
    language: str = _row("text", "", "ORCHESTRA_LANG", "language of errors and hints: zh or en", "错误与提示的语言：zh 或 en")
    window: int = _row(
        "count", 0, "ORCHESTRA_WINDOW", "context window to load the model with; 0 = the daemon's", "加载模型时的上下文窗口；0 表示用 Ollama 的"
    )
    max_tokens: int = _row(
        "count", 0, "ORCHESTRA_MAX_TOKENS", "longest answer in tokens; 0 = a quarter of the window", "回答的最大 token 数；0 表示窗口的四分之一"
    )
    repeat_penalty: float = _row("number", 1.1, "ORCHESTRA_REPEAT_PENALTY", "penalty on repeated tokens", "重复惩罚")
    parallel: int = _row(
        "count", 1, "ORCHESTRA_PARALLEL", "requests to the daemon at once (OLLAMA_NUM_PARALLEL)", "同时发往 Ollama 的请求数（OLLAMA_NUM_PARALLEL）"
    )
    keep_alive: str = _row(
        "text", "", "ORCHESTRA_KEEP_ALIVE", "how long the daemon keeps the model, e.g. 10m", "模型在内存中保留多久，例如 10m"
    )
    connect_timeout: float = _row("number", 5.0, "ORCHESTRA_CONNECT_TIMEOUT", "patience for a connection", "连接的等待时间")
    load_timeout: float = _row(
        "number", 900.0, "ORCHESTRA_LOAD_TIMEOUT", "patience for a model that is being loaded", "加载模型的等待时间"
    )
    first_token_timeout: float = _row(
        "number", 60.0, "ORCHESTRA_FIRST_TOKEN_TIMEOUT", "patience for the first token", "第一个 token 的等待时间"
    )
    prompt_token_time: float = _row(
        "number", 0.2, "ORCHESTRA_PROMPT_TOKEN_TIME", "added to that for each new token of the prompt", "提示词每个新 token 追加的等待时间"
    )
    piece_timeout: float = _row(
        "number", 60.0, "ORCHESTRA_PIECE_TIMEOUT", "patience between two pieces of an answer", "两段输出之间的等待时间"
    )
    deadline: float = _row("number", 1800.0, "ORCHESTRA_DEADLINE", "longest time for one answer", "单个回答的最长时间")
    store_timeout: float = _row(
        "number", 60.0, "ORCHESTRA_STORE_TIMEOUT", "patience for a store that is locked", "存储被锁定时的等待时间"
    )
    search: str = _row(
        "text", "", "ORCHESTRA_SEARCH",
        "search services in order, e.g. searxng,duckduckgo (a+b = both at once); empty = the first that answers",
        "搜索服务及其顺序，例如 searxng,bocha（a+b 表示同时询问）；留空则用第一个可用的",
    )  # fmt: skip
    searxng: str = _row(
        "text", "", "ORCHESTRA_SEARXNG", "address of a SearXNG, e.g. http://localhost:8080", "SearXNG 的地址，例如 http://localhost:8080"
    )
    bocha_key: str = _row("secret", "", "ORCHESTRA_BOCHA_KEY", "key of the Bocha search service", "博查搜索服务的密钥")
    tavily_key: str = _row(
        "secret", "", "ORCHESTRA_TAVILY_KEY", "key of the Tavily search service; `keyless` = without one", "Tavily 搜索服务的密钥；`keyless` 表示免密钥"
    )
    google_key: str = _row("secret", "", "ORCHESTRA_GOOGLE_KEY", "key of Google Programmable Search", "Google 可编程搜索的密钥")
    google_engine: str = _row(
        "text", "", "ORCHESTRA_GOOGLE_ENGINE", "engine id (cx) of Google Programmable Search", "Google 可编程搜索引擎 ID（cx）"
    )
    feeds: str = _row("text", "", "ORCHESTRA_FEEDS", "addresses of RSS or Atom feeds, separated by blanks", "RSS 或 Atom 源的地址，以空格分隔")
    texts: str = _row("text", "", "ORCHESTRA_TEXTS", "folder of Markdown texts for --search offline", "--search offline 使用的 Markdown 目录")
    search_timeout: float = _row(
        "number", 8.0, "ORCHESTRA_SEARCH_TIMEOUT", "patience for one search, all services together", "一次搜索（全部服务合计）的等待时间"
    )
    page_timeout: float = _row("number", 15.0, "ORCHESTRA_PAGE_TIMEOUT", "patience for one web page, 15 at most", "读取单个网页的等待时间，最多 15")
    search_age: float = _row("number", 86400.0, "ORCHESTRA_SEARCH_AGE", "how long found results are used again", "搜索结果的缓存时间")
    rerank: str = _row(
        "text", "", "ORCHESTRA_RERANK", "model that puts the best hits of a knowledge base in order; empty = none",
        "为知识库的最佳结果重新排序的模型；留空则不重排",
    )  # fmt: skip
    embedding: str = _row("text", "", "ORCHESTRA_EMBED_MODEL", "embedding model of new knowledge bases", "新建知识库使用的嵌入模型")
    expert_timeout: float = _row(
        "number", 120.0, "ORCHESTRA_EXPERT_TIMEOUT", "patience for an expert at an address; past it, the task asks it no more",
        "等待远程专家回答的时间；超时后，该任务不再询问它",
    )
    expert_tokens: str = _row(
        "secret", "", "ORCHESTRA_EXPERT_TOKENS", "tokens of experts at addresses, e.g. http://localhost:5001=TOKEN, separated by blanks",
        "远程专家的令牌，例如 http://localhost:5001=TOKEN，以空格分隔",
    )  # fmt: skip
    endpoint_keys: str = _row(
        "secret", "", "ORCHESTRA_ENDPOINT_KEYS",
        "keys of endpoints that `bench` measures, e.g. http://localhost:8000=KEY, separated by blanks",
        "`bench` 所测端点的密钥，例如 http://localhost:8000=KEY，以空格分隔",
    )  # fmt: skip
    token: str = _row("secret", "", "ORCHESTRA_TOKEN", "token that the gateway asks for", "网关要求的访问令牌")
    tokens: str = _row(
        "secret", "", "ORCHESTRA_TOKENS",
        "more tokens, each with a name and sessions of its own: alice=TOKEN bob=TOKEN, or @FILE (one a line)",
        "更多令牌，每个都有名称并各自保存会话：alice=TOKEN bob=TOKEN，或 @文件（每行一个）",
    )  # fmt: skip
    jwt_secret: str = _row(
        "secret", "", "ORCHESTRA_JWT_SECRET",
        "secret with which Open WebUI signs who its user is (its FORWARD_USER_INFO_HEADER_JWT_SECRET), 32 bytes or more",
        "Open WebUI 为其用户身份签名的密钥（其 FORWARD_USER_INFO_HEADER_JWT_SECRET），至少 32 字节",
    )  # fmt: skip
    allowed_hosts: str = _row(
        "text", "", "ORCHESTRA_ALLOWED_HOSTS", "names by which the gateway may be called, beside localhost, separated by blanks",
        "除 localhost 外，网关可用的主机名，以空格分隔",
    )  # fmt: skip
    allowed_origins: str = _row(
        "text", "", "ORCHESTRA_ALLOWED_ORIGINS", "origins of pages that may call the gateway, separated by blanks",
        "允许调用网关的页面来源，以空格分隔",
    )  # fmt: skip
    body_limit: int = _row("count", 2_000_000, "ORCHESTRA_BODY_LIMIT", "largest request body that the gateway takes", "网关接受的最大请求体")
    guard: str = _row(
        "on|strict|off", "on", "ORCHESTRA_GUARD",
        "the daemon's own models: bounded and looked after; strict = a long history is refused, not shortened; off = unchanged",
        "Ollama 自身的模型：有上限并受监护；strict = 过长的历史不缩短而报错；off = 原样转发",
    )  # fmt: skip
    record: int = _row(
        "count", 0, "ORCHESTRA_RECORD",
        "1 = the gateway keeps every dialogue; 0 = only those whose client names its chat, as Open WebUI does",
        "1 = 网关保存所有对话；0 = 只保存客户端给出会话编号的对话（如 Open WebUI）",
    )  # fmt: skip
    in_flight: int = _row("count", 128, "ORCHESTRA_IN_FLIGHT", "requests that the gateway answers at once", "网关同时处理的请求数")
    header_timeout: float = _row(
        "number", 10.0, "ORCHESTRA_HEADER_TIMEOUT", "patience for the headers of a request", "等待请求头的时间"
    )
    body_timeout: float = _row("number", 30.0, "ORCHESTRA_BODY_TIMEOUT", "patience for the body of a request", "等待请求体的时间")
    reader_timeout: float = _row(
        "number", 60.0, "ORCHESTRA_READER_TIMEOUT", "patience for a caller that reads nothing of its answer", "等待调用方读取回答的时间"
    )
    grace: float = _row(
        "number", 30.0, "ORCHESTRA_GRACE", "how long answers may go on when the gateway is told to end", "网关收到结束信号后，回答可继续的时间"
    )
    line_limit: int = _row("count", 8 * 2**20, "ORCHESTRA_LINE_LIMIT", "longest line of a stream", "流中单行的最大长度")
    reply_limit: int = _row("count", 256 * 2**20, "ORCHESTRA_REPLY_LIMIT", "largest answer as a whole", "整个回答的最大长度")

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
        """The settings of this process: defaults, then the environment, then `overrides` (None = not set).

        Raises `ConfigError` for a value of the wrong kind.
        """
        source = os.environ if environment is None else environment
        chosen: dict[str, Any] = {}
        for row in table():
            raw = source.get(row.variable, "").strip()
            if raw:
                chosen[row.name] = _parsed(row, raw)
        chosen.update({name: value for name, value in overrides.items() if value is not None})
        return cls(**chosen)

    def folder(self) -> Path:
        """The folder of the data; it need not exist yet."""
        if self.home:
            return Path(self.home).expanduser()
        from platformdirs import user_data_path

        return user_data_path("orchestra", appauthor=False)


def table() -> list[Setting]:
    """All settings, in the order of the documentation."""
    return [
        Setting(f.name, f.metadata["variable"], f.metadata["kind"], f.default, f.metadata["help"])
        for f in fields(Settings)
    ]


def _parsed(row: Setting, raw: str) -> Any:
    if row.kind in ("text", "secret"):
        return raw
    if "|" in row.kind:
        if raw in row.kind.split("|"):
            return raw
        raise ConfigError(
            name=row.variable, value=raw, detail=f"not one of {row.kind}", detail_zh=f"应为 {row.kind} 之一",
            example=f"{row.variable}={row.default}",
        )  # fmt: skip
    try:
        number = int(raw) if row.kind == "count" else float(raw)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ConfigError(
            name=row.variable,
            value=raw,
            detail="not a number of 0 or more",
            detail_zh="应为不小于 0 的数字",
            example=f"{row.variable}={row.default}",
        )
    return number
