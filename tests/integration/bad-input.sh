#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Bad input: status 1 at once, and one sentence on stderr that names the thing.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img

truncate -s 1M "$dir/disk.img"
mkdir "$dir/folder"
mkfifo "$dir/fifo"
chmod 711 "$dir"

# one_sentence NAMED COMMAND...: status 1, nothing on stdout, one line on stderr with NAMED in it.
one_sentence() {
    local named=$1 status=0
    local before=$complaints
    shift
    timeout "$start_limit_s" "$@" >"$dir/out" 2>"$dir/err" </dev/null || status=$?
    [ "$status" -eq 1 ] || complain "status $status, not 1" "$@"
    [ ! -s "$dir/out" ] || complain "prints on stdout: $(head -n 3 "$dir/out")" "$@"
    [ "$(wc -l <"$dir/err")" -eq 1 ] || complain "not one sentence: $(head -n 5 "$dir/err")" "$@"
    grep -qiF -- "$named" "$dir/err" || complain "does not name '$named': $(cut -c1-200 "$dir/err")" "$@"
    grep -qiE 'assert|sanitizer' "$dir/err" && complain "dies: $(cat "$dir/err")" "$@"
    [ $complaints -gt "$before" ] || ok "$(cut -c1-200 "$dir/err")"
}
complaints=0
start_limit_s=15 # a server that starts although it must not is ended after this
complain() {
    local what=$1
    shift
    echo "WRONG: $what; by: $*" | cut -c1-300
    complaints=$((complaints + 1))
}

serve=("$PLATTER" -k "$dir/never")

