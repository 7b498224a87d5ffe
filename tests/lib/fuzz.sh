# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Runs the fuzz targets by tests/fuzz/run, as many at once as there are processors. Sourced by
# tests/run.

build_fuzz() # STAGE
{
  CC=clang-14 build "$1" build-fuzz -Dfuzzers=true -Dtests=false \
    -Db_sanitize=address,undefined -Db_lundef=false
}

# fuzz STAGE SECONDS: each target for SECONDS; one test a target.
fuzz()
{
  local stage=$1 seconds=$2 targets target
  build_fuzz "$stage" || return
  mapfile -t targets < <(find build-fuzz/tests/fuzz -maxdepth 1 -type f -perm -u+x -name 'fuzz_*' | sort)
  if [ "${#targets[@]}" -eq 0 ]; then
    record_fail "$stage: no fuzz target was built" "$logs/$stage-build.log"
    return
  fi
  progress "$stage: ${#targets[@]} targets, $seconds s each"
  steady_addresses
  for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    fuzz_target "${target##*/fuzz_}" "$seconds" "$logs/$stage-${target##*/}" &
  done
  wait
  under=()
  for target in "${targets[@]}"; do
    if [ "$(cat "$logs/$stage-${target##*/}.status" 2>/dev/null)" = 0 ]; then
      record_pass
    else
      record_fail "$stage: ${target##*/}" "$logs/$stage-${target##*/}.log"
    fi
  done
}

# fuzz_target NAME SECONDS LOG_PREFIX: tests/fuzz/run on one target, bounded in time. What the fuzzer
# said goes behind it, so that the log's tail shows the failure.
fuzz_target()
{
  local name=$1 seconds=$2 prefix=$3 status=0
  rm -f "$prefix.status"
  "${under[@]}" timeout --kill-after=10 $((seconds * 2 + 60)) tests/fuzz/run build-fuzz "$seconds" \
    "$name" >"$prefix.log" 2>&1 </dev/null || status=$?
  tail -n 60 "build-fuzz/fuzz-failed/$name.log" >>"$prefix.log" 2>/dev/null
  echo "$status" >"$prefix.status"
}
