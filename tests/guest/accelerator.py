# SPDX-License-Identifier: BSD-3-Clause
"""By what guests run: KVM where it works, else by emulation (TCG).

A /dev/kvm that is there may hang a stock kernel, or lack what it needs. So it is tried: a guest that does
nothing but say its line is booted by KVM, bounded in time. The verdict holds until this machine boots
again, and is kept beside the guests' kernel; who takes the file away has it tried anew.
"""
import json
import os

import common

PROBE_S = 15
BOOT_ID = "/proc/sys/kernel/random/boot_id"


def _kept_path():
    return os.path.join(common.boot_folder(), "accelerator")


def _boot_id():
    with open(BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def _kept():
    """The verdict of this boot; None: there is none."""
    try:
        with open(_kept_path(), encoding="utf-8") as file:
            kept = json.load(file)
        return (kept["name"], kept["why"]) if kept["boot"] == _boot_id() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(name, why):
    part = "%s.%d" % (_kept_path(), os.getpid())
    with open(part, "w", encoding="utf-8") as file:
        json.dump({"boot": _boot_id(), "name": name, "why": why}, file)
    os.replace(part, _kept_path())


def choose(probe):
    """("kvm" or "tcg", why). probe(limit_s) boots a guest by KVM; a Failure says that its line did not come."""
    try:
        os.close(os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return "tcg", "/dev/kvm: " + error.strerror
    verdict = _kept()
    if not verdict:
        try:
            probe(PROBE_S)
            verdict = "kvm", "a guest boots by it"
        except common.Failure:
            verdict = "tcg", "a guest by KVM did not say its line in %d s" % PROBE_S
        _keep(*verdict)
    return verdict
