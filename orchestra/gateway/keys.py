"""Who holds which key, and whose a session is.

`ORCHESTRA_TOKEN` is the key of whoever runs the gateway: its sessions are those of the command line. Each key of
`ORCHESTRA_TOKENS` has a name, under which its sessions are stored; so a session of another key cannot even be named.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestra.errors import ConfigError, SessionMissing, TokenRefused
from orchestra.errors.system import why
from orchestra.settings import Settings

OWNER = ""  # the holder of ORCHESTRA_TOKEN, and everybody where no key is asked for
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a gateway: SHA-256 of each, by the name of its holder."""

    digests: Mapping[str, bytes]

    @classmethod
    def of(cls, settings: Settings) -> Keys:
        """The keys that are set. Raises `ConfigError`, which names a key and never holds one."""
        digests = {OWNER: _digest(settings.token)} if settings.token else {}
        for name, token in _named(settings.tokens):
            if name in digests:
                raise _unusable(f"{name} is named twice", f"{name} 出现了两次")
            if _digest(token) in digests.values():
                raise _unusable(f"{name} has the key of somebody else", f"{name} 的令牌与其他名称相同")
            digests[name] = _digest(token)
        return cls(digests)

    def holder(self, authorization: Sequence[str]) -> str:
        """Whose key the Authorization headers of a request carry; `OWNER` where none is asked for. Raises `TokenRefused`.

        All keys are compared, each in the same time wherever the first difference is.
        """
        if not self.digests:
            return OWNER
        scheme, _, sent = authorization[0].partition(" ") if len(authorization) == 1 else ("", "", "")
        given = _digest(sent.strip())
        found = [name for name, digest in self.digests.items() if hmac.compare_digest(given, digest)]
        if scheme.lower() != "bearer" or not found:
            raise TokenRefused
        return found[0]

    def session(self, holder: str, name: str) -> str:
        """The name under which a holder's session is stored. Raises `SessionMissing` for one that is another's."""
        if holder != OWNER:
            return f"{holder}/{name}"
        if not self.owns(OWNER, name) or (self._others and _ID.fullmatch(name)):  # an id may be anybody's
            raise SessionMissing(name=name, nearest="", nearest_zh="")
        return name

    def owns(self, holder: str, stored: str) -> bool:
        """Whether the session that is stored under this name is the holder's."""
        whose, slash, _ = stored.partition("/")
        return (whose if slash and whose in self._others else OWNER) == holder

    @property
    def _others(self) -> set[str]:
        return set(self.digests) - {OWNER}


def _named(tokens: str) -> Iterator[tuple[str, str]]:
    """Names and keys of `NAME=KEY NAME=KEY`, or of the file that `@FILE` names, with one on each line."""
    given = tokens.split()
    if tokens.startswith("@"):
        try:
            lines = Path(tokens[1:]).expanduser().read_text("utf-8").splitlines()
        except (OSError, UnicodeError) as error:
            said = {language: why(error).text(language) for language in ("en", "zh")}
            raise _unusable(f"its file cannot be read: {said['en']}", f"无法读取其文件：{said['zh']}") from None
        given = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    for place, each in enumerate(given, 1):
        name, _, token = each.partition("=")
        if not _NAME.fullmatch(name) or not token or not token.isascii() or token != token.strip():
            raise _unusable(f"number {place} is not NAME=TOKEN", f"第 {place} 项不是 名称=令牌")
        yield name, token


def _unusable(detail: str, detail_zh: str) -> ConfigError:
    return ConfigError(
        name="ORCHESTRA_TOKENS", value="...", detail=detail, detail_zh=detail_zh, example="ORCHESTRA_TOKENS='alice=TOKEN1 bob=TOKEN2'"
    )


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
