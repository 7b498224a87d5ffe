/* SPDX-License-Identifier: BSD-3-Clause */
#include "protocol/errno.h"

#include "protocol/wire.h"

#include <assert.h>
#include <errno.h>

uint32_t nbd_error_from_errno(int code, uint16_t command, uint16_t command_flags)
{
    assert(code <= 0);
    switch (-code) {
    case 0:
        return NBD_SUCCESS;
    case EPERM:
    case EACCES:
    case EROFS:
        return NBD_EPERM;
    /* What a medium or the way to it says when it fails: no fault of the request. */
    case EIO:
    case EREMOTEIO:
    case ENXIO:
    case ENODEV:
    case ENODATA:
    case ENOMEDIUM:
    case EMEDIUMTYPE:
    case ENOLINK:
    case EBADMSG:
    case EUCLEAN:
    case EILSEQ:
    case ETIMEDOUT:
    case ESTALE:
    case ECONNRESET:
        return NBD_EIO;
    case ENOMEM:
        return NBD_ENOMEM;
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
        return NBD_ENOSPC;
    case ESHUTDOWN:
        return NBD_ESHUTDOWN;
    case EOVERFLOW:
        return command == NBD_CMD_READ && (command_flags & NBD_CMD_FLAG_DF) ? NBD_EOVERFLOW
                                                                            : NBD_EINVAL;
    case EOPNOTSUPP: /* the same number as ENOTSUP */
        return command == NBD_CMD_WRITE_ZEROES && (command_flags & NBD_CMD_FLAG_FAST_ZERO)
                   ? NBD_ENOTSUP
                   : NBD_EINVAL;
    default:
        return NBD_EINVAL;
    }
}
