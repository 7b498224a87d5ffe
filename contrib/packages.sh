# SPDX-License-Identifier: BSD-3-Clause
# shellcheck shell=bash
# Debian packages for contrib/quickstart and tests/run: what is needed, what is missing, and how it
# comes onto the machine. Sourced, never run.

# shellcheck disable=SC2034
packages_build=(gcc libc6-dev meson ninja-build pkg-config libaio-dev libev-dev libjansson-dev liburing-dev libzstd-dev zlib1g-dev)
# shellcheck disable=SC2034
packages_sample=(e2fsprogs)

# packages_missing PACKAGE...: prints those that are not installed, one a line.
packages_missing()
{
  local package
  for package in "$@"; do
    # A package of two architectures has two lines; one installed line is enough.
    dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed ||
      printf '%s\n' "$package"
  done
}

# packages_require FOR PACKAGE...: installs what is missing. Returns 1 with a sentence on stderr when
# it cannot. With nothing missing it runs no apt at all, so it works without a network.
packages_require()
{
  local for=$1 missing log
  shift
  if ! command -v dpkg-query >/dev/null; then
    echo "$for: not a Debian system, so nothing is installed; needed here: $*" >&2
    return 0
  fi
  mapfile -t missing < <(packages_missing "$@")
  [ "${#missing[@]}" -gt 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    echo "$for: not installed: ${missing[*]}; run as root: apt-get install --no-install-recommends ${missing[*]}" >&2
    return 1
  fi
  echo "$for: installing ${missing[*]}" >&2
  log=$(mktemp) || return 1
  if ! {
    apt-get update -q &&
      DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
  } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    echo "$for: apt-get could not install ${missing[*]}; see the lines above" >&2
    return 1
  fi
  rm -f "$log"
}
