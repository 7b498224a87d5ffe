#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# usage: nbdkit-plugin.sh PART
# The plugin in a real nbdkit: formats, filters, ends, mistakes, valgrind.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=tests/integration/nbdkit.sh
. "$(dirname "$0")/nbdkit.sh"

# new_image FORMAT: an image of 64 MiB as $image.
new_image() {
    image=$dir/disk.$1
    rm -f "$image"
    qemu-img create -q -f "$1" "$image" 64M
}

# For what breaks a client's connection.
skip_where_exit_hangs() {
    [ ${#preload[@]} -eq 0 ] ||
        skip "nbdkit with the library of AddressSanitizer hangs in exit() after broken pipes, with its own plugins too"
}

# What every test of a qcow2 image ends with.
check_image() {
    case $image in
    *.qcow2)
        local verdict=0
        qemu-img check -q "$image" >/dev/null || verdict=$?
        if [ "$verdict" -eq 3 ] && asserted; then verdict=0; fi # it leaks clusters, as after any kill
        [ "$verdict" -eq 0 ] || fail "qemu-img check is not content with $image"
        ;;
    esac
}

# --- what is served -------------------------------------------------------------------------------

announces() { # FIELD VALUE
    [ "$(jq -r ".exports[0].\"$1\"" "$dir/info")" = "$2" ] ||
        fail "$1 is $(jq -r ".exports[0].\"$1\"" "$dir/info"), not $2"
}

what_is_announced() {
    serve "$image" format="$1"
    client nbdinfo --json "$uri" >"$dir/info"
    announces export-size 67108864
    announces is_read_only false
    local can
    for can in cache df fast_zero flush fua multi_conn trim zero; do announces "can_$can" true; done
    announces block_size_minimum 1
    announces block_size_preferred 4096
    announces block_size_maximum 33554432
    stop_nbdkit
    ok "$1: what the image can is announced"

    serve -r "$image" format="$1"
    client nbdinfo --json "$uri" >"$dir/info"
    announces is_read_only true
    refused qemu-io -f raw -c 'write 0 512' "$uri"
    stop_nbdkit
    serve "$image" format="$1" read-only=on
    client nbdinfo --json "$uri" >"$dir/info"
    announces is_read_only true
    stop_nbdkit
    ok "$1: -r and read-only=on serve it read-only"
}

io() { # COMMAND...: of qemu-io, which says by its text alone that a pattern is not there
    local args=() command
    for command in "$@"; do args+=(-c "$command"); done
    client qemu-io -f raw "${args[@]}" "$uri" >"$dir/io" 2>&1 || { cat "$dir/io" && fail "qemu-io: $*"; }
    ! grep -E 'failed|error' "$dir/io" || { cat "$dir/io" && fail "qemu-io: $*"; }
}

patterns() { # FORMAT CACHE
    serve -t 16 "$image" format="$1" cache="$2" discard=unmap
    io 'write -P 1 0 1M' 'write -P 2 700001 3' 'write -f -P 3 2M 64k' 'write -z 128k 64k' \
        'write -zu 256k 100000' 'discard 512k 64k' flush 'write -P 4 67108863 1'
    io 'read -P 1 0 128k' 'read -P 0 128k 64k' 'read -P 1 192k 64k' 'read -P 0 256k 100000' \
        'read -P 1 362144 162144' 'read -P 2 700001 3' 'read -P 1 700004 300000' 'read -P 3 2M 64k' \
        'read -P 0 1M 1M' 'read -P 4 67108863 1'
    client nbdinfo --map "$uri" >"$dir/map"
    grep -q 'hole,zero$' "$dir/map" || fail "the map knows no hole"
    stop_nbdkit
    check_image
    # What is in the file is what was served.
    qemu-io -r -f "$1" -c 'read -P 2 700001 3' -c 'read -P 4 67108863 1' "$image" >"$dir/io"
    ! grep -q failed "$dir/io" || fail "the file does not hold what was written"
    ok "$1, cache=$2: patterns"
}

copies() { # FORMAT
    sparse_image "$dir/sparse"
    new_image "$1"
    serve -t 16 "$image" format="$1" discard=unmap
    client nbdcopy --connections=4 --requests=16 --flush "$dir/sparse" "$uri"
    client nbdcopy --connections=4 --requests=16 "$uri" "$dir/copy"
    same_bytes "$dir/sparse" "$dir/copy"
    client qemu-img compare -f raw -F raw "$dir/sparse" "$uri" >/dev/null
    stop_nbdkit
    check_image
    client qemu-img compare -f raw -F "$1" "$dir/sparse" "$image" >/dev/null
    [ "$(allocated_bytes "$image")" -lt $((16 << 20)) ] || fail "$1: holes were written out"
    ok "$1: sixteen threads for each of four connections, there and back"
}

