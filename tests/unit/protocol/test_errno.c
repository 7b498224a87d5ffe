/* SPDX-License-Identifier: BSD-3-Clause */
/* errno.c: the closed set of error values, filtered by command and flag. */
#include "tests/unit/unit.h"

#include "protocol/errno.h"
#include "protocol/wire.h"

#include <errno.h>

static uint32_t on_write(int code)
{
    return nbd_error_from_errno(code, NBD_CMD_WRITE, 0);
}

static void each_errno_has_its_error(void **state)
{
    (void)state;
    static const struct {
        int code;
        uint32_t error;
    } table[] = {
        {0, NBD_SUCCESS},      {-EPERM, NBD_EPERM},   {-EACCES, NBD_EPERM},
        {-EROFS, NBD_EPERM},   {-EIO, NBD_EIO},       {-EREMOTEIO, NBD_EIO},
        {-ETIMEDOUT, NBD_EIO}, {-ENOMEDIUM, NBD_EIO}, {-EMEDIUMTYPE, NBD_EIO},
        {-ENOMEM, NBD_ENOMEM}, {-EINVAL, NBD_EINVAL}, {-ENOSPC, NBD_ENOSPC},
        {-EFBIG, NBD_ENOSPC},  {-EDQUOT, NBD_ENOSPC}, {-ESHUTDOWN, NBD_ESHUTDOWN},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        assert_int_equal(on_write(table[i].code), table[i].error);
}

static void every_errno_becomes_a_value_the_protocol_knows(void **state)
{
    (void)state;
    for (int code = 0; code >= -4096; code--)
        for (uint16_t command = 0; command < 10; command++)
            for (uint16_t flags = 0; flags < 64; flags++) {
                uint32_t error = nbd_error_from_errno(code, command, flags);
                assert_true(error == NBD_SUCCESS || error == NBD_EPERM || error == NBD_EIO ||
                            error == NBD_ENOMEM || error == NBD_EINVAL || error == NBD_ENOSPC ||
                            error == NBD_EOVERFLOW || error == NBD_ENOTSUP ||
                            error == NBD_ESHUTDOWN);
                assert_int_equal(error == NBD_SUCCESS, code == 0);
            }
}

static void an_unknown_errno_is_einval(void **state)
{
    (void)state;
    assert_int_equal(on_write(-ENOEXEC), NBD_EINVAL);
    assert_int_equal(on_write(-4000), NBD_EINVAL);
}

static void eoverflow_is_only_for_a_read_with_df(void **state)
{
    (void)state;
    assert_int_equal(nbd_error_from_errno(-EOVERFLOW, NBD_CMD_READ, NBD_CMD_FLAG_DF),
                     NBD_EOVERFLOW);
    assert_int_equal(nbd_error_from_errno(-EOVERFLOW, NBD_CMD_READ, 0), NBD_EINVAL);
    assert_int_equal(nbd_error_from_errno(-EOVERFLOW, NBD_CMD_WRITE, NBD_CMD_FLAG_DF), NBD_EINVAL);
}

static void enotsup_is_only_for_write_zeroes_with_fast_zero(void **state)
{
    (void)state;
    assert_int_equal(nbd_error_from_errno(-ENOTSUP, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_FAST_ZERO),
                     NBD_ENOTSUP);
    assert_int_equal(nbd_error_from_errno(-ENOTSUP, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE),
                     NBD_EINVAL);
    assert_int_equal(nbd_error_from_errno(-EOPNOTSUPP, NBD_CMD_TRIM, NBD_CMD_FLAG_FAST_ZERO),
                     NBD_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_errno_has_its_error),
        cmocka_unit_test(every_errno_becomes_a_value_the_protocol_knows),
        cmocka_unit_test(an_unknown_errno_is_einval),
        cmocka_unit_test(eoverflow_is_only_for_a_read_with_df),
        cmocka_unit_test(enotsup_is_only_for_write_zeroes_with_fast_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
