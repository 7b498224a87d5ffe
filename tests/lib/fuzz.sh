# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Runs the fuzz targets by tests/fuzz/run, two at once on each processor. Sourced by tests/run.

build_fuzz() # STAGE
{
  CC=clang-14 build "$1" build-fuzz -Dfuzzers=true -Dtests=false \
    -Db_sanitize=address,undefined -Db_lundef=false
}

# fuzz STAGE SECONDS: each target for SECONDS; one test a target.
fuzz()
{
  local targets
  build_fuzz "$1" || return
  mapfile -t targets < <(find build-fuzz/tests/fuzz -maxdepth 1 -type f -perm -u+x -name 'fuzz_*' | sort)
  fuzz_targets "$1" build-fuzz "$2" $(($2 * 2 + 60)) "${targets[@]##*/fuzz_}"
}

# fuzz_many STAGE COUNT TARGET...: each target COUNT times without sanitizers, which is several times
# as fast, and then under them whatever it found worth keeping.
fuzz_many()
{
  local stage=$1 count=$2 target
  shift 2
  CC=clang-14 build "$stage" build-fuzz-edges -Dfuzzers=true -Dtests=false -Db_lundef=false \
    -Dfuzz_edges_only=true || return
  fuzz_targets "$stage" build-fuzz-edges "${count}x" $((count / 1000 + 60)) "$@"
  build_fuzz "$stage" || return
  for target in "$@"; do
    mkdir -p "build-fuzz/fuzz-corpus/$target"
    cp "build-fuzz-edges/fuzz-corpus/$target"/* "build-fuzz/fuzz-corpus/$target/"
  done
  fuzz_targets "$stage-sanitized" build-fuzz 0x 3600 "$@"
}

# fuzz_targets STAGE FOLDER LIMIT LIMIT_S TARGET...
fuzz_targets()
{
  local stage=$1 folder=$2 limit=$3 limit_s=$4 targets target at_once=$((2 * $(nproc)))
  targets=("${@:5}")
  if [ "${#targets[@]}" -eq 0 ]; then
    record_fail "$stage: no fuzz target was built" "$logs/$stage-build.log"
    return
  fi
  local each="$limit s each"
  [[ $limit != *x ]] || each="${limit%x} executions each"
  progress "$stage: ${#targets[@]} targets, $each"
  steady_addresses
  for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
    fuzz_target "$target" "$logs/$stage-fuzz_$target" &
  done
  wait
  under=()
  for target in "${targets[@]}"; do
    if [ "$(cat "$logs/$stage-fuzz_$target.status" 2>/dev/null)" = 0 ]; then
      record_pass
    else
      record_fail "$stage: fuzz_$target" "$logs/$stage-fuzz_$target.log"
    fi
  done
}

# fuzz_target NAME LOG_PREFIX: tests/fuzz/run on one target of fuzz_targets, bounded in time. What the
# fuzzer said goes behind it, so that the log's tail shows the failure.
fuzz_target()
{
  local name=$1 prefix=$2 status=0
  rm -f "$prefix.status"
  "${under[@]}" timeout --kill-after=10 "$limit_s" tests/fuzz/run "$folder" "$limit" \
    "$name" >"$prefix.log" 2>&1 </dev/null || status=$?
  tail -n 60 "$folder/fuzz-failed/$name.log" >>"$prefix.log" 2>/dev/null
  echo "$status" >"$prefix.status"
}
