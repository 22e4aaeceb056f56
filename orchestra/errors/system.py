"""Why the operating system refused, in both languages: its own words are English, or those of the locale."""

from __future__ import annotations

import errno
import socket

from orchestra.texts import Words

_CHINESE = {
    errno.ENOENT: "文件或目录不存在",
    errno.EACCES: "没有权限",
    errno.EPERM: "不允许该操作",
    errno.ENOTDIR: "不是目录",
    errno.EISDIR: "是一个目录",
    errno.EEXIST: "已存在",
    errno.ENOSPC: "磁盘空间不足",
    errno.EROFS: "文件系统只读",
    errno.EIO: "读写错误",
    errno.ELOOP: "链接层数过多",
    errno.ENAMETOOLONG: "文件名过长",
    errno.EMFILE: "打开的文件过多",
    errno.EINVAL: "参数无效",
    errno.EADDRINUSE: "地址已被占用",
    errno.EADDRNOTAVAIL: "本机没有该地址",
    errno.EAFNOSUPPORT: "不支持该地址类型",
}


def why(error: Exception) -> Words:
    """The reason of an `OSError` (or of what the socket module raises for a port that is none)."""
    said = getattr(error, "strerror", None) or str(error)
    if isinstance(error, socket.gaierror):
        return Words(said, "无法解析该主机名")
    if isinstance(error, OverflowError):
        return Words(said, "端口应在 0 到 65535 之间")
    return Words(said, _CHINESE.get(getattr(error, "errno", None) or 0, said))
