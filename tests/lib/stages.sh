# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# The stages of tests/run, each in its own build folder. Sourced by tests/run.

# Packages beyond a build, by what wants them.
packages_tests=(
  clang-14 libclang-rt-14-dev llvm-14 clang-format-14 # second compiler, sanitizers, fuzzers, form
  shellcheck mandoc git                               # source checks
  libcmocka-dev libnbd-dev nbdkit                     # unit and integration tests
  nbdkit-plugin-dev valgrind                          # the plugin, and what is shown under valgrind
  libnbd-bin qemu-utils fio                           # clients no one here wrote
  jq openssl strace xfsprogs                          # what the tests' scripts use
  qemu-system-x86 nbd-client cpio                     # guests
)
packages_long=(debootstrap)

stages_default=(checks release asan tsan fuzz)
stages_long=(chroot asan-slow fuzz-long fuzz-many sim-long crash-long differential-long replay-long valgrind guests kill-long soak)

stage_checks()
{
  local check name
  for check in tests/check/*; do
    [ -x "$check" ] || continue
    name=$(basename "$check")
    progress "checks: $name"
    record_run "checks: $name" "$logs/check-$name.log" "$check"
  done
}

# What a distribution would build, with every test there is.
stage_release()
{
  build release build --buildtype=release || return
  run_meson release build --timeout-multiplier 2 --no-suite soak
  record_run "release: install" "$logs/release-install.log" tests/lib/check_install build
  if [ -x build/server/platter ]; then
    record_run "release: options are documented" "$logs/release-options.log" \
      python3 tests/lib/check_options.py build/server/platter
  else
    record_fail "release: build/server/platter was not built" "$logs/release-build.log"
  fi
}

# A report needs lines and no more (-g1), which builds in three quarters of the time.
# gcc's flow analysis is confused by its own instrumentation, so warnings are no errors here; the
# release build has them.
build_asan() # STAGE
{
  build "$1" build-asan -Dwerror=false -Db_sanitize=address,undefined -Db_lundef=false -Dc_args=-g1 \
    -Doptimization=1
}

stage_asan()
{
  asan asan --no-suite slow --no-suite teeth
}

# What takes long even without a sanitizer.
stage_asan_slow()
{
  asan asan-slow --suite slow
}

asan() # STAGE ARGUMENT...
{
  local stage=$1
  shift
  local -x PLATTER_SIM_SEEDS=100 # the release build runs them all; here each takes several times as long
  local -x PLATTER_CRASH_STATES=2000 PLATTER_CRASH_STRIDE=301 PLATTER_FAILURES_STRIDE=101
  build_asan "$stage" || return
  run_sanitized "$stage" build-asan --timeout-multiplier 5 --no-suite limits --no-suite soak "$@"
}

# By the second compiler, whose warnings are errors here as gcc's are in the release build.
build_tsan() # STAGE
{
  CC=clang-14 build "$1" build-tsan -Db_sanitize=thread -Db_lundef=false -Dc_args=-g1 -Doptimization=1
}

stage_tsan()
{
  build_tsan tsan || return
  run_sanitized tsan build-tsan --timeout-multiplier 10 \
    --suite unit --suite stress --suite integration --no-suite slow --no-suite formats --no-suite single
}

stage_fuzz()
{
  fuzz fuzz 15
}

stage_fuzz_long()
{
  fuzz fuzz-long 300
}

# Whether images are opened or refused, many times: a hundred million take an hour of two processors.
stage_fuzz_many()
{
  fuzz_many fuzz-many "${PLATTER_FUZZ_RUNS:-10000000}" qcow2_open gow1_open
}

# Ten times the seeds of the default run; the simulation reads the variable.
stage_sim_long()
{
  local -x PLATTER_SIM_SEEDS=10000
  build sim-long build --buildtype=release || return
  run_meson sim-long build --timeout-multiplier 20 --suite sim
}

# Fifty times the states of the default run, from another seed; the short sequences, of slow shapes
# fewer; and a failure at every call.
stage_crash_long()
{
  local -x PLATTER_CRASH_STATES=1000000 PLATTER_CRASH_STRIDE=1 PLATTER_CRASH_SEED=${PLATTER_CRASH_SEED:-1000000000}
  build crash-long build --buildtype=release || return
  run_meson crash-long build --timeout-multiplier 20 --suite crash
}

# Each case is some processes, so 10,000 take an hour or two.
stage_differential_long()
{
  local -x PLATTER_DIFFERENTIAL_CASES=${PLATTER_DIFFERENTIAL_CASES:-10000}
  build differential-long build --buildtype=release || return
  run_meson differential-long build --timeout-multiplier 200 'qcow2, differential'
}

# Some two hundred replays, each with the syncs of its cache mode.
stage_replay_long()
{
  build replay-long build --buildtype=release || return
  record_run 'replay-long: every engine and cache mode on every format' "$logs/replay-long.log" \
    timeout 3600 bash tests/integration/replay.sh product
}

# A thousand over qcow2, 250 over raw; each takes some 100 ms, and the default run has 60 of them.
stage_kill_long()
{
  local -x PLATTER_KILLS=${PLATTER_KILLS:-1250}
  build kill-long build --buildtype=release || return
  run_meson kill-long build --timeout-multiplier 20 kill
}

# Each case ends with a look at what it leaves behind; the second round starts from there.
stage_guests()
{
  local round name log status
  build guests build --buildtype=release || return
  for round in 1 2; do
    while IFS= read -r name; do
      progress "guests: $name, round $round"
      log=$logs/guests-$round-${name//[^a-z0-9]/-}.log
      status=0
      tests/guest/run "$name" >"$log" 2>&1 </dev/null || status=$?
      case $status in
      0) record_pass ;;
      77) record_skip "guests: $name" "$(tail -n 1 "$log")" ;;
      *) record_fail "guests: $name, round $round" "$log" ;;
      esac
    done < <(tests/guest/run --list)
  done
}

# How much of these folders the tests reach: what is about them of every suite. The crash suite has
# fewer states and all of its failures.
covered_folders=(cache formats/qcow2)
stage_coverage()
{
  local -x PLATTER_CRASH_STATES=${PLATTER_CRASH_STATES:-3000} PLATTER_FAILURES_STRIDE=1
  local -x LLVM_PROFILE_FILE=$PWD/build-coverage/profiles/%4m.profraw
  local others report=$logs/coverage.txt
  CC=clang-14 build coverage build-coverage -Dbuildtype=plain -Doptimization=1 -Db_lundef=false -Dwerror=false \
    '-Dc_args=-fprofile-instr-generate -fcoverage-mapping' -Dc_link_args=-fprofile-instr-generate || return
  rm -rf build-coverage/profiles
  run_meson coverage build-coverage --timeout-multiplier 4 --suite unit --suite crash
  mapfile -t others < <(meson test -C build-coverage --no-rebuild --list --suite stress --suite integration |
    sed -n 's|^.* / ||p' | grep -E '^qcow2|^stress/(bitmaps|cache|host_threads|qcow2|reopen)$|^image locks$|^cache modes$')
  run_meson coverage-others build-coverage --timeout-multiplier 4 "${others[@]}"
  record_run "coverage: 95 % of the branches" "$report" python3 tests/lib/coverage.py build-coverage \
    build-coverage/profiles tests/lib/unreached.txt 95 "${covered_folders[@]}"
  progress_end
  cat "$report"
}

stage_soak()
{
  local -x PLATTER_SOAK_SECONDS=${PLATTER_SOAK_SECONDS:-3600}
  build soak build --buildtype=release || return
  run_meson soak build --timeout-multiplier $((1 + PLATTER_SOAK_SECONDS / 7200)) --suite soak
}

stage_valgrind()
{
  build valgrind build --buildtype=release || return
  run_meson valgrind build --timeout-multiplier 30 --suite unit \
    --wrapper 'valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite'
}

# The whole way on a bare machine, from the README's first command to a file inside the image.
stage_chroot()
{
  progress "chroot: a bare Debian 12 (some minutes)"
  record_run "chroot: contrib/quickstart on a bare machine" "$logs/chroot.log" tests/chroot
}

# A meson suite alone, in the release build.
run_suite() # SUITE
{
  build "$1" build --buildtype=release || return
  run_meson "$1" build --timeout-multiplier 2 --suite "$1"
}
