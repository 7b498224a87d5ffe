# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash disable=SC2034
# For tests of the plugin in a real nbdkit; sourced after lib.sh.

plugin=${NBDKIT_PLUGIN:-}
[ -n "$plugin" ] || skip "the plugin for nbdkit was not built (its headers are in nbdkit-plugin-dev)"
need nbdkit

# A plugin with a sanitizer needs that one's library to be there before nbdkit.
preload=()
wanted=$(nm -D --undefined-only "$plugin")
if [[ $wanted == *__asan_init* ]]; then
    # What nbdkit itself does not free is not ours to see, and what was unloaded has no names.
    preload=(env "LD_PRELOAD=$(gcc -print-file-name=libasan.so)" "$no_leak_check")
    [ -e "${preload[1]#LD_PRELOAD=}" ] || skip "the library of AddressSanitizer is not there to be loaded first"
elif [[ $wanted == *__tsan_init* ]]; then
    skip "ThreadSanitizer cannot be loaded into an nbdkit that is not built for it"
fi
nbdkit=("${preload[@]}" nbdkit)

# serve [OPTIONS] [PARAMETERS]: on a new UNIX socket; sets sock, uri, server_pid. Options of nbdkit come
# first, as they must stand before the plugin.
serve() {
    local options=()
    while [ $# -gt 0 ]; do
        case $1 in
        -t) options+=("$1" "$2") && shift ;;
        -*) options+=("$1") ;;
        *) break ;;
        esac
        shift
    done
    sock=$dir/n${#server_pids[@]}
    uri="nbd+unix:///?socket=$sock"
    launch "${nbdkit[@]}" -f -U "$sock" "${options[@]}" "$plugin" "$@"
    wait_ready "$sock"
}

# stop_nbdkit: by SIGTERM; it closes the image and ends with 0.
stop_nbdkit() {
    kill -TERM "$server_pid" 2>/dev/null || fail "nbdkit is gone already"
    wait_exit "$server_pid" 0
}

# After --run, nbdkit's server is a child of our child, and may still be closing the image.
wait_unlocked() {
    local i
    for ((i = 0; i < 10 * limit_s; i++)); do
        if qemu-img info "$image" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "the image is still open"
}
