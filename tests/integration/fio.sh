#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# fio's nbd engine, verifying what it wrote: fio.sh JOBS [SERVER OPTIONS...].
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need fio jq
fio --enghelp 2>/dev/null | grep -qw nbd || skip "fio was built without its nbd engine"

jobs=$1
shift
options_of_ours "$@"
truncate -s 64M "$dir/disk.img"
start_server -t -e 0 -f raw "$@" "$dir/disk.img"
cat >"$dir/verify.fio" <<JOB
[global]
ioengine=nbd
uri=$uri
iodepth=16
verify=crc32c
verify_fatal=1
do_verify=1
randseed=4711
size=$((64 / jobs))M
io_size=16M
offset_increment=$((64 / jobs))M
numjobs=$jobs

[mixed]
rw=randwrite
bsrange=512-64k
bs_unaligned=1
JOB
(cd "$dir" && client fio --output-format=json --output="$dir/fio.json" "$dir/verify.fio") ||
    fail "fio: $(tail -n 20 "$dir/fio.json")"
jq -e '[.jobs[] | .error] | all(. == 0)' "$dir/fio.json" >/dev/null || fail "fio counted errors"
jq -e '[.jobs[] | .read.total_ios] | all(. > 0)' "$dir/fio.json" >/dev/null || fail "nothing verified"
ok "$jobs jobs of random writes verify"

# The check has teeth: a byte changed behind fio's back is found.
if [ "$jobs" = 1 ]; then
    stop_server
    tr '\0-\377' '\1-\377\0' <"$dir/disk.img" >"$dir/changed.img"
    start_server -t -e 0 -f raw "$@" "$dir/changed.img"
    sed -i -e "s|^uri=.*|uri=$uri|" -e 's/^do_verify=.*/verify_only=1/' "$dir/verify.fio"
    (cd "$dir" && refused fio "$dir/verify.fio")
    ok "changed bytes are found"
fi
stop_server
