"""Looking things up: search services, web pages, the knowledge base."""

from __future__ import annotations

from orchestra.errors.root import OrchestraError
from orchestra.texts import Words


class SearchFault(OrchestraError):
    """A search service, or the way to it."""
    status, exit_code = 502, 70
    says = Words("the search with {provider} failed: {detail}", "{provider} 搜索失败：{detail_zh}")
    advice = Words(
        "choose another one with --search; `orchestra doctor --search` lists which answer",
        "请用 --search 换一个；`orchestra doctor --search` 可查看哪些可用",
    )


class SearchUnreachable(SearchFault):
    """The service did not answer in time, or not at all."""
    status, exit_code = 504, 71
    says = Words("{provider} does not answer: {detail}", "{provider} 没有应答：{detail_zh}")
    advice = Words("it may not be reachable from here; choose another one with --search (`orchestra doctor --search` lists which answer)",
                   "该服务在当前网络可能无法访问；请用 --search 换一个（`orchestra doctor --search` 可查看哪些可用）")  # fmt: skip


class RateLimited(SearchFault):
    """The service wants no more questions for now; `retry_after` is in seconds where it said so."""
    status, exit_code = 429, 72
    says = Words("{provider} takes no more questions for now: {detail}", "{provider} 暂时不再接受查询：{detail_zh}")
    advice = Words(
        "wait a while or choose another one with --search; it is left alone for {seconds} s",
        "请稍候或用 --search 换一个；{seconds} 秒内不再询问它",
    )


class KeyRefused(SearchFault):
    """The service wants a key, or another one."""
    status, exit_code = 401, 73
    says = Words("{provider} does not accept the key: {detail}", "{provider} 不接受密钥：{detail_zh}")
    advice = Words("set {variable} to a valid key", "请将 {variable} 设为有效的密钥")


class BadResponse(SearchFault):
    """The service answered with something that is no list of results."""
    exit_code = 74
    says = Words("{provider} answered with something that cannot be read: {detail}", "{provider} 的应答无法读取：{detail_zh}")


class PageFault(OrchestraError):
    """A web page that was not read. The answer goes on without it."""
    status, exit_code = 502, 80
    says = Words("{url} was not read: {detail}", "未读取 {url}：{detail_zh}")
    advice = Words("the answer uses what the search said of it", "回答将使用搜索结果中的摘要")


class BlockedAddress(PageFault):
    """An address on the private side of the network, which no page or search result may name."""
    status, exit_code = 403, 81
    says = Words("{url} leads to the private address {address}", "{url} 指向内网地址 {address}")
    advice = Words(
        "pages are read from public addresses only; give a local file to `orchestra knowledge add`",
        "只读取公网地址的网页；本地文件请用 `orchestra knowledge add`",
    )


class SchemeRefused(PageFault):
    """An address that is neither http nor https."""
    status, exit_code = 403, 82
    says = Words("{url} is neither http nor https", "{url} 不是 http 或 https 地址")
    advice = Words("give a local file to `orchestra knowledge add`", "本地文件请用 `orchestra knowledge add`")


class TypeRefused(PageFault):
    """Something that is no page of text."""
    status, exit_code = 415, 83
    says = Words("{url} is {kind}, not a page of text", "{url} 是 {kind_zh}，不是文本网页")
    advice = Words("download it and give it to `orchestra knowledge add`", "请下载后用 `orchestra knowledge add` 添加")


class ExtractTimeout(PageFault):
    """A page whose text could not be taken out in time."""
    status, exit_code = 504, 84
    says = Words("the text of {url} could not be taken out within {seconds} s", "{seconds} 秒内未能提取 {url} 的正文")


class KnowledgeFault(OrchestraError):
    """Local documents and their index."""
    status, exit_code = 500, 90


class KnowledgeMissing(KnowledgeFault):
    """There is no knowledge base of that name."""
    status, exit_code = 404, 91
    says = Words("there is no knowledge base {name!r}{nearest}", "没有名为 {name!r} 的知识库{nearest_zh}")
    advice = Words("`orchestra knowledge list` shows what there is; `orchestra knowledge add PATH --name {name}` makes it",
                   "`orchestra knowledge list` 可查看已有的知识库；`orchestra knowledge add 路径 --name {name}` 可新建")  # fmt: skip


class DocumentUnreadable(KnowledgeFault):
    """A file that cannot be taken in; the others are."""
    status, exit_code = 422, 92
    says = Words("{path}: {detail}", "{path}：{detail_zh}")
    advice = Words("correct or leave out this file; the others are in", "请修正或跳过该文件；其余文件已收录")


class EmbeddingChanged(KnowledgeFault):
    """The vectors were made by a model that is another one now, or gone."""
    status, exit_code = 409, 93
    says = Words("the vectors of {name!r} were made by {model}: {detail}", "{name!r} 的向量由 {model} 生成：{detail_zh}")
    advice = Words("make them anew: orchestra knowledge add --name {name} --embed {model}; until then full text alone is searched",
                   "请重新生成：orchestra knowledge add --name {name} --embed {model}；在此之前只用全文检索")  # fmt: skip


class EmbeddingFailed(KnowledgeFault):
    """The embedding model gave no usable vector."""
    status, exit_code = 502, 94
    says = Words("{model} gave no usable vector: {detail}", "{model} 未能给出可用的向量：{detail}")
    advice = Words("the text is in and found by its words; try another embedding model with --embed", "文本已收录，可按词检索；请用 --embed 换一个嵌入模型")
