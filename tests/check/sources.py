# SPDX-License-Identifier: BSD-3-Clause
"""What the source checks share: which files there are, and how a finding is told."""
import os
import subprocess
import sys

ROOMS = ("common", "protocol", "block", "cache", "formats", "server", "contrib")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.chdir(ROOT)


def from_git():
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(command, check=True, capture_output=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return [name for name in names.decode().split("\0") if name]


def from_folders():
    names = []
    for folder, subfolders, files in os.walk("."):
        subfolders[:] = [s for s in subfolders if s != ".git" and not s.startswith("build")]
        names += [os.path.relpath(os.path.join(folder, f), ".") for f in files]
    return names


def all_files():
    """Every file of the project: git's list, or the folders of an unpacked tarball."""
    names = from_git() or from_folders()
    return sorted(n for n in names if os.path.isfile(n) and not os.path.islink(n))


def c_files():
    return [name for name in all_files() if name.endswith((".c", ".h"))]


def room_of(name):
    return name.split("/")[0]


def read(name):
    with open(name, encoding="utf-8", errors="replace") as source:
        return source.read()


class Findings:
    """Collects `file:line: what is wrong; what to do` and ends the check."""

    def __init__(self):
        self.count = 0

    def add(self, name, line, text):
        self.count += 1
        print("%s:%d: %s" % (name, line, text))

    def finish(self):
        sys.exit(1 if self.count else 0)
