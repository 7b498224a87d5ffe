#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# The files that a qcow2 image names: which are opened, which are refused, and what is said. Snapshots.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io mkfifo
! is_stand_in || skip "the stand-in follows every name"

refuse() { # WORDS OPTIONS...: not served, and the sentence has the words
    local words=$1 status=0
    shift
    timeout "$limit_s" "$PLATTER" -k "$dir/never" "$@" >"$dir/out" 2>&1 || status=$?
    [ "$status" -eq 1 ] || fail "$*: status $status: $(cat "$dir/out")"
    grep -qF -- "$words" "$dir/out" || fail "$*: not '$words' in: $(cat "$dir/out")"
    [ "$(wc -l <"$dir/out")" -eq 1 ] || fail "$*: more than a line: $(cat "$dir/out")"
}

reads() { # PATTERN OPTIONS...: served, and begins with the pattern
    local pattern=$1
    shift
    start_server -r -t "$@"
    client qemu-io -f raw -r -c "read -P $pattern 0 4k" "$uri" >"$dir/out" 2>&1 || fail "$*: $(cat "$dir/out")"
    ! grep -q 'verification failed' "$dir/out" || fail "$*: $(cat "$dir/out")"
    stop_server
}

# over NAME FORMAT IMAGE: an overlay that stores this name, whether it is there or not
over() {
    qemu-img create -q -u -f qcow2 -b "$1" -F "$2" "$3" 1M
}

mkdir "$dir/in" "$dir/in/sub" "$dir/out.d"
cd "$dir/in"
for base in base.raw sub/base.raw ../out.d/base.raw; do
    truncate -s 1M $base
    qemu-io -f raw -c 'write -P 1 0 1M' $base >/dev/null
done

# --- where a backing file may lie ---
for name in base.raw ./base.raw sub/base.raw sub/../base.raw ../in/base.raw "$dir/in/base.raw"; do
    over "$name" raw a.qcow2
    reads 1 -f qcow2 a.qcow2
    (cd / && reads 1 -f qcow2 "$dir/in/a.qcow2")
done
ok "inside the image's directory, however it is spelled"

ln -s ../out.d/base.raw leaves.raw
ln -s sub/base.raw stays.raw
ln -s ../out.d away
over stays.raw raw a.qcow2
reads 1 -f qcow2 a.qcow2
for name in leaves.raw away/base.raw ../out.d/base.raw "$dir/out.d/base.raw"; do
    over "$name" raw a.qcow2
    refuse "say --allow-path=$dir/out.d to allow it" -r -f qcow2 a.qcow2
    reads 1 -f qcow2 --allow-path="$dir/out.d" a.qcow2
    reads 1 -f qcow2 --allow-path=/nowhere --allow-path="$dir" a.qcow2
    refuse "say --allow-path=" -r -f qcow2 --allow-path="$dir/out" a.qcow2
done
refuse "it is the backing file of 'a.qcow2'" -r -f qcow2 a.qcow2
reads 1 -f qcow2 "json:{\"file.filename\": \"a.qcow2\", \"backing\": {\"driver\": \"raw\", \"file\": {\"filename\": \"$dir/out.d/base.raw\"}}}"
ok "outside of it with --allow-path alone, or where a person says it"

for name in 'json:{"driver":"file","filename":"base.raw"}' nbd://127.0.0.1/x file:base.raw fat:/tmp; do
    over "$name" raw a.qcow2
    refuse "a name with a protocol is not followed" -r -f qcow2 a.qcow2
done
ok "no protocol"

mkfifo fifo
over fifo raw a.qcow2
refuse "'fifo': it is not a regular file" -r -f qcow2 a.qcow2
over sub raw a.qcow2
refuse "'sub': it is a directory" -r -f qcow2 a.qcow2
over /dev/null raw a.qcow2
refuse "it is not a regular file" -r -f qcow2 --allow-path=/dev a.qcow2
over gone.raw raw a.qcow2
refuse "cannot open 'gone.raw': there is no such file; check the path; it is the backing file of 'a.qcow2'" \
    -r -f qcow2 a.qcow2
over a.qcow2 qcow2 b.qcow2
refuse "'gone.raw': there is no such file; check the path; it is the backing file of 'a.qcow2'" \
    -r -f qcow2 b.qcow2
