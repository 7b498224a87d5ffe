# SPDX-License-Identifier: BSD-3-Clause
"""A talk with a program, line by line: a guest over its serial line, a shell over its pipes.

The program says `? WORDS` to ask for leave to go on, `PASS` at its good end and `FAIL: WORDS` at any
other. Every wait is bounded in time.
"""
import queue
import re
import subprocess
import threading
import time

import common


class Dialogue:
    def __init__(self, command, limit_s):
        self.limit_s = limit_s
        self.said = []
        self.lines = queue.Queue()
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, preexec_fn=common.be_nice)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            # Half a line is what a killed program leaves.
            if line.endswith(b"\n"):
                self.lines.put(line.decode(errors="replace").strip())
        self.lines.put(None)

    def _line(self, limit_s, may_fail=False):
        try:
            line = self.lines.get(timeout=max(0.1, limit_s))
        except queue.Empty:
            raise common.Failure(self._story("nothing more is said")) from None
        if line is not None:
            if line != ".": # said by a guest that waits for us
                self.said.append(line)
            if line.startswith("FAIL") and not may_fail:
                raise common.Failure(self._story(line))
        return line

    def expect(self, pattern, limit_s=None):
        """Reads on to the line that matches."""
        until = time.monotonic() + (limit_s or self.limit_s)
        while True:
            line = self._line(until - time.monotonic())
            if line is None:
                raise common.Failure(self._story("ended before it said " + pattern))
            match = re.fullmatch(pattern, line)
            if match:
                return match

    def expect_question(self, words, limit_s=None):
        """Reads on to `? WORDS`. The program waits until go()."""
        self.expect(r"\? " + words, limit_s)

    def rest(self, pattern):
        """What a killed program had said before, line by line, as far as it matches; a FAIL may be there."""
        while (line := self._line(60, may_fail=True)) is not None:
            match = re.fullmatch(pattern, line)
            if match:
                yield match

    def tell(self, word):
        self.process.stdin.write(word.encode() + b"\n")
        self.process.stdin.flush()

    def go(self):
        self.tell("go")

    def passes(self, limit_s=None):
        """The program says PASS and ends."""
        self.expect("PASS", limit_s)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise common.Failure(self._story("does not end after PASS")) from None

    def kill(self):
        """kill -9; all that it said before stays to be read."""
        self.process.kill()
        self.process.wait()

    def _story(self, what):
        return what + "\n--- it said: ---\n" + "\n".join(self.said[-60:])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()
