"""Which user of Open WebUI a request speaks for: everybody there asks with the same key.

A header with a name in it can be written by whoever holds that key. So where a secret is shared with Open WebUI only
its signed token counts (RFC 7519, HS256): `FORWARD_USER_INFO_HEADER_JWT_SECRET` there, `ORCHESTRA_JWT_SECRET` here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

import jwt
from starlette.datastructures import Headers
from starlette.types import Scope

from orchestra.errors import ConfigError, FieldInvalid, UserRefused
from orchestra.settings import Settings
from orchestra.texts import Words

NOBODY = ""
SIGNED, PLAIN = "x-openwebui-user-jwt", "x-openwebui-user-id"
ALGORITHM, ISSUER = "HS256", "open-webui"
SHORTEST = 32  # bytes of a secret: as many as the hash has (RFC 7518, 3.2)
LEEWAY = 30.0  # seconds by which two clocks may differ
_USER = re.compile(r"[A-Za-z0-9._@%+-]{1,128}")
_EXPIRED = Words("it has expired", "已过期")
_OTHERS = Words("it is signed with another secret", "签名所用的密钥不同")
_NONE = Words("it is no token of Open WebUI", "不是 Open WebUI 的令牌")


@dataclass(frozen=True, slots=True)
class Users:
    """How users are told apart here: by signed tokens where there is a `secret`, else by name, as far as that is believed."""

    secret: str = field(repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Users:
        """As it is set. Raises `ConfigError` for a secret that is too short, without repeating it."""
        secret = settings.jwt_secret
        if secret and len(secret.encode()) < SHORTEST:
            raise ConfigError(
                name="ORCHESTRA_JWT_SECRET", value="...", detail=f"shorter than {SHORTEST} bytes", detail_zh=f"短于 {SHORTEST} 字节",
                example="ORCHESTRA_JWT_SECRET=$(openssl rand -hex 32)",
            )  # fmt: skip
        return cls(secret)

    def user(self, scope: Scope, *, keyed: bool) -> str:
        """The user's id, `NOBODY` where none is named; `keyed`: the request came with a key.

        Without a secret a name is believed that comes with a key or from this machine. Raises `UserRefused` for a token
        that is not valid, `FieldInvalid` for an id that is none.
        """
        headers = Headers(scope=scope)
        if self.secret:
            return self._signed(headers.getlist(SIGNED))
        names = [name for name in headers.getlist(PLAIN) if name] if keyed or _from_here(scope) else []
        if len(names) > 1 or not all(map(_USER.fullmatch, names)):
            raise FieldInvalid(field=PLAIN, detail="one id of at most 128 letters and digits", detail_zh="应为一个不超过 128 个字母或数字的 ID")
        return names[0] if names else NOBODY

    def _signed(self, tokens: list[str]) -> str:
        if not tokens:
            return NOBODY
        if len(tokens) > 1:
            raise _refused(_NONE)
        try:
            claims = jwt.decode(
                tokens[0], self.secret, algorithms=[ALGORITHM], issuer=ISSUER, leeway=LEEWAY,
                options={"require": ["exp", "iss", "sub"]},
            )  # fmt: skip
        except jwt.ExpiredSignatureError:
            raise _refused(_EXPIRED) from None
        except jwt.InvalidSignatureError:
            raise _refused(_OTHERS) from None
        except jwt.PyJWTError:
            raise _refused(_NONE) from None
        if not _USER.fullmatch(claims["sub"]):
            raise _refused(_NONE)
        return str(claims["sub"])


def _refused(why: Words) -> UserRefused:
    return UserRefused(detail=why.en, detail_zh=why.zh)


def _from_here(scope: Scope) -> bool:
    """Whether the request comes from this machine."""
    try:
        return ipaddress.ip_address((scope.get("client") or ("", 0))[0]).is_loopback
    except ValueError:
        return False
