"""What the gateway refuses: a body, a header, a caller."""

from __future__ import annotations

from orchestra.errors.root import OrchestraError
from orchestra.texts import Words


class GatewayFault(OrchestraError):
    """A request over HTTP that is not served."""
    status, exit_code = 400, 110


class BodyInvalid(GatewayFault):
    """The body is not the JSON object that was asked for."""
    exit_code = 111
    says = Words("the body is not JSON: {detail} at byte {offset}", "请求体不是 JSON：第 {offset} 字节处{detail_zh}")
    advice = Words(
        'send one JSON object, with "intent" for /chat or "task" for /integrate',
        '请发送一个 JSON 对象：/chat 用 "intent"，/integrate 用 "task"',
    )


class BodyTooLarge(GatewayFault):
    """The body is larger than `ORCHESTRA_BODY_LIMIT`."""
    status, exit_code = 413, 112
    says = Words("the body is larger than {limit} bytes", "请求体超过 {limit} 字节")
    advice = Words("send less, or raise ORCHESTRA_BODY_LIMIT", "请减少内容，或调大 ORCHESTRA_BODY_LIMIT")


class MediaTypeRefused(GatewayFault):
    """The body's content type is not JSON: what a page elsewhere could send without asking first is refused."""
    status, exit_code = 415, 113
    says = Words("the content type is {kind!r}, not application/json", "内容类型为 {kind!r}，而不是 application/json")
    advice = Words("add the header Content-Type: application/json", "请加上请求头 Content-Type: application/json")


class FieldInvalid(GatewayFault):
    """A field or a header that is missing, unknown or of the wrong kind."""
    status, exit_code = 422, 114
    says = Words("{field}: {detail}", "{field}：{detail_zh}")
    advice = Words("GET /docs shows what is taken", "GET /docs 可查看接受的内容")


class TokenRefused(GatewayFault):
    """The request does not carry the gateway's token."""
    status, exit_code = 401, 115
    says = Words("the token is missing or wrong", "缺少令牌，或令牌不正确")
    advice = Words(
        "send the header Authorization: Bearer TOKEN, with the token of ORCHESTRA_TOKEN",
        "请发送请求头 Authorization: Bearer TOKEN，令牌即 ORCHESTRA_TOKEN",
    )


class HostRefused(GatewayFault):
    """The Host header names somebody else: a name that was made to point here (DNS rebinding)."""
    status, exit_code = 421, 116
    says = Words("this is not {host!r}", "本服务不是 {host!r}")
    advice = Words("where the name is right, add it to ORCHESTRA_ALLOWED_HOSTS", "若该名称无误，请加入 ORCHESTRA_ALLOWED_HOSTS")


class OriginRefused(GatewayFault):
    """The request comes from a page of another origin."""
    status, exit_code = 403, 117
    says = Words("pages of {origin!r} may not ask here", "不允许来自 {origin!r} 的页面访问")
    advice = Words("where the page is yours, add it to ORCHESTRA_ALLOWED_ORIGINS", "若是你自己的页面，请加入 ORCHESTRA_ALLOWED_ORIGINS")


class AgentRecursion(GatewayFault):
    """Agents that ask each other in a circle, or too deep."""
    status, exit_code = 508, 118
    says = Words("agent recursion: {detail}", "智能体递归：{detail_zh}")
    advice = Words("let no expert ask the coordinator that asks it", "请勿让专家反过来询问它的协调者")


class RouteMissing(GatewayFault):
    """There is nothing at this path."""
    status, exit_code = 404, 119
    says = Words("there is nothing at {path}", "{path} 不存在")
    advice = Words(
        "POST /chat and /integrate, GET /persona; GET /docs shows all, with examples",
        "可用 POST /chat 与 /integrate、GET /persona；GET /docs 列出全部并附示例",
    )


class MethodRefused(GatewayFault):
    """The path is right, the method is not."""
    status, exit_code = 405, 120
    says = Words("{method} is not served at {path}", "{path} 不支持 {method}")
    advice = Words("use {allowed}", "请使用 {allowed}")

class Overloaded(GatewayFault):
    """As many requests as `ORCHESTRA_IN_FLIGHT` are being answered; the answer says when to come again (Retry-After)."""
    status, exit_code = 429, 121
    says = Words("{most} requests are being answered already", "已有 {most} 个请求正在处理")
    advice = Words("ask again in {seconds} seconds, or raise ORCHESTRA_IN_FLIGHT", "请在 {seconds} 秒后重试，或调大 ORCHESTRA_IN_FLIGHT")


class HeadersTooLarge(GatewayFault):
    """The head of the request (path and headers) is larger than 16 KiB."""
    status, exit_code = 431, 122
    says = Words("path and headers are larger than {limit} bytes", "路径与请求头超过 {limit} 字节")
    advice = Words("send fewer cookies and shorter headers", "请减少 Cookie，缩短请求头")


class RequestInvalid(GatewayFault):
    """What came is no HTTP request."""
    exit_code = 123
    says = Words("this is no HTTP/1.1 request", "这不是 HTTP/1.1 请求")
    advice = Words("ask over http://, not https://", "请使用 http://，而不是 https://")


class RequestTooSlow(GatewayFault):
    """The head or the body of a request has not come whole in `ORCHESTRA_HEADER_TIMEOUT` or `ORCHESTRA_BODY_TIMEOUT`.

    A body has less time where as many as `ORCHESTRA_IN_FLIGHT` are waited for: one more ends the wait for the oldest.
    """
    status, exit_code = 408, 124
    says = Words("the request has not come whole within {seconds} seconds", "请求未在 {seconds} 秒内完整到达")
    advice = Words("send it again", "请重新发送")


class ManagementRefused(GatewayFault):
    """Models are pulled, made and deleted by whoever runs the daemon, not by those who ask through the gateway."""
    status, exit_code = 403, 109
    says = Words("models are not pulled, made or deleted here", "此处不能下载、创建或删除模型")
    advice = Words(
        "do it at the daemon itself, where its owner may: OLLAMA_HOST={url} ollama {command} ...",
        "请由 Ollama 的管理者直接操作：OLLAMA_HOST={url} ollama {command} ...",
    )


class UserRefused(GatewayFault):
    """The token that says which user a request speaks for is not valid."""
    status, exit_code = 401, 125
    says = Words("the token of the user is not valid: {detail}", "用户令牌无效：{detail_zh}")
    advice = Words(
        "give Open WebUI as FORWARD_USER_INFO_HEADER_JWT_SECRET what ORCHESTRA_JWT_SECRET is here, and both one time",
        "请让 Open WebUI 的 FORWARD_USER_INFO_HEADER_JWT_SECRET 与此处的 ORCHESTRA_JWT_SECRET 相同，并核对两边的时钟",
    )
