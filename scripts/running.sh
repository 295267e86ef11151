# Sourced by scripts/test and scripts/torture, in the root of the project: sets up what is missing,
# and runs pytest such that no mount, process or temporary file of the tests stays, whatever happens.
# What the tests left is named and removed, and the run fails. `$me` is the script's name.

say() { printf '\n== %s\n' "$*"; }

set_up() {
    say "set-up"
    if command -v dpkg-query >/dev/null; then scripts/setup system; fi
    scripts/setup venv
    PATH=$PWD/.venv/bin:$PATH

    run=$(</proc/sys/kernel/random/uuid)
    # Everything that the tests make lies here, and no other run's directory looks like it. Tests
    # that become another user must be able to pass through it.
    work=$(mktemp --directory "${TMPDIR:-/tmp}/pdfs-test.XXXXXX")
    chmod 711 "$work"
    mkdir --mode=1777 "$work/tmp"
    trap finish EXIT
    trap 'stop 130' INT
    trap 'stop 143' TERM HUP
}

# Process ids of whatever has this run's mark in its environment: pytest and all that it started.
processes() {
    grep --files-with-matches --null-data --line-regexp --fixed-strings "PDFS_TEST_RUN=$run" \
        /proc/[0-9]*/environ 2>/dev/null | cut --delimiter=/ --fields=3 || true
}

# Mountpoints of PDFS below $work, those inside others first.
mounts() {
    findmnt --raw --noheadings --types fuse.pdfs --output TARGET |
        grep --fixed-strings "$work/" | sort --reverse || true
}

leftovers() (
    shopt -s nullglob dotglob
    for pid in $(processes); do
        printf 'process %s: %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline")"
    done
    for mount in $(mounts); do
        printf 'mount %s\n' "$mount"
    done
    for path in "$work"/tmp/*; do
        printf 'temporary file %s\n' "$path"
    done
) 2>/dev/null

remove_leftovers() {
    local pid mount
    for pid in $(processes); do
        kill -KILL "$pid" 2>/dev/null
    done
    for mount in $(mounts); do
        fusermount3 -u -z "$(printf %b "$mount")"
    done
    rm --recursive --force --one-file-system "$work"
}

finish() {
    local status=$? left waited=0
    trap '' INT TERM HUP
    set +e
    # What was told to end may still be at it.
    while left=$(leftovers) && [[ -n $left ]] && ((waited++ < 100)); do
        sleep 0.1
    done
    remove_leftovers
    if [[ -n $left ]]; then
        printf '\n%s: the tests left behind, now removed:\n%s\n' "$me" "$left" >&2
        ((status)) || status=1
    fi
    exit "$status"
}

stop() {
    [[ -z ${pytest:-} ]] || kill -INT "$pytest" 2>/dev/null || true
    exit "$1"
}

# run_pytest LENGTH SEED ARGUMENT...; returns what pytest returns.
run_pytest() {
    local length=$1 seed=$2 status=0
    shift 2
    say "pytest (PDFS_TEST_SEED=$seed PDFS_TEST_LENGTH=$length)"
    # In the background and a process group of its own: the script acts on a signal at once, and
    # alone decides that pytest gets one.
    set -m
    env --default-signal=INT PDFS_TEST_RUN="$run" PDFS_TEST_SEED="$seed" \
        PDFS_TEST_LENGTH="$length" TMPDIR="$work/tmp" \
        pytest --numprocesses auto --maxprocesses 4 --dist worksteal --basetemp "$work/pytest" "$@" &
    pytest=$!
    set +m
    wait "$pytest" || status=$?
    pytest=
    return "$status"
}
