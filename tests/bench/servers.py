# SPDX-License-Identifier: BSD-3-Clause
"""The servers that are compared: how each is started in its best mode, and what CPU it used.

One server runs at a time, on a UNIX socket in the work folder; all serve the same image file.
"""
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time

CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
START_TIMEOUT_S = 20
BARE = "(bare)"


class Server:
    """A way to serve an image. `direct` is the command for O_DIRECT, None where there is none. The
    bare one is no peer: what it reaches is what the machine lets anybody reach."""

    def __init__(self, name, program, buffered, direct=None):
        self.name = name
        self.program = program
        self.buffered = buffered
        self.direct = direct

    def is_there(self):
        return shutil.which(self.program) is not None


def nbd_server_command(splice):
    """nbd-server takes a file of settings and goes to the background; its export needs a name."""

    def command(sock, image, folder):
        config = os.path.join(folder, "nbd-server.conf")
        with open(config, "w", encoding="ascii") as out:
            out.write(
                f"[generic]\nunixsock = {sock}\n[image]\nexportname = {image}\n"
                f"flush = true\nfua = true\ntrim = true\nsplice = {'true' if splice else 'false'}\n"
            )
        return ["nbd-server", "-C", config, "-p", os.path.join(folder, "nbd-server.pid")]

    return command


def qemu_command(*options):
    def command(sock, image, folder):
        return ["qemu-nbd", "-t", "-e", "0", "-f", "raw", *options, "-k", sock, image]

    return command


def platter_command(program, options, *more):
    def command(sock, image, folder):
        return [program, "-t", "-e", "0", "-f", "raw", *more, *options, "-k", sock, image]

    return command


def all_servers(platter, platter_options, bare):
    """Every server known, platter first; the caller drops those that are not there."""
    options = shlex.split(platter_options)
    return [
        Server("platter", platter, platter_command(platter, options),
               platter_command(platter, options, "--cache=none")),
        Server("qemu-nbd-threads", "qemu-nbd", qemu_command("--aio=threads")),
        Server("qemu-nbd-io_uring", "qemu-nbd", qemu_command("--aio=io_uring"),
               qemu_command("--aio=io_uring", "--cache=none")),
        Server("qemu-nbd-native", "qemu-nbd", None, qemu_command("--aio=native", "--cache=none")),
        Server("nbdkit", "nbdkit",
               lambda sock, image, folder: ["nbdkit", "-f", "-U", sock, "file", image]),
        Server("nbd-server", "nbd-server", nbd_server_command(False)),
        Server("nbd-server-splice", "nbd-server", nbd_server_command(True)),
        Server(BARE, bare, lambda sock, image, folder: [bare, image, sock]),
    ]


def children_of(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


class Running:
    """A server process in the foreground (or nbd-server's daemon), until stop()."""

    def __init__(self, server, image, folder, direct=False, prefix=()):
        self.name = server.name
        self.sock = os.path.join(folder, "sock")
        name = "image" if server.program == "nbd-server" else ""
        self.uri = f"nbd+unix:///{name}?socket={self.sock}"
        self.log_path = os.path.join(folder, "server.log")
        if os.path.exists(self.sock):
            os.unlink(self.sock)
        command = (server.direct if direct else server.buffered)(self.sock, image, folder)
        self.pid_file = command[-1] if server.program == "nbd-server" else None
        if self.pid_file and os.path.exists(self.pid_file):
            os.unlink(self.pid_file)
        with open(self.log_path, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [*prefix, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.pid = self.process.pid
        try:
            self.wait_ready()
        except BaseException:
            self.stop()
            raise

    def wait_ready(self):
        """Until the socket greets; the pause grows, the process's end is an error at once."""
        deadline = time.monotonic() + START_TIMEOUT_S
        pause_s = 0.001
        while time.monotonic() < deadline:
            status = self.process.poll()
            if status not in (None, 0) or (status == 0 and not self.pid_file):
                raise RuntimeError(f"{self.name} ended: {self.log()}")
            if self.greets() and self.find_daemon():
                return
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, 0.05)
        raise RuntimeError(f"{self.name} does not serve: {self.log()}")

    def greets(self):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(5)
            try:
                client.connect(self.sock)
                return client.recv(8) == b"NBDMAGIC"
            except OSError:
                return False

    def find_daemon(self):
        if not self.pid_file:
            return True
        try:
            with open(self.pid_file, encoding="ascii") as file:
                self.pid = int(file.read())
            return True
        except (OSError, ValueError):
            return False

    def cpu_s(self):
        """CPU of the process: all its threads, those that ended, and children that ended."""
        deadline = time.monotonic() + 5
        while children_of(self.pid) and time.monotonic() < deadline:
            time.sleep(0.002)  # a server with a process for each client: its last one is ending
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return sum(int(fields[i]) for i in range(11, 15)) / CLOCK_TICKS_PER_S

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()[-500:].strip()

    def stop(self):
        if self.pid_file and not self.find_daemon():
            self.pid = self.process.pid
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        deadline = time.monotonic() + 10
        while self.process.poll() is None or (
                self.pid != self.process.pid and os.path.exists(f"/proc/{self.pid}")):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                self.process.wait()
                return
            time.sleep(0.002)
