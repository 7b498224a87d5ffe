# SPDX-License-Identifier: BSD-3-Clause
"""What the guests' tests share: where things are, how they fail, and the server."""
import os
import random
import shutil
import signal
import socket
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))


class Failure(Exception):
    """A test failed; what it says is for a person."""


class Skip(Exception):
    """This machine cannot do it."""


def boot_folder():
    """Where build-initramfs puts the kernel."""
    return os.environ.get("PLATTER_GUEST", os.path.join(TOP, "build", "guest"))


def need(*programs):
    for program in programs:
        if not shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin:/sbin"):
            raise Skip(program + " is not installed")


def need_root(what):
    if os.geteuid() != 0:
        raise Skip(what + " needs root")


def tool(name):
    """A program that the build makes for the guests."""
    return os.path.join(os.environ.get("PLATTER_GUEST_TOOLS", os.path.join(TOP, "build/tests/guest")),
                        name)


def be_nice():
    os.nice(10)


def run(*command, limit_s=120):
    """The command's output; a Failure with it when the command fails."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise Failure("no end after %d s: %s" % (limit_s, " ".join(command))) from None
    if done.returncode:
        raise Failure("status %d: %s\n%s" % (done.returncode, " ".join(command), done.stdout))
    return done.stdout


def wait_until(what, is_true, limit_s=60):
    until = time.monotonic() + limit_s
    while not is_true():
        if time.monotonic() > until:
            raise Failure("waited %d s: %s" % (limit_s, what))
        time.sleep(0.05)


def some_port():
    """A TCP port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def seed():
    """The seed of what a case draws; printed, and taken back from the environment."""
    value = int(os.environ.get("PLATTER_GUEST_SEED") or random.SystemRandom().randrange(1 << 31))
    print("seed %d" % value, flush=True)
    return value


def allocated(path):
    return os.stat(path).st_blocks * 512


def new_image(folder, kind, size, name="disk"):
    path = os.path.join(folder, name + "." + kind)
    run("qemu-img", "create", "-q", "-f", kind, path, str(size))
    return path


def check_image(path, kind, leaks_are_fine=False):
    """qemu's own judgement. Its exit status is 3 when clusters are leaked and nothing else is wrong."""
    if kind == "raw":
        return
    done = subprocess.run(["qemu-img", "check", "-f", kind, path], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=120, check=False)
    if done.returncode != 0 and not (leaks_are_fine and done.returncode == 3):
        raise Failure("qemu-img check, status %d: %s" % (done.returncode, done.stdout))


class Server:
    """platter on one image; on a UNIX socket in the folder, or on a TCP port of the loopback."""

    def __init__(self, folder, image, kind, *options, tcp_port=None):
        self.path = None if tcp_port else os.path.join(folder, "socket")
        self.port = tcp_port
        self.log_path = os.path.join(folder, "server.log")
        where = ["-b", "127.0.0.1", "-p", str(tcp_port)] if tcp_port else ["-k", self.path]
        what = ["-f", kind, image] if kind else [image]
        self.command = [os.environ.get("PLATTER") or os.environ.get("PLATTER_BUILT") or
                        os.path.join(TOP, "build/server/platter"), "-t", "-e", "0", "--discard=unmap",
                        *where, *options, *what]
        self.process = None
        self.start()

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until("the server listens", self._listens)

    def _listens(self):
        if self.process.poll() is not None:
            raise Failure("the server does not start: " + self.log())
        with socket.socket(socket.AF_UNIX if self.path else socket.AF_INET) as peer:
            return peer.connect_ex(self.path or ("127.0.0.1", self.port)) == 0

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def uri(self):
        return "nbd+unix:///?socket=" + self.path if self.path else "nbd://127.0.0.1:%d" % self.port

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self, expected=0):
        """SIGTERM, to which a server answers with a clean end."""
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            raise Failure("the server does not end: " + self.log()) from None
        if status != expected:
            raise Failure("the server ended with status %d: %s" % (status, self.log()))
        if self.path and os.path.exists(self.path):
            raise Failure("the server left its socket behind")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()
        if self.path and os.path.exists(self.path):
            os.unlink(self.path)
