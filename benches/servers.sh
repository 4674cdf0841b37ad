#!/bin/sh
# Measures three nodes of Cairnlog beside Redis and PostgreSQL on this machine, and prints the table.
#
#   benches/servers.sh [--dir DIR] [--rounds N] [--seconds N] [--only NAME]
#
# Options are those of the binary `servers` (--help shows them). On Debian, as root, it first installs those
# of redis-server and postgresql that are missing; otherwise it says which peer is left out, and so
# does the table. Their services are not started, and no cluster of PostgreSQL is made: the
# comparison starts servers of its own, in a directory of its own, and removes both.
set -eu

here=$(pwd)
root=$(cd "$(dirname "$0")/.." && pwd)

say() {
    echo "servers.sh: $*" >&2
}

# Debian asks this file whether a package may start its service. One that is there already is left alone.
policy=/usr/sbin/policy-rc.d
made_policy=
# And this one whether the package postgresql makes a cluster.
cluster=/etc/postgresql-common/createcluster.d/cairnlog-benches.conf
made_cluster=

tidy_up() {
    [ -z "$made_policy" ] || rm -f "$policy"
    if [ -n "$made_cluster" ]; then
        rm -f "$cluster"
        rmdir "$(dirname "$cluster")" 2>/dev/null || true
    fi
}
trap tidy_up EXIT
trap 'exit 130' INT TERM

missing() {
    command -v redis-server >/dev/null && command -v redis-cli >/dev/null || echo redis-server
    ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || echo postgresql
}

install_peers() {
    wanted=$(missing)
    [ -n "$wanted" ] || return 0
    if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
        say "not installed, and only root on Debian can do that here:" $wanted
        return 0
    fi
    if [ ! -e "$policy" ]; then
        made_policy=yes
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    if [ ! -e "$cluster" ]; then
        made_cluster=yes
        mkdir -p "$(dirname "$cluster")"
        echo 'create_main_cluster = false' >"$cluster"
    fi
    apt-get update >&2 || say "apt-get update failed"
    # One by one: a peer that cannot be had does not keep the others away.
    for package in $wanted; do
        DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" >&2 ||
            say "$package could not be installed"
    done
    tidy_up
    made_policy= made_cluster=
}

# PostgreSQL does not run as root, and its user does not get into everybody's directory.
place() {
    for argument in "$@"; do
        case $argument in --dir | --dir=*) return 0 ;; esac
    done
    if [ "$(id -u)" -eq 0 ] && id postgres >/dev/null 2>&1 &&
        ! setpriv --reuid postgres --regid postgres --init-groups test -x "$here"; then
        say "the user postgres does not get to $here: measuring in /var/tmp; --dir says otherwise"
        echo /var/tmp
    fi
}

install_peers
cd "$root"
cargo build --release --locked -p cairnlog -p cairnlog-benches --bin cairnlog --bin servers >&2
target=$(cargo metadata --format-version 1 --no-deps --locked |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
cd "$here"
elsewhere=$(place "$@")
# From here on the binary cleans up after itself, on signals too.
exec "$target/release/servers" ${elsewhere:+--dir "$elsewhere"} "$@"
