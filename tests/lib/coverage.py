# SPDX-License-Identifier: BSD-3-Clause
"""Line and branch coverage of some folders, from what programs that clang built with counters
(-fprofile-instr-generate -fcoverage-mapping) left behind. Prints a table of files, then every branch
that was never taken, with its place.

usage: coverage.py BUILD PROFILES UNREACHED PERCENT FOLDER...

BUILD      the build folder; its programs say what the counters mean
PROFILES   where their *.profraw are
UNREACHED  a file that says of branches why no test reaches them: a reason on lines with "# ", below
           it the branches as they are printed here, without the line's number. A reason that begins
           with "Timing: " is for branches that are reached in some runs and not in others
PERCENT    of the branches that must be reached in each folder, or the status is 1
FOLDER     of the source, such as cache

A branch is one way out of one condition of the source: `if (a && b)` has four. Those of an assert()
do not count, since what it holds for impossible cannot be shown. Where a function has the same
condition several times, a branch says of which it is ("2nd"). BUILD/coverage.json gets the same.

The status is 1 too where a branch has no reason and where a reason's branch is reached after all,
except for reasons that begin with "Timing: ".
"""
import glob
import json
import os
import re
import subprocess
import sys

ASSERT = re.compile(r"\bassert\s*\(")
ATTRIBUTE = re.compile(r"__attribute__\(\(.*?\)\)+")
CONSTANT = re.compile(r"true|false|\d+|;")  # as of while (true): no condition


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        sys.exit("%s: status %d\n%s" % (command[0], done.returncode, done.stderr.decode()))
    return done.stdout


def programs(build):
    found = []
    for folder, _, names in os.walk(build):
        for path in (os.path.join(folder, name) for name in names):
            if os.path.isfile(path) and not os.path.islink(path) and os.access(path, os.X_OK):
                with open(path, "rb") as file:
                    if file.read(4) == b"\x7fELF":
                        found.append(path)
    if not found:
        sys.exit("%s has no program" % build)
    return sorted(found)


def export(build, profiles, paths):
    """What llvm-cov knows of these sources, by file."""
    raw = glob.glob(os.path.join(profiles, "*.profraw"))
    if not raw:
        sys.exit("%s has no *.profraw: no program has run" % profiles)
    merged = os.path.join(build, "coverage.profdata")
    # A program that was killed while it wrote has left half a file.
    run("llvm-profdata-14", "merge", "-sparse", "-failure-mode=all", "-o", merged, *raw)
    first, *others = programs(build)
    more = [word for path in others for word in ("-object", path)]
    text = run("llvm-cov-14", "export", "-instr-profile", merged, first, *more, *paths)
    return {os.path.relpath(entry["filename"]): entry for entry in json.loads(text)["data"][0]["files"]}


def place_of(text, at):
    """(line, column), from 1."""
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)


def assert_spans(text):
    spans = []
    for match in ASSERT.finditer(text):
        depth, at = 1, match.end()
        while depth > 0:
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        spans.append((place_of(text, match.start()), place_of(text, at)))
    return spans


def excerpt(text, begin, end):
    lines = text.splitlines()[begin[0] - 1:end[0]]
    lines[-1] = lines[-1][:end[1] - 1]
    lines[0] = lines[0][begin[1] - 1:]
    return " ".join(line.strip() for line in lines)


def functions_of(text):
    """The functions that a file defines: (first line, last line, name). A body begins and ends with a brace
    at the left margin."""
    found, head, name = [], "", None
    for number, line in enumerate(text.splitlines(), 1):
        if line == "{" and "(" in head:
            name, begin = re.search(r"(\w+)\(", ATTRIBUTE.sub("", head)).group(1), number
        elif line == "}" and name:
            found.append((begin, number, name))
            name = None
        is_end = line == "" or line[0] == "#" or line[-1] in ";}/"
        head = "" if is_end or name else head + line + " "
    return found


TIMING = "Timing: "
UNEXPLAINED = "Nobody has said why these are not reached:"
STALE = "Reached by now, or not there any more:"
ORDINALS = {1: "1st", 2: "2nd", 3: "3rd"}