map_has() { # OFFSET LENGTH TYPE
    client nbdinfo --map "$uri" >"$dir/map"
    grep -Eq "^ *$1 +$2 +$3 " "$dir/map" || { cat "$dir/map" && fail "at $1 there are not $2 bytes of type $3"; }
}

# What a request says of itself arrives: each flag makes a difference that is seen.
flags() {
    new_image qcow2
    serve "$image" discard=unmap
    io 'write -P 1 0 1M' 'write -z 64k 64k' 'write -zu 256k 64k' 'discard 512k 64k'
    map_has 65536 65536 2  # zeroes that keep their place
    map_has 262144 65536 3 # and that need not
    map_has 524288 65536 3
    refused qemu-io -f raw -c 'write -zn 700416 512' "$uri" # not quicker than to write them
    grep -q 'not supported' "$dir/refused.out" || fail "a zero that is not fast is refused with other words"
    io 'read -P 1 640k 384k' 'write -zn 640k 64k' 'read -P 0 640k 64k'
    if grep -q 'cannot zero' "$log"; then fail "a zero that is not fast is an answer, not a failure"; fi
    stop_nbdkit
    check_image
    ok "zeroes: fast or not, with a hole or not"

    new_image raw
    serve driver=fault image.driver=raw image.file.filename="$image" \
        inject-error.0.event=none inject-error.0.errno=5 inject-error.0.iotype=flush
    io 'write -P 1 0 64k'
    refused qemu-io -f raw -c 'write -f 0 64k' "$uri"
    kill -TERM "$server_pid"
    wait_exit "$server_pid" 0
    grep -q "cannot flush 'the image': Input/output error; what was written last may be lost" "$log" ||
        fail "a last flush that fails is not told"
    ok "FUA is durable before its answer; a last flush that fails is told"
}

part_formats() {
    need qemu-img qemu-io nbdcopy nbdinfo jq
    local format
    for format in raw qcow2; do
        new_image "$format"
        what_is_announced "$format"
        patterns "$format" writeback
        new_image "$format"
        patterns "$format" directsync
        copies "$format"
    done
    flags
    new_image qcow2
    serve "$image"
    client nbdinfo --size "$uri" >"$dir/size"
    [ "$(cat "$dir/size")" = 67108864 ] || fail "the format was not found"
    stop_nbdkit
    ok "a format is found by its first bytes"
    cd "$dir"
    serve disk.qcow2 driver=delay file.cache.direct=off rdelay=1ms
    io 'read -P 0 0 64k'
    cd /
    io 'read -P 0 0 64k'
    stop_nbdkit
    ok "a filter of ours stands above a relative path"
}

# --- nbdkit's filters -----------------------------------------------------------------------------

part_filters() {
    need qemu-img qemu-io nbdcopy
    skip_where_exit_hangs
    local format
    for format in raw qcow2; do
        new_image "$format"
        serve --filter=log "$image" format="$format" logfile="$dir/log"
        io 'write -P 1 0 1M' 'write -f -P 2 1M 64k' 'write -z 64k 64k' 'discard 0 64k' flush 'read -P 2 1M 64k'
        stop_nbdkit
        for word in 'Write.*fua=1' Zero Trim Flush Read; do
            grep -q "$word" "$dir/log" || fail "$format: the log has no $word"
        done
        check_image
        ok "$format: the filter log"

        serve --filter=blocksize "$image" format="$format" minblock=4096 maxdata=64k
        io 'write -P 7 4097 300001' 'read -P 7 4097 300001' 'write -z 5000 3' 'read -P 0 5000 3'
        stop_nbdkit
        check_image
        ok "$format: the filter blocksize"

        # What only reads below cow does not open the image for writing: another reader stays.
        local before
        before=$(sum_of "$image")
        start_server -r -t -f "$format" "$image"
        local beside=$server_pid
        serve --filter=cow "$image" format="$format"
        io 'write -P 8 0 3M' 'read -P 8 0 3M' 'discard 0 1M' flush
        stop_nbdkit
        kill -TERM "$beside"
        wait_exit "$beside" 0
        [ "$(sum_of "$image")" = "$before" ] || fail "$format: the image has changed below cow"
        ok "$format: the filter cow"

        serve --filter=error "$image" format="$format" error-rate=40% error-pread-rate=0
        client qemu-img bench -f raw -w -c 2000 -d 32 -s 4k "$uri" >"$dir/bench" 2>&1 || true
        io 'read 0 64M'
        stop_nbdkit
        check_image
        ok "$format: the filter error, and no harm to the image"

        serve --filter=log --filter=cow --filter=blocksize "$image" format="$format" logfile="$dir/log" minblock=512
        client nbdcopy --connections=4 "$uri" "$dir/copy"
        stop_nbdkit
        ok "$format: a stack of them"
    done
}

