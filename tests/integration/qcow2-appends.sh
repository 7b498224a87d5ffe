#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Writes that make an image's file grow, beside zeroes at its end: QEMU lost data so on XFS (its commit
# 292d06b925), where a fallocate beyond the end of the file raced with a direct write that extended it.
# file-systems.sh runs this on XFS and others.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need qemu-img qemu-io python3
is_stand_in && skip "it is our own image that is looked at"
cd "$dir"

seed=${SEED:-$RANDOM}
echo "SEED=$seed"

# Requests of 4 KiB to 96 KiB, each wave at once: data of some pattern, or zeroes; then what must be there.
commands() { # SEED WRITES READS
    python3 - "$@" <<'PYTHON'
import random
import sys

UNIT, UNITS, WAVES, REQUESTS = 4096, 1024, 4, 48
choose = random.Random(int(sys.argv[1]))
disk = [0] * UNITS
with open(sys.argv[2], "w") as writes:
    for wave in range(WAVES):
        taken = set()
        for _ in range(REQUESTS):
            first = choose.randrange(UNITS)
            units = range(first, min(first + choose.randint(1, 24), UNITS))
            if not taken.isdisjoint(units):
                continue
            taken.update(units)
            pattern = choose.randint(1, 255) if choose.random() < 0.7 else 0
            how = f"-P {pattern}" if pattern else choose.choice(["-z", "-z -u"])
            writes.write(f"aio_write -q {how} {first * UNIT} {len(units) * UNIT}\n")
            for unit in units:
                disk[unit] = pattern
        writes.write("aio_flush\n")
    writes.write("flush\n")
with open(sys.argv[3], "w") as reads:
    first = 0
    for unit in range(1, UNITS + 1):
        if unit == UNITS or disk[unit] != disk[first]:
            reads.write(f"read -q -P {disk[first]} {first * UNIT} {(unit - first) * UNIT}\n")
            first = unit
PYTHON
}

# run_qemu_io FILE_OF_COMMANDS ARGUMENTS...
run_qemu_io() {
    local file=$1
    shift
    client qemu-io "$@" <"$file" >out 2>&1 || fail "$file: $(tail -n 5 out)"
    ! grep -E 'failed|rror|verification' out || fail "$file"
}

caches=("--cache=writeback")
truncate -s 4096 direct
if dd if=/dev/zero of=direct bs=4096 count=1 oflag=direct conv=notrunc status=none 2>/dev/null; then
    caches+=("--cache=none --aio=native" "--cache=none --aio=io_uring")
fi
for cache in "${caches[@]}"; do
    for shape in cluster_size=64K cluster_size=4K cluster_size=64K,extended_l2=on; do
        seed=$((seed + 1))
        commands $seed writes reads
        rm -f image.qcow2
        qemu-img create -q -f qcow2 -o $shape image.qcow2 4M
        # shellcheck disable=SC2086
        start_server -t -f qcow2 --discard=unmap $cache image.qcow2
        cat writes reads >both
        run_qemu_io both -f raw "$uri"
        stop_server
        run_qemu_io reads -r -f qcow2 image.qcow2
        client qemu-img check -q -f qcow2 image.qcow2 || fail "$shape, $cache, seed $seed: $(qemu-img check image.qcow2)"
    done
    ok "appends beside zeroes, $cache"
done