class Source:
    """Of one file: the counts of its branches, by (place, condition, which way)."""

    def __init__(self, path, entry):
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.asserts = assert_spans(self.text)
        self.functions = functions_of(self.text)
        self.lines = entry["summary"]["lines"]
        self.branches = {}
        for branch in entry["branches"]:
            begin, end = tuple(branch[0:2]), tuple(branch[2:4])
            self.add(begin, excerpt(self.text, begin, end), branch)
        # Conditions of a macro count where it is used.
        for expansion in entry["expansions"]:
            region = expansion["source_region"]
            begin, end = tuple(region[0:2]), tuple(region[2:4])
            for branch in expansion["branches"]:
                self.add((*begin, *branch[0:2]), excerpt(self.text, begin, end), branch)

    def add(self, place, condition, branch):
        if CONSTANT.fullmatch(condition) or any(first <= place[:2] < end for first, end in self.asserts):
            return
        for way, count in (("true", branch[4]), ("false", branch[5])):
            key = (place, condition, way)
            self.branches[key] = self.branches.get(key, 0) + count

    def function_at(self, line):
        return next(name for begin, end, name in self.functions if begin <= line <= end)

    def names(self):
        """Of each branch its line, its name, which stays when lines move, and whether it was taken."""
        by_name, named = {}, []
        for place, condition in sorted({key[:2] for key in self.branches}):
            by_name.setdefault((self.function_at(place[0]), condition), []).append(place)
        for (place, condition, way), count in sorted(self.branches.items()):
            function = self.function_at(place[0])
            places = by_name[function, condition]
            nth = places.index(place) + 1
            which = ORDINALS.get(nth, "%dth" % nth) + " " if len(places) > 1 else ""
            named.append((place[0], "%s: %s%s is never %s" % (function, which, condition, way), count > 0))
        return named

    def numbers(self):
        return {
            "lines": self.lines["count"],
            "lines_missed": self.lines["count"] - self.lines["covered"],
            "branches": len(self.branches),
            "branches_missed": sum(1 for count in self.branches.values() if count == 0),
        }


def percent(numbers, what):
    count, missed = numbers[what], numbers[what + "_missed"]
    return 100.0 * (count - missed) / count if count else 100.0


def print_row(name, numbers):
    row = "%-34s" % name
    for what in ("lines", "branches"):
        row += " %8d %7d %7.1f %%" % (numbers[what], numbers[what + "_missed"], percent(numbers, what))
    print(row)


def print_folder(folder, entries, report):
    """Of each branch its file, its line, its name and whether it was ever taken."""
    total, branches = {}, []
    for path in sorted(glob.glob(os.path.join(folder, "*.c"))):
        if path not in entries:
            sys.exit("no program has %s in it" % path)
        source = Source(path, entries[path])
        numbers = source.numbers()
        print_row(path, numbers)
        total = {name: total.get(name, 0) + value for name, value in numbers.items()}
        branches += [(path, *branch) for branch in source.names()]
        report["files"][path] = numbers
    if not total:
        sys.exit("no source in %s" % folder)
    print_row(folder + ", all", total)
    report["folders"][folder] = total
    return branches


def reasons_of(path):
    """branch -> why it is not reached."""
    reasons, reason, is_open = {}, "", False
    with open(path, encoding="utf-8") as file:
        for line in (line.rstrip() for line in file):
            if line.startswith("# "):
                reason = reason + " " + line[2:] if is_open else line[2:]
            elif line:
                reasons[line] = reason
            is_open = line.startswith("# ")
    return reasons


def print_missing(branches, reasons):
    """Whether the list of reasons says of each branch that is missing why, and of no other."""
    groups = {}
    is_reached_by = {"%s: %s" % (path, name): is_reached for path, _, name, is_reached in branches}
    for path, line, name, is_reached in branches:
        if not is_reached:
            reason = reasons.get("%s: %s" % (path, name), UNEXPLAINED)
            groups.setdefault(reason, []).append("%s:%d: %s" % (path, line, name))
    missing = sum(len(group) for group in groups.values())
    stale = [branch for branch, reason in reasons.items()
             if branch not in is_reached_by or (is_reached_by[branch] and not reason.startswith(TIMING))]
    if stale:
        groups[STALE] = sorted(stale)
    for reason in sorted(groups, key=lambda reason: (reason in (STALE, UNEXPLAINED), reason)):
        print("\n%s" % reason)
        print("\n".join("  " + branch for branch in groups[reason]))
    print("\n%d branches are not reached, %d of them without a reason; %d reasons are stale" %
          (missing, len(groups.get(UNEXPLAINED, [])), len(stale)))
    return UNEXPLAINED not in groups and not stale


def main():
    if len(sys.argv) < 6:
        sys.exit(__doc__)
    build, profiles, unreached, wanted = sys.argv[1:5]
    folders = sys.argv[5:]
    entries = export(build, profiles, folders)
    report = {"files": {}, "folders": {}}
    branches = []
    print("%-34s %8s %7s %9s %8s %7s %9s" % ("", "lines", "missed", "", "branches", "missed", ""))
    for folder in folders:
        branches += print_folder(folder, entries, report)
    report["missing"] = ["%s:%d: %s" % branch[:3] for branch in branches if not branch[3]]
    with open(os.path.join(build, "coverage.json"), "w", encoding="utf-8") as file:
        json.dump(report, file, indent=1)
    is_explained = print_missing(branches, reasons_of(unreached))
    low = [folder for folder in folders if percent(report["folders"][folder], "branches") < float(wanted)]
    for folder in low:
        print("%s: less than %s %% of the branches" % (folder, wanted))
    sys.exit(1 if low or not is_explained else 0)


main()
