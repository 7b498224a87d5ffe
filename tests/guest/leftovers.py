# SPDX-License-Identifier: BSD-3-Clause
"""What a case may leave behind: nothing. Processes, mounts, loop devices, sockets, files and
/dev/shm are looked at."""
import ctypes
import glob
import os
import stat

PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans():
    """Whoever loses its parent becomes ours, so that it is seen."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children():
    """Process ids of all children, those that have ended and were waited for by nobody too."""
    found = []
    for path in glob.glob("/proc/self/task/*/children"):
        with open(path, encoding="ascii") as file:
            found += [int(word) for word in file.read().split()]
    return found


def name_of(pid):
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace") or "ended"
    except OSError:
        return "ended"


def mounts(folder):
    """Lines of what is mounted in the folder. Others may mount meanwhile what is none of ours."""
    with open("/proc/self/mounts", encoding="utf-8") as file:
        return [line.strip() for line in file if line.split()[1].startswith(folder + "/")]


def loops(folder):
    """Loop devices on files of the folder."""
    found = []
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        try:
            with open(path, encoding="utf-8") as file:
                backing = file.read().strip()
        except OSError:
            continue
        if backing.startswith(folder):
            found.append("%s on %s" % (path.split("/")[3], backing))
    return found


def sockets(folder):
    found = []
    for where, _, names in os.walk(folder):
        paths = [os.path.join(where, name) for name in names]
        found += [path for path in paths if stat.S_ISSOCK(os.lstat(path).st_mode)]
    return found


def kept_memory(folder):
    """What servers of images in the folder have kept for the next one; it goes now."""
    found = []
    for where, _, names in os.walk(folder):
        for status in (os.lstat(os.path.join(where, name)) for name in names):
            path = "/dev/shm/platter-%d-%x-%x" % (os.geteuid(), status.st_dev, status.st_ino)
            if os.path.exists(path):
                os.unlink(path)
                found.append(path)
    return found


def find(folder):
    """A line for each thing that is left."""
    return (["the process %d (%s)" % (pid, name_of(pid)) for pid in children()]
            + ["the mount " + line for line in mounts(folder)]
            + ["the loop device " + text for text in loops(folder)]
            + ["the socket " + path for path in sockets(folder)]
            + ["the kept memory " + path for path in kept_memory(folder)])