one_sentence absent.img "${serve[@]}" -f raw "$dir/absent.img"
one_sentence "$dir/folder" "${serve[@]}" -f raw "$dir/folder"
one_sentence "$dir/fifo" "${serve[@]}" -f raw "$dir/fifo"
one_sentence nosuchformat "${serve[@]}" -f nosuchformat "$dir/disk.img"
one_sentence frobnicate "${serve[@]}" --frobnicate "$dir/disk.img"
one_sentence Z "${serve[@]}" -Z "$dir/disk.img"
one_sentence image "${serve[@]}" -f raw
one_sentence second.img "${serve[@]}" -f raw "$dir/disk.img" "$dir/second.img"
one_sentence argument "$PLATTER" -f raw "$dir/disk.img" -p
one_sentence 99999 "$PLATTER" -p 99999 -f raw "$dir/disk.img"
one_sentence 12x "$PLATTER" -p 12x -f raw "$dir/disk.img"
one_sentence '-3' "${serve[@]}" -e -3 -f raw "$dir/disk.img"
one_sentence turbo "${serve[@]}" --cache=turbo -f raw "$dir/disk.img"
one_sentence warp "${serve[@]}" --aio=warp -f raw "$dir/disk.img"
one_sentence cache.direct=on "${serve[@]}" --aio=native -f raw "$dir/disk.img"
one_sentence maybe "${serve[@]}" --discard=maybe -f raw "$dir/disk.img"
one_sentence relative.sock "$PLATTER" -k relative.sock -f raw "$dir/disk.img"
one_sentence nofolder "$PLATTER" -k "$dir/nofolder/sock" -f raw "$dir/disk.img"
long=$dir/$(printf 'x%.0s' {1..120})
one_sentence "long" "$PLATTER" -k "$long" -f raw "$dir/disk.img"
one_sentence 300.1.2.3 "$PLATTER" -b 300.1.2.3 -p "$(some_port)" -f raw "$dir/disk.img"
name=$(printf 'n%.0s' {1..4097})
one_sentence 4096 "${serve[@]}" -x "$name" -f raw "$dir/disk.img"
one_sentence 1048576 "${serve[@]}" -o 1048577 -f raw "$dir/disk.img"
one_sentence 10K "${serve[@]}" -o 10K -f raw "$dir/disk.img"
one_sentence cache "${serve[@]}" -n --cache=writeback -f raw "$dir/disk.img"
file=file.filename=$dir/disk.img
one_sentence exclu "${serve[@]}" --image-opts -f raw "driver=raw,$file"
one_sentence nosuchdriver "${serve[@]}" --image-opts "driver=nosuchdriver,$file"
one_sentence frobnicate "${serve[@]}" --image-opts "driver=raw,frobnicate=1,$file"
one_sentence frobnicate "${serve[@]}" --image-opts "driver=raw,file.frobnicate=1,$file"
one_sentence filename "${serve[@]}" --image-opts "driver=raw,filename=$dir/disk.img"
one_sentence node0 "${serve[@]}" --image-opts "driver=raw,file=node0"
one_sentence 1048577 "${serve[@]}" --image-opts "driver=raw,offset=1048577,$file"
one_sentence 2097152 "${serve[@]}" --image-opts "driver=raw,size=2097152,$file"
one_sentence read-only "${serve[@]}" --image-opts "driver=raw,read-only=on,$file"
one_sentence JSON "${serve[@]}" "json:{\"driver\": raw}"
one_sentence frobnicate "${serve[@]}" "json:{\"driver\": \"raw\", \"frobnicate\": 1, \"file.filename\": \"$dir/disk.img\"}"
if ! is_stand_in; then
    one_sentence fork "${serve[@]}" --fork --run=true -f raw "$dir/disk.img"
    one_sentence TMPDIR env TMPDIR="$dir/nofolder" "$PLATTER" --run=true -f raw "$dir/disk.img"
    one_sentence file.frobnicate "${serve[@]}" --image-opts "driver=raw,file.frobnicate=1,$file"
    one_sentence "$dir/disk.img" "${serve[@]}" --image-opts "$dir/disk.img"
    one_sentence 'file.filename' "${serve[@]}" --image-opts driver=raw
    one_sentence "offset: " "${serve[@]}" --image-opts "driver=raw,offset=many,$file"
    one_sentence file.aio "${serve[@]}" --image-opts "driver=raw,file.aio=warp,$file"
    one_sentence 'offset' "${serve[@]}" "json:{\"driver\": \"raw\", \"offset\": 1.5}"
    # Graphs that make no sense: the whole path of the key.
    one_sentence 'file.file: missing' "${serve[@]}" --image-opts driver=raw,file.driver=raw
    one_sentence 'file.file.filename: missing' "${serve[@]}" --image-opts driver=raw,file.driver=raw,file.file.driver=file
    one_sentence "file.driver: the driver 'rwa'" "${serve[@]}" --image-opts driver=raw,file.driver=rwa
    one_sentence "file: cannot be 'node0'" "${serve[@]}" --image-opts driver=raw,file=node0
    one_sentence 'file.file.colour: ' "${serve[@]}" --image-opts "driver=raw,file.driver=raw,file.file.colour=red,file.$file"
    one_sentence 'aio: cannot be' "${serve[@]}" --image-opts "driver=raw,aio=warp,file.driver=raw,file.$file"
    one_sentence 'file.filename: must be a string' "${serve[@]}" 'json:{"driver": "raw", "file": {"filename": 7}}'
    one_sentence 'file.driver: must be a string' "${serve[@]}" 'json:{"driver": "raw", "file": {"driver": {"a": "b"}}}'
    deep=$(printf 'file.%.0s' {1..200})
    one_sentence 'file.file.file.' "${serve[@]}" --image-opts "${deep}filename=$dir/disk.img"
    one_sentence 'more than 64 parts' "${serve[@]}" --image-opts "${deep}filename=$dir/disk.img"
    deep=$(printf 'file.%.0s' {1..12000})
    one_sentence 'more than 64 parts' "${serve[@]}" --image-opts "${deep}filename=$dir/disk.img"
    deep=$(printf '{"file":%.0s' {1..200})
    one_sentence 'file.file: the JSON' "${serve[@]}" "json:$deep"
    deep=$(printf '{"file":%.0s' {1..8000})
    one_sentence 'deeper than 64 levels' "${serve[@]}" "json:$deep"
    deep=$(printf '[%.0s' {1..100000})
    one_sentence 'bytes long' "${serve[@]}" "json:$deep"
    group=throttle-group,id=g
    limited=driver=raw,file.driver=throttle,file.file.$file
    one_sentence 'file.throttle-group: no group "x"; groups are declared with --object throttle-group,id=...' \
        "${serve[@]}" --object $group --image-opts "$limited,file.throttle-group=x"
    one_sentence file.throttle-group "${serve[@]}" --object $group --image-opts "$limited"
    one_sentence file.throttle-group "${serve[@]}" --object $group \
        "json:{\"driver\": \"raw\", \"file\": {\"driver\": \"throttle\", \"throttle-group\": 7, \"file.filename\": \"x\"}}"
    one_sentence throttle-group "${serve[@]}" --object iothread,id=x "$dir/disk.img"
    one_sentence "'g' is given twice" "${serve[@]}" --object $group --object $group "$dir/disk.img"
    one_sentence bps-read "${serve[@]}" --object $group,x-bps-total=1,x-bps-read=1 "$dir/disk.img"
    one_sentence iops-total-max "${serve[@]}" --object $group,x-iops-total-max=1 "$dir/disk.img"
    one_sentence limits.bps "${serve[@]}" --object '{"qom-type": "throttle-group", "id": "g", "limits": {"bps": 1}}' \
        "$dir/disk.img"
    one_sentence none "${serve[@]}" --threads=none -f raw "$dir/disk.img"
    one_sentence 0 "${serve[@]}" --threads=0 -f raw "$dir/disk.img"
