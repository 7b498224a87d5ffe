# SPDX-License-Identifier: BSD-3-Clause
"""The other side of file_system_round in inside/files.sh."""
import common

LITTER = 96 << 20


def expect_round(talk, file_system, image):
    """The image has what was written, and less after the trim."""
    talk.expect_question("filled " + file_system)
    filled = common.allocated(image)
    talk.go()
    talk.expect_question("trimmed " + file_system)
    if filled < LITTER + (14 << 20):
        raise common.Failure("110 MiB and more are written, and the image has %d bytes" % filled)
    # A format may give space back some time after the flush.
    wanted = filled - LITTER * 15 // 16
    common.wait_until("%d bytes of %d come back" % (filled - wanted, filled),
                      lambda: common.allocated(image) <= wanted, 30)
    talk.go()
