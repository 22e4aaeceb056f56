#!/bin/sh
# Makes the project's one virtual environment from the versions in constraints.txt.
#
#     sh tools/bootstrap.sh core     what Orchestra and serve need    (make demo)
#     sh tools/bootstrap.sh dev      that, and the tools of its tests (make test)
#
# Plain sh, because a machine whose Python is too old or missing must be told so, and because a second run has
# to cost nothing. PYTHON names the interpreter, VENV the folder. Whatever goes wrong is one line, and one that helps.

set -u
cd -P "$(dirname "$0")/.." || exit 1

part=${1:-core}
venv=${VENV:-.venv}
case $venv in /*) ;; *) venv=$(pwd -P)/$venv ;; esac
shown=${venv#"$(pwd -P)/"}
log=$venv/install.log
details=$venv/install-details.log # what pip does not print: among others why an index gave nothing
unfinished=$venv/.orchestra-unfinished
lock=$venv/.orchestra-lock
case $part in
core) what='.[serve]' goal=demo ;; # the demo's last scene is the gateway: 5 packages of 38, no second more
dev) what='.[dev]' goal=test ;;
*) echo "usage: sh tools/bootstrap.sh core|dev" >&2 && exit 2 ;;
esac

# --- is everything there already?

inputs() {
    echo "$venv"
    cat pyproject.toml constraints.txt
}

installed() { [ -x "$venv/bin/python" ] && inputs | cmp -s - "$venv/.orchestra-$1"; }

ready() { [ ! -e "$unfinished" ] && { installed dev || { [ "$part" = core ] && installed core; }; }; }

ready && exit 0

# --- what is said

case ${ORCHESTRA_LANG:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}} in
[zZ][hH]*) chinese=yes ;;
*) chinese= ;;
esac

words() { if [ "$chinese" ]; then echo "$2"; else echo "$1"; fi; }

end_of_line() { if [ -t 2 ]; then printf '\r\033[K' >&2; fi; }

fail() { # what (en, zh), what helps (en, zh)
    end_of_line
    words "Orchestra: $1" "Orchestra：$2" >&2
    words "  to do: $3" "  解决办法：$4" >&2
    exit 1
}

say() {
    end_of_line
    words "Orchestra: $1" "Orchestra：$2" >&2
}

progress() { # the one line that moves; where nobody watches, nothing
    if [ -t 2 ]; then printf '\r\033[K%.78s' "$(words "Orchestra: $1" "Orchestra：$2")" >&2; fi
}

# --- a Python that suits

have() { command -v "$1" >/dev/null 2>&1; }

suits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

version() { "$1" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null; }

as_root() { if [ "$(id -u)" = 0 ]; then echo "$1"; else echo "sudo $1"; fi; }

python_packages() { # the command that brings a newer Python here, or nothing
    if have apt-get; then
        for minor in 13 12 11; do
            if apt-cache show "python3.$minor" >/dev/null 2>&1; then
                as_root "apt install python3.$minor python3.$minor-venv"
                return
            fi
        done
        if ! apt-cache show python3 >/dev/null 2>&1; then as_root "apt update"; fi
    elif have brew; then
        echo "brew install python@3.13"
    elif have dnf; then
        as_root "dnf install python3.12"
    elif have zypper; then
        as_root "zypper install python312"
    elif have pacman; then
        as_root "pacman -S python"
    elif have apk; then
        as_root "apk add python3"
    fi
}

no_python() {
    command=$(python_packages)
    if [ "$command" ]; then
        fail "$1" "$2" "$command   (then: make $goal)" "$command   （然后运行：make ${goal}）"
    fi
    fail "$1" "$2" "install Python 3.11 or newer, then: make $goal PYTHON=/path/to/python3" \
        "请安装 Python 3.11 或更新版本，然后运行：make $goal PYTHON=/path/to/python3"
}

find_python() { # sets $python
    found=
    if [ "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- python3 python3.13 python3.12 python3.11 python3.14 python; fi
    for python in "$@"; do
        suits "$python" && return
        old=$(version "$python") && found=${found:-"$old ($python)"}
    done
    if [ "$found" ]; then
        no_python "Python 3.11 or newer is needed; here is $found" "需要 Python 3.11 或更新版本；当前只有 $found"
    elif [ "${PYTHON:-}" ]; then
        no_python "Python 3.11 or newer is needed; $PYTHON cannot be run" "需要 Python 3.11 或更新版本；无法运行 $PYTHON"
    fi
    no_python "Python 3.11 or newer is needed; there is none on the PATH" "需要 Python 3.11 或更新版本；PATH 中没有 Python"
}

no_venv() { # $1: the interpreter's version
    short=${1%.*}
    command="make $goal PYTHON=/path/to/python3"
    if have apt-get; then command=$(as_root "apt install python$short-venv"); fi
    fail "Python $1 ($python) comes without venv and ensurepip, which make the environment" \
        "Python ${1}（${python}）缺少创建虚拟环境所需的 venv 与 ensurepip" \
        "$command   (then: make $goal)" "$command   （然后运行：make ${goal}）"
}

# --- the environment

usable() { # as it stands, at this place, with a Python that suits and a pip that runs
    grep -qF "$venv" "$venv/bin/activate" 2>/dev/null && suits "$venv/bin/python" &&
        "$venv/bin/python" -I -c 'import pip' 2>/dev/null
}

other_maker() { # another run of this script that is still at work; a lock left by a killed one is no such
    owner=$(cat "$lock/pid" 2>/dev/null) && kill -0 "$owner" 2>/dev/null &&
        { ps -o args= -p "$owner" 2>/dev/null || tr '\0' ' ' <"/proc/$owner/cmdline"; } 2>/dev/null | grep -q bootstrap
}

take_turn() {
    waiting=
    until mkdir "$lock" 2>/dev/null; do
        if [ ! -d "$lock" ]; then read_only; fi
        if ! other_maker; then sleep 1; fi # it may only just have begun
        if other_maker; then
            if [ ! "$waiting" ]; then
                say "another make is installing; waiting for it" "另一个 make 正在安装，等待其完成"
                waiting=yes
            fi
            sleep 1
        else
            rm -rf "$lock"
        fi
    done
    trap 'rm -rf "$lock"' EXIT
    trap 'end_of_line; say "interrupted; make $goal goes on from here" "已中断；再次运行 make $goal 即可继续"; exit 130' INT TERM
    echo $$ >"$lock/pid"
}

read_only() {
    fail "cannot write to $venv" "无法写入 $venv" \
        "make $goal VENV=\"\$HOME/.orchestra-venv\"" "make $goal VENV=\"\$HOME/.orchestra-venv\""
}

announce() {
    if [ ! -t 2 ]; then
        say "installing into $shown ($part, pinned versions, once)" "正在安装到 ${shown}（${part}，固定版本，仅此一次）"
    fi
}

make_environment() {
    if [ ! -e "$unfinished" ] && usable; then announce && return; fi
    find_python
    if ! "$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then no_venv "$(version "$python")"; fi
    announce
    progress "making $shown" "正在创建 $shown"
    if [ -e "$venv/pyvenv.cfg" ]; then # never clears a folder that is no environment
        rm -rf "$venv/bin" "$venv/include" "$venv/lib" "$venv/lib64" "$venv/pyvenv.cfg"
    fi
    rm -f "$venv/.orchestra-core" "$venv/.orchestra-dev"
    touch "$unfinished"
    "$python" -m venv "$venv" >"$log" 2>&1 && usable && return
    if grep -q ensurepip "$log"; then no_venv "$(version "$python")"; fi
    broken "the environment could not be made" "无法创建虚拟环境"
}

broken() {
    end_of_line
    tail -n 20 "$log" >&2
    if grep -q 'No space left on device' "$log"; then
        fail "$1: no space left" "${2}：磁盘空间不足" "free some space (df -h . shows how much there is), then: make $goal" \
            "请清理磁盘空间（df -h . 可查看），然后运行：make $goal"
    fi
    fail "$1 (the whole log: $shown/install.log)" "${2}（完整日志：$shown/install.log）" "read the lines above, then: make $goal" "请查看以上输出，然后运行：make $goal"
}

# --- the packages

follow() { # pip's output: all of it to the log, of it one moving line
    count=0
    while IFS= read -r line; do
        printf '%s\n' "$line" >>"$log"
        case $line in
        "Collecting "*)
            count=$((count + 1))
            name=${line#Collecting }
            progress "fetching package $count: ${name%%[!A-Za-z0-9_.-]*}" "正在获取第 $count 个包：${name%%[!A-Za-z0-9_.-]*}"
            ;;
        "Installing collected packages"*) progress "writing $count packages" "正在写入 $count 个包" ;;
        esac
    done
}

unreachable() {
    grep -qE 'NewConnectionError|NameResolutionError|ConnectTimeoutError|ReadTimeoutError|ProxyError|SSLError' "$log" ||
        grep -qE 'Could not fetch URL .*: (connection error|timed out|40[137]|5[0-9][0-9]) ?' "$details" 2>/dev/null
}

install() {
    rm -f "$venv/.orchestra-status" "$details"
    touch "$unfinished"
    {
        # The build backend is pinned too; pip before 25.3 reads the first name for it, later ones the second.
        PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt PIP_USER=0 PIP_NO_INPUT=1 \
            PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_LOG="$details" "$venv/bin/python" -I -m pip install -c constraints.txt -e "$what" 2>&1
        echo $? >"$venv/.orchestra-status"
    } | follow
    if [ "$(cat "$venv/.orchestra-status" 2>/dev/null)" = 0 ]; then return; fi
    # What broke off while packages were written is begun afresh; what broke off before left nothing behind.
    if ! grep -q 'Installing collected packages' "$log"; then rm -f "$unfinished"; fi
    if unreachable; then
        fail "the package registry cannot be reached (log: $shown/install.log)" "无法连接软件包源（日志：$shown/install.log）" \
            "connect to the network, or name a mirror in PIP_INDEX_URL, then: make $goal" \
            "请连接网络，或用 PIP_INDEX_URL 指定镜像，然后运行：make $goal"
    fi
    broken "the packages could not be installed" "无法安装软件包"
}

mkdir -p "$venv" 2>/dev/null || read_only
take_turn
if ready; then exit 0; fi
began=$(date +%s)
make_environment
install
rm -f "$unfinished"
inputs >"$venv/.orchestra-core"
if [ "$part" = dev ]; then inputs >"$venv/.orchestra-dev"; fi
count=$(find "$venv"/lib/python3*/site-packages -maxdepth 1 -name '*.dist-info' | wc -l)
seconds=$(($(date +%s) - began))
say "installed into $shown ($part: $((count)) packages, $seconds s)" "已安装到 ${shown}（${part}：$((count)) 个包，用时 $seconds 秒）"
