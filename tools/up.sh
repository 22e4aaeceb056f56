#!/bin/sh
# Starts Open WebUI, Orchestra and Ollama in containers, with one command: `make up`.
#
# Where there is no .env it makes one: keys that nobody else has, and which compose files are used here. MODE says where
# the models run, where that is not to be found out: container, gpu (an NVIDIA GPU), host (an Ollama that already runs on
# this machine). An .env that is there is left as it is; docker compose names a key that is missing in it.

set -eu
cd -P "$(dirname "$0")/.."

base=docker-compose.yml
port=11434

case ${ORCHESTRA_LANG:-${LC_ALL:-${LC_MESSAGES:-${LANG:-}}}} in
[zZ][hH]*) chinese=yes ;;
*) chinese= ;;
esac

say() { if [ "$chinese" ]; then echo "Orchestra：$2"; else echo "Orchestra: $1"; fi >&2; }

fail() { # what (en, zh), what helps (en, zh)
    say "$1" "$2"
    if [ "$chinese" ]; then echo "  解决办法：$4"; else echo "  to do: $3"; fi >&2
    exit 1
}

# --- where the models run

answers() { curl -fsS --noproxy '*' -m 2 "http://$1:$port/api/version" >/dev/null 2>&1; }

desktop() { [ "$(docker info --format '{{.OperatingSystem}}' 2>/dev/null)" = "Docker Desktop" ]; }

bridge() { docker network inspect bridge --format '{{(index .IPAM.Config 0).Gateway}}' 2>/dev/null; }

found() { # host, gpu or container; sets $mode
    mode=container
    if desktop; then
        if answers 127.0.0.1; then mode=host; fi
        return 0
    fi
    gateway=$(bridge) || gateway=
    if [ "$gateway" ] && answers "$gateway"; then
        mode=host
        return 0
    fi
    if answers 127.0.0.1; then
        say "the Ollama on this machine listens on 127.0.0.1 alone, where containers do not reach it: one more runs in a container" \
            "本机的 Ollama 只监听 127.0.0.1，容器无法访问：将在容器中另外运行一个"
    fi
    if docker info --format '{{json .Runtimes}}' 2>/dev/null | grep -q '"nvidia"'; then mode=gpu; fi
}

files() { # of a mode
    case $1 in
    container) echo "$base" ;;
    gpu | host) echo "$base:compose.$1.yml" ;;
    *) fail "MODE=$1 is none of container, gpu, host" "MODE=$1 不是 container、gpu、host 之一" "make up" "make up" ;;
    esac
}

# --- .env

key() { od -An -tx1 -N32 /dev/urandom | tr -d ' \n'; }

write() { # .env, whole or not at all
    umask 077
    {
        echo "# Made by \`make up\`, read by docker compose. The keys are this machine's own: they are shown to nobody."
        echo "COMPOSE_FILE=$1"
        echo "COMPOSE_PATH_SEPARATOR=:"
        for name in ORCHESTRA_TOKEN ORCHESTRA_JWT_SECRET WEBUI_SECRET_KEY SEARXNG_SECRET; do echo "$name=$(key)"; done
    } >.env.new
    mv .env.new .env
}

# --- the whole

if ! docker compose version >/dev/null 2>&1; then
    fail "docker compose is needed, and is not here" "需要 docker compose，但未找到" \
        "install Docker with its compose plugin; without containers: make demo" "请安装 Docker 及其 compose 插件；不用容器：make demo"
fi
if ! docker info >/dev/null 2>&1; then # asked first: what .env is to say is found out from it
    fail "Docker does not run, or may not be used by this user" "Docker 没有运行，或当前用户无权使用" \
        "start Docker (docker info says what is wrong), then: make up" "请启动 Docker（docker info 会说明原因），然后运行：make up"
fi
if [ "${MODE:-}" ]; then
    COMPOSE_FILE=$(files "$MODE") # over what .env says
    COMPOSE_PATH_SEPARATOR=:
    export COMPOSE_FILE COMPOSE_PATH_SEPARATOR
    mode=$MODE
fi
if [ ! -e .env ]; then
    if [ -z "${MODE:-}" ]; then found; fi
    write "$(files "$mode")"
    say "wrote .env: fresh keys, models run in: $mode" "已生成 .env：新的密钥；模型运行位置：$mode"
fi
docker compose up --detach --build "$@"
published=$(docker compose port open-webui 8080 2>/dev/null) || published=
say "Open WebUI comes up at http://${published:-127.0.0.1:3000} (its first start takes minutes); models: docker compose logs -f models" \
    "Open WebUI 的地址：http://${published:-127.0.0.1:3000}（首次启动需几分钟）；模型进度：docker compose logs -f models"
