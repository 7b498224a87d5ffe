#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# TCP: tcp.sh ADDRESS, a numeric IPv4 or IPv6 address.
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
need nbdcopy nbdinfo openssl

bind=$1
case $bind in
*:*) ip -6 addr show dev lo 2>/dev/null | grep -q ::1 || skip "no IPv6 on this machine" ;;
esac
sparse_image "$dir/disk.img"
start_tcp_server "$bind" -t -e 0 -f raw "$dir/disk.img"
[ "$(client nbdinfo --size "$uri")" = 67108864 ] || fail "size over TCP"
client nbdcopy "$uri" "$dir/out"
same_bytes "$dir/disk.img" "$dir/out"
ok "copied out over $address"

random_file "$dir/random" 67108864
client nbdcopy --flush "$dir/random" "$uri"
ok "copied in"

# Large transfers in both directions at once, so that neither side can wait for the other.
client nbdcopy "$uri" "$dir/out" &
one=$!
client nbdcopy --flush "$dir/random" "$uri"
wait "$one" || fail "reading while another writes"
stop_server
same_bytes "$dir/random" "$dir/disk.img"
ok "two clients at once"

if [ "$bind" = 127.0.0.1 ]; then
    # The default address is every IPv4 address; the default port may be in use on this machine.
    start_tcp_server 0.0.0.0 -t -f raw "$dir/disk.img"
    [ "$(client nbdinfo --size "nbd://127.0.0.1:$port")" = 67108864 ] || fail "-b 0.0.0.0"
    stop_server
    ok "all addresses"
fi

# "Both the client and server SHOULD disable Nagle's algorithm."
if strace -o "$dir/trace" true 2>/dev/null; then
    printf '#!/bin/sh\nexec env "%s" strace -D -f -o "%s" -e trace=setsockopt "%s" "$@"\n' \
        "$no_leak_check" "$dir/trace" "$PLATTER" >"$dir/traced"
    chmod +x "$dir/traced"
    PLATTER=$dir/traced
    start_tcp_server "$bind" -t -f raw "$dir/disk.img"
    [ "$(client nbdinfo --size "$uri")" = 67108864 ] || fail "size over TCP, traced"
    stop_server
    grep -q 'TCP_NODELAY, \[1\]' "$dir/trace" || fail "TCP_NODELAY was not set: $(cat "$dir/trace")"
    ok "TCP_NODELAY is set"
fi
