# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Build folders and what runs in them. Sourced by tests/run.

# build STAGE FOLDER [OPTION...]: configures FOLDER (again, if it is there) and builds it. A build that
# fails is one failed test of the stage.
build()
{
  local stage=$1 log=$logs/$1-build.log
  shift
  progress "$stage: building in $1"
  if compile "$@" >"$log" 2>&1 </dev/null; then return 0; fi
  record_fail "$stage: build" "$log"
  return 1
}

# One at a time in a folder.
compile() # FOLDER [OPTION...]
{
  local folder=$1
  {
    flock 9 || return
    configure "$@" && ninja -C "$folder"
  } 9>"$logs/$folder.lock"
}

# build_ahead STAGE...: builds their folders with what the stages before them leave of the processors:
# tests wait for disks and deadlines half of their time. What fails here fails again, and is reported,
# where the stage builds it. Ends with this script.
build_ahead()
{
  set -m # a process group, so that its end is the end of all that it started
  (
    renice -n 19 -p "$BASHPID" >/dev/null
    for stage in "$@"; do "build_$stage" "ahead-$stage"; done
  ) >/dev/null 2>&1 </dev/null &
  set +m
  trap 'kill -- -'"$!"' 2>/dev/null' EXIT
}

configure() # FOLDER [OPTION...]
{
  local folder=$1
  shift
  if [ -f "$folder/build.ninja" ]; then
    # `build` belongs to the developer as well: only what the tests cannot do without is set there.
    if [ "$folder" = build ]; then set -- -Dtests=true; fi
    meson configure "$folder" "$@"
  else
    rm -rf "$folder"
    meson setup "$folder" "$@"
  fi
}

# run_meson STAGE FOLDER [ARGUMENT...]: `meson test`, counted. An array `under` may hold a command to
# run it under. Two tests a processor: half of their time they wait for disks and deadlines.
run_meson()
{
  local stage=$1 folder=$2
  shift 2
  progress "$stage: testing in $folder"
  rm -f "$folder"/meson-logs/testlog*
  "${under[@]}" meson test -C "$folder" --no-rebuild --num-processes "$((2 * $(nproc)))" "$@" >"$logs/$stage.log" 2>&1 </dev/null
  record_meson "$stage" "$folder"
}

# Sanitizers of these compilers may refuse the address layout of newer kernels, so they run without
# its randomisation where that is allowed.
under=()
steady_addresses()
{
  local fixed
  fixed=(setarch "$(uname -m)" -R)
  if "${fixed[@]}" true 2>/dev/null; then under=("${fixed[@]}"); fi
}

# run_sanitized STAGE FOLDER [ARGUMENT...]: the same with every sanitizer report kept in a file and
# counted, also that of a server whose exit status no test looked at.
run_sanitized()
{
  local stage=$1 folder=$2 reports=$PWD/$2/reports report
  local -x ASAN_OPTIONS=halt_on_error=1:detect_leaks=1:log_path=$reports/asan
  local -x UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:log_path=$reports/ubsan
  local -x TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1:log_path=$reports/tsan
  rm -rf "$reports"
  mkdir -p "$reports"
  steady_addresses
  run_meson "$@"
  under=()
  for report in "$reports"/*; do
    if [ -s "$report" ]; then record_fail "$stage: sanitizer report" "$report"; fi
  done
}
