"""The folder and the file of the sessions."""

from __future__ import annotations

from orchestra.errors.root import OrchestraError
from orchestra.texts import Words


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
    says = Words("cannot write to {path}: {detail}", "无法写入 {path}：{detail_zh}")
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
