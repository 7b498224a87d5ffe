# SPDX-License-Identifier: BSD-3-Clause
"""Reads meson's testlog*.json (one JSON object a line) and prints one line a result:
pass NAME | skip NAME REASON | fail NAME LOGFILE, separated by tabs.

usage: meson_results.py MESON_LOGS LOG_PREFIX

A program counts as one test. A case that a cmocka program skipped is named as well, so that no skip
is silent. The reason is what the test printed after "skip:", or else its last line.
"""
import glob
import json
import os
import re
import sys

PASSED = ("OK", "EXPECTEDFAIL")
CMOCKA_SKIP = re.compile(r"^\[\s*SKIPPED\s*\] (?!\d+ test)(\S+)", re.M)
REASON = re.compile(r"^.*\bskip(?:ped)?: *(.+)$", re.M | re.I)


def output_of(entry):
    return entry.get("stdout", "") + entry.get("stderr", "")


def reason_of(text):
    found = REASON.findall(text)
    if found:
        return found[-1].strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "the test gave no reason"


def write_log(prefix, name, entry):
    path = prefix + "-" + re.sub(r"[^A-Za-z0-9_.-]+", "_", name) + ".log"
    with open(path, "w", encoding="utf-8", errors="replace") as log:
        log.write("$ " + " ".join(entry.get("command", [])) + "\n")
        log.write(output_of(entry))
        log.write("\nresult: %s, status %s, after %.1f s\n"
                  % (entry["result"], entry.get("returncode"), entry.get("duration", 0)))
    return path


def report(entry, prefix):
    name = entry["name"].split(":", 1)[-1].replace("\t", " ")  # without the project's name
    result = entry["result"]
    text = output_of(entry)
    if result == "SKIP":
        print("skip", name, reason_of(text), sep="\t")
        return
    if result not in PASSED:
        print("fail", name, write_log(prefix, name, entry), sep="\t")
        return
    print("pass", name, "", sep="\t")
    for case in sorted(set(CMOCKA_SKIP.findall(text))):
        print("skip", name + " " + case, reason_of(text), sep="\t")


def main():
    logs, prefix = sys.argv[1:]
    for path in sorted(glob.glob(os.path.join(logs, "testlog*.json"))):
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                report(json.loads(line), prefix)


main()