over base.raw vmdk a.qcow2
refuse "the image format 'vmdk' is not supported" -r -f qcow2 a.qcow2
ok "fifos, directories, devices, files that are not there, formats that are not known"

# --- formats that were guessed ---
over base.raw raw a.qcow2
refuse "no second file is opened on a guess" -r a.qcow2
qemu-img create -q -f qcow2 alone.qcow2 1M
qemu-io -c 'write -P 9 0 64k' alone.qcow2 >/dev/null
reads 9 alone.qcow2
qemu-img create -q -u -f qcow2 -o compat=0.10 -b alone.qcow2 -F qcow2 top.qcow2 1M
# The extension with the format is wiped out: as old programs made it.
printf '\0\0\0\0' | dd of=top.qcow2 bs=1 seek=72 conv=notrunc status=none
reads 9 -f qcow2 top.qcow2
over base.raw raw alone.qcow2
refuse "no second file is opened on a guess" -r -f qcow2 top.qcow2
ok "a guess opens no second file"

# --- circles ---
over b.qcow2 qcow2 a.qcow2
over a.qcow2 qcow2 b.qcow2
refuse "cannot go in a circle" -r -f qcow2 a.qcow2
ln a.qcow2 same.qcow2
over same.qcow2 qcow2 a.qcow2
refuse "cannot go in a circle" -r -f qcow2 a.qcow2
ok "circles are found by the file, not by its name"

# --- a chain at the limit of 64 nodes, each a read deep ---
cp base.raw c0.qcow2
below=raw
for i in $(seq 1 61); do
    over "c$((i - 1)).qcow2" $below "c$i.qcow2"
    below=qcow2
done
reads 1 -f qcow2 c61.qcow2
over c61.qcow2 qcow2 c62.qcow2
over c62.qcow2 qcow2 c63.qcow2
over c63.qcow2 qcow2 c64.qcow2
refuse "more than 64 nodes below each other" -r -f qcow2 c64.qcow2
ok "a chain of 62 images is read; a longer one is refused"

# --- the data file keeps the same rules ---
qemu-img create -q -f qcow2 -o data_file=d.data d.qcow2 1M
qemu-io -c 'write -P 3 0 64k' d.qcow2 >/dev/null
reads 3 -f qcow2 d.qcow2
(cd / && reads 3 -f qcow2 "$dir/in/d.qcow2")
refuse "no second file is opened on a guess" -r d.qcow2
mv d.data ../out.d
refuse "cannot open 'd.data': there is no such file; check the path; it is the external data file of 'd.qcow2'" \
    -r -f qcow2 d.qcow2
reads 3 --image-opts "driver=qcow2,file.filename=d.qcow2,data-file.filename=$dir/out.d/d.data"
ln -s ../out.d/d.data d.data
refuse "say --allow-path=$dir/out.d" -r -f qcow2 d.qcow2
rm d.data
ln d.qcow2 d.data
refuse "cannot go in a circle" -r -f qcow2 d.qcow2
ok "the external data file"

# --- snapshots ---
qemu-img create -q -f qcow2 s.qcow2 1M
qemu-io -c 'write -P 5 0 64k' s.qcow2 >/dev/null
qemu-img snapshot -c first s.qcow2
qemu-io -c 'write -P 6 0 64k' s.qcow2 >/dev/null
qemu-img snapshot -c 'the second' s.qcow2
qemu-io -c 'write -P 7 0 64k' s.qcow2 >/dev/null
qemu-img resize -q s.qcow2 2M
reads 7 -f qcow2 s.qcow2
reads 5 -f qcow2 -l first s.qcow2
reads 5 -f qcow2 -l 1 s.qcow2
reads 6 -f qcow2 -l snapshot.id=2 s.qcow2
reads 6 -f qcow2 -l 'snapshot.id=2,snapshot.name=the second' s.qcow2
start_server -t -f qcow2 -l first s.qcow2
client qemu-img info --output=json "$uri" | grep -q '"virtual-size": 1048576' || fail "not the snapshot's size"
refused qemu-io -f raw -c 'write 0 512' "$uri"
stop_server
refuse "it has no snapshot 'third'; it has: 1 (first), 2 (the second)" -f qcow2 -l third s.qcow2
refuse "it has no snapshot 'x'; it has none" -f qcow2 -l x alone.qcow2 --allow-path=/
ok "snapshots"
