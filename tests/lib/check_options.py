# SPDX-License-Identifier: BSD-3-Clause
"""Every option that `platter --help` prints is in the manual page and in the shell completion, and
neither has one that the program does not know.

usage: check_options.py PLATTER
"""
import re
import subprocess
import sys

MANUAL = "docs/platter.1"
COMPLETION = "contrib/completions/platter"
LONG = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]+)")
SHORT = re.compile(r"(?<![\w-])-([A-Za-z])(?![\w-])")


def options_of_help(program):
    done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        sys.exit("%s --help: status %d, wanted 0\n%s" % (program, done.returncode, done.stderr))
    lines = [line for line in done.stdout.splitlines() if re.match(r"\s+-", line)]
    if not lines:
        sys.exit("%s --help prints no option" % program)
    # The options stand before the first gap of two spaces; the text after it may name others.
    heads = [re.split(r"\s{2,}", line.strip())[0] for line in lines]
    text = "\n".join(heads)
    return set(LONG.findall(text)) | set(SHORT.findall(text))


def options_of_manual():
    """The list items of the page: `.It Fl k Ar PATH , Fl Fl socket Ns = Ns Ar PATH`."""
    found = set()
    with open(MANUAL, encoding="utf-8") as page:
        for line in page:
            if line.startswith(".It Fl"):
                found |= set(re.findall(r"\bFl Fl ([a-z][a-z0-9-]+)", line))
                found |= set(re.findall(r"\bFl ([A-Za-z])\b", line))
    return found


def options_of_completion():
    """The one word list of the script that begins with an option."""
    with open(COMPLETION, encoding="utf-8") as script:
        words = re.search(r'compgen -W "\s*(-[^"]*)"', script.read()).group(1).split()
    return {word.lstrip("-") for word in words}


def difference(have, want, text):
    for option in sorted(want - have):
        dashes = "-" if len(option) == 1 else "--"
        print("%s: %s%s" % (text, dashes, option))
    return len(want - have)


def main():
    known = options_of_help(sys.argv[1])
    manual, completion = options_of_manual(), options_of_completion()
    wrong = difference(manual, known, MANUAL + ": does not describe")
    wrong += difference(known, manual, MANUAL + ": describes what the program does not know")
    wrong += difference(completion, known, COMPLETION + ": does not offer")
    wrong += difference(known, completion, COMPLETION + ": offers what the program does not know")
    sys.exit(1 if wrong else 0)


main()
