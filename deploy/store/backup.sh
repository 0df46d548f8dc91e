#!/bin/sh
# Copies the store's append-only file while the store serves: backup.sh DIRECTORY
#
# Run it on the store's machine as a user who may read the store's files, with the password of the store's user `admin`
# in REDISCLI_AUTH. DIRECTORY must not exist. A rewrite of the file would replace what is being copied, so none begins
# meanwhile; what is written meanwhile may be in the copy or not.
set -eu

to=${1:?backup.sh DIRECTORY}
cli() { "${STORE_CLI:-valkey-cli}" -e -h "${STORE_HOST:-127.0.0.1}" -p "${STORE_PORT:-6379}" --user admin "$@"; }
setting() { cli config get "$1" | tail -n 1; }

umask 077
mkdir "$to"
data=$(setting dir)/$(setting appenddirname)
percentage=$(setting auto-aof-rewrite-percentage)
trap 'cli config set auto-aof-rewrite-percentage "$percentage" >/dev/null' EXIT
trap 'exit 1' INT TERM
cli config set auto-aof-rewrite-percentage 0 >/dev/null
while state=$(cli info persistence); printf '%s\n' "$state" | grep -Eq '^aof_rewrite_(in_progress|scheduled):1'; do
    sleep 1
done
cp -R "$data" "$to"
echo "$to: $(du -sk "$to" | cut -f 1) kB"
