# SPDX-License-Identifier: BSD-3-Clause
"""A guest: qemu, with the kernel and the initramfs of build-initramfs.

Its two serial lines: the kernel's messages go to a file, what the case says comes line by line.
"""
import functools
import os
import shutil
import subprocess
import tempfile

import accelerator
import common
import dialogue

HERE = os.path.dirname(os.path.abspath(__file__))
# The kernel's modules for what a guest has.
EXT4 = ["crc32c_generic", "ext4"]
XFS = ["crc32c_generic", "xfs"]
VIRTIO_DISK = ["virtio_pci", "virtio_blk"]
IDE_DISK = ["ata_piix", "sd_mod"]
MODULES_OF = {"ext4": EXT4, "xfs": XFS, "virtio": VIRTIO_DISK, "ide": IDE_DISK}
NBD = ["e1000", "nbd"]
NAME_OF = {"virtio": "/dev/vda", "ide": "/dev/sda"}

# The guest's 10.0.2.2 is this machine's loopback.
NET = ["-netdev", "user,id=net", "-device", "e1000,netdev=net,romfile="]
# no_timer_check: on a busy machine the emulated timer is late, and the kernel would take it for broken.
KERNEL_SAYS = "console=ttyS0 quiet panic=-1 random.trust_cpu=on no_timer_check"


# A processor that has what the kernel's user space wants, without what an emulation is slow at.
PROCESSOR_OF = {"tcg": "qemu64,+rdrand", "kvm": "host"}


def need():
    """Skips where there is no qemu, or no kernel for it. Says by what the guests of this case will run."""
    common.need("qemu-system-x86_64", "qemu-img", "cpio")
    done = subprocess.run([os.path.join(HERE, "build-initramfs"), common.boot_folder()],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode == 77:
        raise common.Skip(done.stdout.strip().replace("SKIP: ", ""))
    if done.returncode:
        raise common.Failure("build-initramfs: " + done.stdout)
    print("accelerator %s: %s" % accelerate(), flush=True)


def probe(limit_s):
    """A guest boots by KVM and says its line, or a Failure."""
    with tempfile.TemporaryDirectory(prefix="platter-guest-probe.") as folder:
        with Guest(folder, "probe", run_by="kvm", limit_s=limit_s) as machine:
            machine.expect("PASS")


@functools.lru_cache(maxsize=None)
def accelerate():
    """(By what guests run, why), found out once a process at most."""
    return accelerator.choose(probe)


def disk(server, kind, *more, device=()):
    """qemu's options for a disk on the server's export; `more` goes to its NBD client."""
    node = ["driver=nbd,node-name=disk,discard=unmap", "server.type=unix", "server.path=" + server.path,
            *more]
    front = [{"virtio": "virtio-blk-pci", "ide": "ide-hd"}[kind], "drive=disk", *device]
    return ["-blockdev", ",".join(node), "-device", ",".join(front)]


def packed_scripts(folder):
    """The scripts that run inside, as the part of the initramfs that is new each time."""
    root = os.path.join(folder, "scripts")
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(os.path.join(HERE, "inside"), os.path.join(root, "inside"))
    shutil.move(os.path.join(root, "inside/init"), os.path.join(root, "init"))
    os.chmod(os.path.join(root, "init"), 0o755)
    if os.path.exists(common.tool("nbd_link")):
        shutil.copy(common.tool("nbd_link"), os.path.join(root, "inside"))
    names = subprocess.run(["find", ".", "-mindepth", "1"], cwd=root, check=True,
                           stdout=subprocess.PIPE).stdout
    return subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=root, check=True,
                          input=names, stdout=subprocess.PIPE).stdout


def initramfs(folder, with_fio):
    """Archives one behind the other: the kernel unpacks them all."""
    path = os.path.join(folder, "initramfs.cpio")
    parts = ["base.cpio"] + (["fio.cpio"] if with_fio else [])
    with open(path, "wb") as out:
        for part in parts:
            with open(os.path.join(common.boot_folder(), part), "rb") as archive:
                shutil.copyfileobj(archive, out)
        out.write(packed_scripts(folder))
    return path


class Guest(dialogue.Dialogue):
    """One boot. `devices` are qemu's options; `words` go to the case's function in inside/cases.sh."""

    def __init__(self, folder, case, words=(), modules=(), devices=(), with_fio=False, kernel_says="",
                 run_by=None, limit_s=480):
        run_by = run_by or accelerate()[0]
        self.console = os.path.join(folder, "console.log")
        says = [KERNEL_SAYS, "case=" + case, "words=" + ",".join(words), "modules=" + ",".join(modules),
                kernel_says]
        super().__init__(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
             "-machine", "pc,accel=" + run_by, "-cpu", PROCESSOR_OF[run_by], "-m", "640", "-no-reboot",
             "-kernel", os.path.join(common.boot_folder(), "vmlinux"),
             "-initrd", initramfs(folder, with_fio), "-append", " ".join(says),
             "-serial", "file:" + self.console, "-serial", "stdio", *devices], limit_s)

    def _story(self, what):
        tail = ""
        if os.path.exists(self.console):
            with open(self.console, encoding="utf-8", errors="replace") as console:
                tail = console.read()[-3000:]
        return super()._story(what) + "\n--- the kernel: ---\n" + tail
