# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Counts results and shows them. Sourced by tests/run.

logs=build-logs
passed=0
failed=0
skips=()

# A line for a person who waits; a log file gets none.
progress()
{
  [ -t 2 ] && printf '\r\033[K%s' "$*" >&2
  return 0
}

progress_end()
{
  [ -t 2 ] && printf '\r\033[K' >&2
  return 0
}

record_pass()
{
  passed=$((passed + 1))
}

record_skip() # NAME REASON
{
  skips+=("SKIPPED $1: $2")
}

record_fail() # NAME LOG
{
  failed=$((failed + 1))
  progress_end
  echo "FAILED $1 (log: $2)"
  [ -f "$2" ] && tail -n 40 "$2" | sed 's/^/    /'
  return 0
}

# record_run NAME LOG COMMAND...: a test that is one command.
record_run()
{
  local name=$1 log=$2
  shift 2
  if "$@" >"$log" 2>&1 </dev/null; then record_pass; else record_fail "$name" "$log"; fi
}

# record_meson STAGE FOLDER: counts what `meson test` wrote down in FOLDER.
record_meson()
{
  local stage=$1 folder=$2 result name detail found=0
  while IFS=$'\t' read -r result name detail; do
    found=1
    case $result in
    pass) record_pass ;;
    skip) record_skip "$stage: $name" "$detail" ;;
    *) record_fail "$stage: $name" "$detail" ;;
    esac
  done < <(python3 tests/lib/meson_results.py "$folder/meson-logs" "$logs/$stage")
  if [ "$found" -eq 0 ]; then
    # A suite that vanished must not look like one that passed.
    record_fail "$stage: no test ran" "$logs/$stage.log"
  fi
}

# run_stage_as NAME COMMAND...: one stage, summed up in one line.
run_stage_as()
{
  local stage=$1 passed_before=$passed failed_before=$failed started=$SECONDS
  shift
  "$@"
  progress_end
  echo "$stage: $((passed - passed_before)) passed, $((failed - failed_before)) failed," \
    "$((SECONDS - started)) s"
}

# The last line of all, and the exit status.
summary()
{
  local tail=""
  if [ "${#skips[@]}" -gt 0 ]; then
    printf '%s\n' "${skips[@]}"
    tail=", ${#skips[@]} skipped"
  fi
  echo "$passed passed, $failed failed$tail"
  [ "$failed" -eq 0 ]
}
