# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Runs the libFuzzer targets, as many at once as there are processors. Sourced by tests/run.

# fuzz STAGE SECONDS: each target for SECONDS; one test a target.
fuzz()
{
  local stage=$1 seconds=$2 targets target
  CC=clang-14 build "$stage" build-fuzz -Dfuzzers=true -Dtests=false \
    -Db_sanitize=address,undefined -Db_lundef=false || return
  mapfile -t targets < <(find build-fuzz/tests/fuzz -maxdepth 1 -type f -perm -u+x -name 'fuzz_*' | sort)
  if [ "${#targets[@]}" -eq 0 ]; then
    record_fail "$stage: no fuzz target was built" "$logs/$stage-build.log"
    return
  fi
  progress "$stage: ${#targets[@]} targets, $seconds s each"
  steady_addresses
  for target in "${targets[@]}"; do
    while [ "$(jobs -rp | wc -l)" -ge "$(nproc)" ]; do wait -n; done
    fuzz_target "$target" "$seconds" "$logs/$stage-${target##*/}" &
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

# fuzz_target TARGET SECONDS LOG_PREFIX: new inputs go to the build folder; tests/fuzz/corpus, the
# committed one, is only read. The input of a crash is left beside the log.
fuzz_target()
{
  local target=$1 seconds=$2 prefix=$3 name=${1##*/fuzz_} grown corpora
  grown=build-fuzz/corpus/$name
  corpora=("$grown")
  mkdir -p "$grown"
  rm -f "$prefix.status" "$prefix"-crash-* "$prefix"-leak-* "$prefix"-timeout-* "$prefix"-oom-*
  if [ -d "tests/fuzz/corpus/$name" ]; then corpora+=("tests/fuzz/corpus/$name"); fi
  "${under[@]}" timeout --kill-after=10 $((seconds * 2 + 60)) "$target" \
    -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$prefix-" "${corpora[@]}" >"$prefix.log" 2>&1 </dev/null
  echo $? >"$prefix.status"
}