# --- ends -----------------------------------------------------------------------------------------

# Writers that go on until the server is gone.
load() {
    local i
    loads=()
    for i in 1 2 3 4; do
        (while qemu-img bench -f raw -w -c 3000 -d 32 -s 8k -S 40k -o $((i * 12 << 20)) "$uri" &&
            qemu-io -f raw -c "discard $((i * 12))M 8M" -c "write -z $((i * 12))M 1M" -c flush "$uri"; do :; done) \
            >/dev/null 2>&1 &
        loads+=($!)
    done
    server_pids+=("${loads[@]}")
}

end_load() {
    local pid
    for pid in "${loads[@]}"; do wait "$pid" || true; done
}

# nbdkit before its commit 9d82aa4f may die of an assertion when a client leaves: then the image alone is
# judged.
asserted() {
    grep -q 'raw_send_socket: Assertion' "$log"
}

stop_what_lost_a_client() {
    local status=0
    kill -TERM "$server_pid" 2>/dev/null || true
    "$HELPERS/wait_server" gone "$server_pid" "$limit_s" || fail "nbdkit does not end"
    wait "$server_pid" || status=$?
    no_sanitizer_report
    [ "$status" -eq 0 ] || asserted || fail "nbdkit ended with status $status, not 0"
}

# Under AddressSanitizer it is tests/stress/host_threads.c alone that ends the image under load.
part_ends() {
    need qemu-img qemu-io
    skip_where_exit_hangs
    local format
    for format in qcow2 raw; do
        new_image "$format"
        serve "$image" format="$format" discard=unmap
        load
        sleep 1
        stop_what_lost_a_client
        end_load
        check_image
        ok "$format: SIGTERM under load"

        serve "$image" format="$format"
        timeout -s KILL 1 qemu-img bench -f raw -w -c 10000000 -d 64 -s 64k "$uri" >/dev/null 2>&1 || true
        (io 'write -P 5 0 1M' 'read -P 5 0 1M') || asserted || fail "the next client is not served"
        stop_what_lost_a_client
        check_image
        ok "$format: a client that is gone in the middle"
    done

    new_image qcow2
    local status=0
    # shellcheck disable=SC2016 # nbdkit's shell knows the uri
    "${nbdkit[@]}" -U - "$plugin" "$image" --run \
        'qemu-io -f raw -c "write -P 9 0 1M" "$uri" >/dev/null && exit 7' >>"$log" 2>&1 || status=$?
    [ "$status" -eq 7 ] || fail "--run ended with $status, not with its command's 7"
    wait_unlocked
    check_image
    qemu-io -r -f qcow2 -c 'read -P 9 0 1M' "$image" >"$dir/io"
    grep -q '^read 1048576' "$dir/io" && ! grep -q failed "$dir/io" || fail "--run: the write is lost"
    ok "captive, by --run"

    sock=$dir/child
    uri="nbd+unix:///?socket=$sock"
    # A shell that starts it and waits for it; it is the shell that is killed.
    bash -c '"$@" & wait' parent "${nbdkit[@]}" -f -U "$sock" -P "$dir/pid" --exit-with-parent "$plugin" "$image" \
        >>"$log" 2>&1 &
    local parent=$!
    server_pids+=("$parent")
    "$HELPERS/wait_server" ready "$parent" "$sock" "$limit_s" || fail "it does not serve"
    io 'write -P 6 1M 1M'
    local child
    child=$(cat "$dir/pid")
    kill -KILL "$parent"
    "$HELPERS/wait_server" gone "$child" "$limit_s" || fail "it goes on without its parent"
    check_image
    ok "--exit-with-parent"

    cd "$dir"
    "${nbdkit[@]}" -U "$dir/daemon" -P "$dir/daemon-pid" "$plugin" disk.qcow2 >>"$log" 2>&1
    cd /
    wait_for_file "$dir/daemon-pid" # the daemon writes it, after the one that we started has ended
    child=$(cat "$dir/daemon-pid")
    server_pids+=("$child")
    uri="nbd+unix:///?socket=$dir/daemon"
    io 'write -P 3 2M 1M' 'read -P 6 1M 1M' flush
    kill -TERM "$child"
    "$HELPERS/wait_server" gone "$child" "$limit_s" || fail "the daemon does not end"
    check_image
    ok "in the background, with a relative path"
}

