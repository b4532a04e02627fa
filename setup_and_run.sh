#!/usr/bin/env bash
# Sets up what the program needs (once), then runs it. Written for bash 3.2 (macOS) and newer.
#
#   ./setup_and_run.sh                     the recommended first run
#   ./setup_and_run.sh --version both ...  main.py with these options
#   ./setup_and_run.sh tests               the tests

set -euo pipefail

ENV_DIR=transformer_env
ENV_PYTHON=$ENV_DIR/bin/python
INSTALL_LOG=$ENV_DIR/install.log

NEW_ENOUGH='import sys; sys.exit(sys.version_info < (3, 10))'
GET_PYTHON='https://www.python.org/downloads/'

# say ENGLISH KOREAN
say() {
    printf '%s\n' "$1" "$2" >&2
}

fail() {
    say "$@"
    exit 1
}

# Prints the first command that is a new enough Python, else explains what is missing.
find_python() {
    local candidate version old=''
    for candidate in python3 python python3.13 python3.12 python3.11 python3.10; do
        version=$("$candidate" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])' 2>/dev/null) || continue
        if "$candidate" -c "$NEW_ENOUGH"; then
            printf '%s\n' "$candidate"
            return
        fi
        old=${old:-$version}
    done
    if [ -n "$old" ]; then
        fail "Python $old is too old: version 3.10 or newer is needed. Install it from $GET_PYTHON and run this again." \
            "Python $old 버전은 너무 오래되었습니다. 3.10 이상이 필요합니다. $GET_PYTHON 에서 설치한 뒤 다시 실행하세요."
    fi
    fail "Python was not found: version 3.10 or newer is needed. Install it from $GET_PYTHON and run this again." \
        "Python을 찾을 수 없습니다. 3.10 이상이 필요합니다. $GET_PYTHON 에서 설치한 뒤 다시 실행하세요."
}

environment_works() {
    { "$ENV_PYTHON" -c "$NEW_ENOUGH" && "$ENV_PYTHON" -m pip --version; } >/dev/null 2>&1
}

create_environment() {
    local python package=python3-venv
    python=$(find_python)
    case $python in python3.*) package=$python-venv ;; esac
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then # Debian and Ubuntu package them apart
        fail "This Python cannot make virtual environments. On Debian or Ubuntu run: sudo apt install $package" \
            "이 Python으로는 가상환경을 만들 수 없습니다. Debian/Ubuntu에서는 다음을 실행하세요: sudo apt install $package"
    fi
    say "Making the virtual environment $ENV_DIR ..." \
        "가상환경($ENV_DIR)을 만듭니다 ..."
    "$python" -m venv "$ENV_DIR" ||
        fail "The virtual environment could not be made in $PWD. Is the disk full, or the folder write-protected?" \
            "$PWD 에 가상환경을 만들지 못했습니다. 디스크 공간과 폴더의 쓰기 권한을 확인하세요."
}

# A copy of each requirements file is kept in the environment once it has been installed.
is_installed() {
    local file
    for file in "$@"; do
        cmp -s "$file" "$ENV_DIR/installed-$file" || return 1
    done
}

# install REQUIREMENTS_FILE...: the last one includes the others.
install() {
    local file
    say "Installing the packages; the first time takes several minutes and a few GB ..." \
        "패키지를 설치합니다. 처음에는 몇 분이 걸리고 몇 GB의 공간이 필요합니다 ..."
    for file in "$@"; do
        rm -f "$ENV_DIR/installed-$file"
    done
    rm -f "$INSTALL_LOG"
    "$ENV_PYTHON" -m pip install --disable-pip-version-check --log "$INSTALL_LOG" -r "$file" ||
        explain_failed_install
    for file in "$@"; do
        cp "$file" "$ENV_DIR/installed-$file"
    done
}

log_says() {
    grep -Eiq "$1" "$INSTALL_LOG" 2>/dev/null
}

# The disk is asked about first: a full one can keep the log from being written.
explain_failed_install() {
    local free_kb
    free_kb=$(df -Pk . 2>/dev/null | awk 'NR == 2 { print $4 }') || free_kb=''
    if log_says 'No space left|Errno 28' || [ "${free_kb:-9999999}" -lt 100000 ]; then
        fail "The install failed: the disk is full. Free a few GB and run this again." \
            "설치에 실패했습니다: 디스크 공간이 부족합니다. 몇 GB를 비운 뒤 다시 실행하세요."
    fi
    if log_says 'NewConnectionError|NameResolutionError|Failed to establish|getaddrinfo|Max retries|timed out|Network is unreachable|ProxyError|SSLError'; then
        fail "The install failed: no network connection to download packages. Check it and run this again." \
            "설치에 실패했습니다: 패키지를 내려받을 네트워크에 연결할 수 없습니다. 연결을 확인한 뒤 다시 실행하세요."
    fi
    if log_says 'No matching distribution'; then
        fail "The install failed: a package has no version for this computer or this Python. Use 64-bit Python 3.10 to 3.14 (Intel Macs are not supported), delete $ENV_DIR and run this again." \
            "설치에 실패했습니다: 이 컴퓨터나 Python 버전에 맞는 패키지가 없습니다. 64비트 Python 3.10~3.14을 쓰고(Intel Mac은 지원되지 않습니다) $ENV_DIR 폴더를 지운 뒤 다시 실행하세요."
    fi
    fail "The install failed; the reason stands above and in $INSTALL_LOG. Run this again once it is solved." \
        "설치에 실패했습니다. 원인은 위의 메시지와 $INSTALL_LOG 에 있습니다. 해결한 뒤 다시 실행하세요."
}

trap 'exit 130' INT # Ctrl-C is not a failed install; the exec at the end drops this

case $(uname -s) in
MINGW* | MSYS* | CYGWIN*)
    fail "On Windows run setup_and_run.bat instead." \
        "Windows에서는 setup_and_run.bat을 실행하세요."
    ;;
esac

CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

requirements=(requirements.txt)
if [ "${1-}" = tests ]; then
    requirements+=(requirements-dev.txt)
fi

if [ -e "$ENV_DIR" ] && ! environment_works; then
    say "The virtual environment $ENV_DIR is incomplete or too old: it is made again." \
        "가상환경($ENV_DIR)이 완전하지 않거나 너무 오래되어 다시 만듭니다."
    rm -rf "$ENV_DIR"
fi
if [ ! -e "$ENV_DIR" ]; then
    create_environment
fi
if ! is_installed "${requirements[@]}"; then
    install "${requirements[@]}"
fi

# exec: the program's exit status is ours, and Ctrl-C reaches it and nothing else.
if [ "${1-}" = tests ]; then
    shift
    exec "$ENV_PYTHON" -m pytest "$@"
fi
if [ $# -eq 0 ]; then
    set -- --version both --epochs 2 --train_size 500 --eval_size 100 --debug
fi
exec "$ENV_PYTHON" main.py "$@"