fi
[ ! -e "$dir/never" ] || complain "a socket is left behind by" "${serve[@]}"

# No permission: as root, by becoming nobody with a copy of the server that nobody can reach.
chmod 600 "$dir/disk.img"
if [ "$(id -u)" -eq 0 ]; then
    need setpriv
    install -m 755 "$(command -v "$PLATTER")" "$dir/server"
    mkdir -m 777 "$dir/open"
    one_sentence "$dir/disk.img" setpriv --reuid=65534 --regid=65534 --clear-groups \
        "$dir/server" -k "$dir/open/sock" -f raw "$dir/disk.img"
else
    chmod 000 "$dir/disk.img"
    one_sentence "$dir/disk.img" "${serve[@]}" -f raw "$dir/disk.img"
    chmod 600 "$dir/disk.img"
fi

start_tcp_server 127.0.0.1 -t -f raw "$dir/disk.img"
truncate -s 1M "$dir/other.img"
one_sentence "$port" "$PLATTER" -b 127.0.0.1 -p "$port" -f raw "$dir/other.img"
stop_server

start_server -t -e 0 -f raw "$dir/disk.img"
one_sentence "$sock" "$PLATTER" -k "$sock" -f raw "$dir/other.img"
wait_ready "$sock"
stop_server

echo precious >"$dir/file"
one_sentence "$dir/file" "$PLATTER" -k "$dir/file" -f raw "$dir/disk.img"
[ "$(cat "$dir/file")" = precious ] || complain "overwrote a file given as socket" -k "$dir/file"

# A known header without -f is never served as raw by accident.
for format in qcow qed vmdk vdi vhdx vpc parallels; do
    qemu-img create -q -f $format "$dir/known.$format" 8M >/dev/null 2>&1 || {
        echo "note: qemu-img cannot make $format"
        continue
    }
    is_stand_in || one_sentence "known.$format" "${serve[@]}" "$dir/known.$format"
    is_stand_in || grep -q -- '-f' "$dir/err" || complain "does not say what to do: $(cat "$dir/err")" $format
    start_server -t -f raw "$dir/known.$format"
    stop_server
done
# LUKS by its magic and version: making a whole one costs seconds of key derivation.
truncate -s 1M "$dir/known.luks"
printf 'LUKS\272\276\000\001' | dd of="$dir/known.luks" conv=notrunc status=none
is_stand_in || one_sentence known.luks "${serve[@]}" "$dir/known.luks"
start_server -t -f raw "$dir/known.luks"
stop_server
ok "with -f raw they are served as they are"

start_server -t "$dir/disk.img"
stop_server
ok "an image without a header needs no -f"

"$PLATTER" --help >"$dir/out" 2>"$dir/err" || complain "--help fails" --help
for option in --port --bind --socket --shared --persistent --export-name --description --read-only \
    --format --cache --aio --discard --offset --nocache --object --image-opts --fork --pid-file --verbose --help --version; do
    grep -qw -- "$option" "$dir/out" || complain "--help does not name $option" --help
done
"$PLATTER" -V | grep -qE '[0-9]+\.[0-9]+' || complain "-V shows no version" -V

[ $complaints -eq 0 ] || fail "$complaints answers to bad input are wrong"