# --- mistakes -------------------------------------------------------------------------------------

# mistake SENTENCE PARAMETER...: nbdkit does not start, and says this and nothing else.
mistake() {
    local want=$1 status=0
    shift
    step="mistake: $*"
    timeout "$limit_s" "${nbdkit[@]}" -f -U "$dir/never" "$plugin" "$@" >"$dir/out" 2>&1 </dev/null || status=$?
    [ "$status" -ne 0 ] && [ "$status" -ne 124 ] || fail "status $status with $*"
    [ "$(cat "$dir/out")" = "nbdkit: error: $want" ] || { cat "$dir/out" && fail "not said of $*: $want"; }
}

part_mistakes() {
    need qemu-img qemu-io
    new_image raw
    mistake "no image is named; say file=PATH, or nbdkit platter PATH"
    mistake "one image can be served, but '$image' and '/b' are named" "$image" /b
    mistake "cannot open '$dir/none': there is no such file; check the path" "$dir/none"
    mistake "cannot open '$dir': it is a directory; give the path of an image file" "$dir" format=raw
    local formats
    formats=$("${nbdkit[@]}" "$plugin" --dump-plugin | sed -n 's/^platter_formats=//p')
    [[ $formats == "raw qcow2 "* ]] || fail "the formats are said to be '$formats'"
    mistake "the image format 'gif' is not supported; supported formats: ${formats// /, }" "$image" format=gif
    mistake "cache: cannot be 'fast'; say writeback, none, writethrough, directsync or unsafe" "$image" cache=fast
    mistake "read-only: cannot be 'perhaps'; say on or off" "$image" read-only=perhaps
    mistake "speed: the driver raw knows no such option (given as '9')" "$image" format=raw speed=9
    mistake "discard: cannot be 'maybe'; say ignore, unmap, off or on" "$image" format=raw discard=maybe
    mistake "file: the image's name is empty" file=
    mistake "object 'g': x-bps: the object throttle-group knows no such option (given as '1')" "$image" \
        object=throttle-group,id=g,x-bps=1
    ok "a bad parameter is one sentence, and nothing is served"

    serve "$image"
    io 'read 0 512'
    io 'read 0 512'
    stop_nbdkit
    [ "$(grep -c 'no format was given' "$log")" -eq 1 ] || fail "a warning is said more than once, or never"
    ok "a warning is said once"

    serve --filter=error "$image" format=raw error=ENOSPC error-pwrite-rate=100%
    refused qemu-io -f raw -c 'write 0 512' "$uri"
    stop_nbdkit
    serve driver=fault image.driver=raw image.file.filename="$image" \
        inject-error.0.event=none inject-error.0.errno=28 inject-error.0.iotype=write
    refused qemu-io -f raw -c 'write 4096 512' "$uri"
    grep -q 'No space left' "$dir/refused.out" || fail "the client is not told of a full disk"
    grep -q "nbdkit: .*error: cannot write 512 bytes at 4096 of 'the image': No space left on device" "$log" ||
        fail "the log does not say what failed"
    io 'read -P 0 0 1M'
    stop_nbdkit
    ok "a request that fails is one sentence, and its own error for the client"
}

# --- under valgrind -------------------------------------------------------------------------------

part_valgrind() {
    need qemu-img qemu-io valgrind
    [ ${#preload[@]} -eq 0 ] || skip "valgrind and a sanitizer do not go together"
    local format aio=io_uring
    limit_s=120
    for format in raw qcow2; do
        new_image "$format"
        nbdkit=(valgrind -q --error-exitcode=99 --leak-check=full "--errors-for-leak-kinds=definite,possible"
            --keep-debuginfo=yes "--log-file=$dir/valgrind.%p" nbdkit)
        serve "$image" format="$format" aio=$aio discard=unmap
        io 'write -P 1 0 1M' 'write -f -P 2 700001 3' 'write -z 128k 64k' 'discard 512k 64k' flush \
            'read -P 1 0 128k' 'read -P 2 700001 3' 'read -P 0 128k 64k'
        client nbdcopy "$uri" null:
        stop_nbdkit
        if [ -n "$(cat "$dir"/valgrind.*)" ]; then
            cat "$dir"/valgrind.* && fail "$format: valgrind has something to say"
        fi
        check_image
        ok "$format, $aio: valgrind has nothing to say"
        aio=threads
    done
}

"part_$1"
