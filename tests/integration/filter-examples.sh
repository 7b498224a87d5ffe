#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Every example of docs/filters.md runs as it stands there: the blocks that begin with ```sh, each in a
# folder of its own.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdinfo qemu-io nbdcopy qemu-img

mkdir "$dir/bin"
ln -s "$PLATTER" "$dir/bin/platter"
awk -v dir="$dir" '
    /^#/ { section = $0 }
    /^```sh$/ { file = sprintf("%s/example-%02d", dir, ++count); print section >(file ".title"); next }
    /^```$/ { file = ""; next }
    file { print >file }' "$top/docs/filters.md"

count=0
for example in "$dir"/example-??; do
    [ -e "$example" ] || break
    mkdir "$example.d"
    (cd "$example.d" && PATH=$dir/bin:$PATH timeout "$limit_s" bash -euo pipefail "$example") >"$log" 2>&1 ||
        fail "the example below '$(cat "$example.title")': $(cat "$example" "$log")"
    ok "$(cat "$example.title")"
    count=$((count + 1))
done
[ $count -gt 0 ] || fail "docs/filters.md has no example"
