# shellcheck shell=bash
# Sourced by the scripts beside it. Makes .venv/ in the project root on a machine with Python 3.11 or newer, pip and
# git, and reuses it while pyproject.toml and constraints.txt stay as they are.
#
# Sets: ROOT (the project), VENV (its environment). Gives: say, fail, ensure_environment, ensure_command, ensure_postgres,
#        ensure_machines.

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
VENV="$ROOT/.venv"
STAMP="$VENV/.mlcluster-installed"

say() { # one line of progress; results alone go to stdout
    printf '%s\n' "$*" >&2
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

quietly() { # COMMAND...: shows what it printed only when it fails, and then all of it
    local log code=0
    log="$(mktemp)"
    "$@" >"$log" 2>&1 || code=$?
    [ "$code" -eq 0 ] || cat "$log" >&2
    rm -f "$log"
    return "$code"
}

is_new_enough() { # PYTHON
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

find_python() {
    local candidate
    for candidate in python3 python3.11 python3.12 python3.13; do
        if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    fail "python3 = $(python3 --version 2>/dev/null || echo none) is older than 3.11, and there is no python3.11, 3.12 or" \
        "3.13; install one, as with: apt-get install python3.11 python3.11-venv."
}

as_root() { # COMMAND...: runs it as root where that takes no password
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

can_install_packages() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }
}

apt_install() { # PACKAGE
    # The package lists of a fresh machine are often missing: try with what there is, then fetch them.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1" && return
    as_root apt-get update -qq && as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$1"
}

install_package() { # PACKAGE
    can_install_packages || return 1
    say "installing the system package $1"
    quietly apt_install "$1"
}

ensure_command() { # COMMAND PACKAGE: false where the command is missing and cannot be installed
    command -v "$1" >/dev/null || install_package "$2"
}

has_postgres() { # Debian keeps the server's programs off the PATH
    command -v initdb >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null
}

ensure_postgres() { # the programs alone: Debian's package would also make a cluster and start it
    has_postgres && return
    install_package postgresql-common || return 1
    quietly as_root sed -ri 's/#(create_main_cluster) .*$/\1 = false/' /etc/postgresql-common/createcluster.conf || return 1
    install_package postgresql && has_postgres
}

ensure_promtool() { # the one program, into .venv: Debian's package prometheus would also start a server
    command -v promtool >/dev/null || [ -x "$VENV/bin/promtool" ] && return
    local folder code=0
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    folder="$(mktemp -d)"
    say "fetching promtool into .venv"
    (cd "$folder" && quietly fetch_promtool) || code=$?
    rm -rf "$folder"
    return "$code"
}

fetch_promtool() {
    apt-get download -qq prometheus || { as_root apt-get update -qq && apt-get download -qq prometheus; } || return 1
    dpkg -x prometheus_*.deb . && install -m 755 usr/bin/promtool "$VENV/bin/promtool"
}

ensure_machines() { # what tests make machines of; Debian's package openssh-server would also start a server
    ensure_command ip iproute2 && ensure_command ssh openssh-client && ensure_command rsync rsync || return 1
    [ -x /usr/sbin/sshd ] || without_starting install_package openssh-server
}

without_starting() { # COMMAND...: what it installs is not started (Debian's policy-rc.d: 101 forbids it)
    local policy=/usr/sbin/policy-rc.d code=0
    [ ! -e "$policy" ] || { "$@"; return; }
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy" || return 1
    "$@" || code=$?
    as_root rm -f "$policy"
    return "$code"
}

can_make_venv() { # PYTHON: Debian leaves ensurepip out of python3
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

make_venv_with_virtualenv() { # PYTHON: from a folder of its own, so that nothing is left in the user's Python
    local folder
    "$1" -m pip --version >/dev/null 2>&1 || return 1
    folder="$(mktemp -d)"
    say "making .venv with virtualenv, because $1 has no ensurepip"
    if quietly "$1" -m pip install --disable-pip-version-check --target "$folder" virtualenv &&
        PYTHONPATH="$folder" quietly "$1" -m virtualenv --clear "$VENV"; then
        rm -rf "$folder"
        return 0
    fi
    rm -rf "$folder"
    return 1
}

make_venv() {
    local python version
    python="$(find_python)" || exit
    version="$("$python" -c 'import sys; print(f"{sys.version_info[0]}.{sys.version_info[1]}")')"
    if ! can_make_venv "$python"; then
        install_package "python$version-venv" || true
    fi
    if can_make_venv "$python"; then
        say "making .venv with $python ($version)"
        quietly "$python" -m venv --clear "$VENV" || fail "$python could not make $VENV; its messages stand above."
    elif ! make_venv_with_virtualenv "$python"; then
        fail "$python lacks ensurepip, and pip could not bring virtualenv; run: apt-get install python$version-venv."
    fi
}

wanted_stamp() {
    { printf '%s\n' "$ROOT"; cat "$ROOT/pyproject.toml" "$ROOT/constraints.txt"; } | sha256sum | cut -d' ' -f1
}

is_installed() { # EXTRAS: more than what is wanted is fine
    [ -f "$STAMP" ] && grep -qxF -e "$(wanted_stamp) $1" -e "$(wanted_stamp) [test]" "$STAMP"
}

ensure_environment() { # EXTRAS, such as [test], or nothing
    local extras="${1:-}" started=$SECONDS
    if ! "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        make_venv
    fi
    if is_installed "$extras"; then
        return
    fi
    is_new_enough "$VENV/bin/python" || fail ".venv has a Python older than 3.11; delete .venv and run this again."
    say "installing mlcluster$extras into .venv (a few minutes the first time)"
    rm -f "$STAMP"
    quietly "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
        -c "$ROOT/constraints.txt" -e "$ROOT$extras" ||
        fail "pip could not install mlcluster$extras; its messages stand above."
    printf '%s %s\n' "$(wanted_stamp)" "$extras" >"$STAMP"
    say "installed in $((SECONDS - started)) s"
}
