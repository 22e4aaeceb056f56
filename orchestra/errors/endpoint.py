"""An OpenAI-compatible endpoint that is measured beside the daemon."""

from __future__ import annotations

from orchestra.errors.root import OrchestraError
from orchestra.texts import Words


class EndpointFault(OrchestraError):
    """An OpenAI-compatible endpoint that cannot be measured: nobody there, another protocol, no such model, no key."""
    status, exit_code = 502, 64
    says = Words("the endpoint {name} ({url}) cannot be measured: {detail}", "无法测量端点 {name}（{url}）：{detail_zh}")
    advice = Words("{fix}", "{fix_zh}")
