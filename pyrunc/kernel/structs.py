"""Sizes of the kernel's structures, and where in them what we ask for is: bytes, on every 64-bit machine.

tests/unit/test_constants.py compares them with the headers.
"""

# struct open_how of openat2(2), struct mount_attr of mount_setattr(2), struct clone_args of clone3(2)
OPEN_HOW_SIZE = 24
MOUNT_ATTR_SIZE = 32
CLONE_ARGS_SIZE = 88

# struct statx of statx(2), which unlike struct stat is the same everywhere; RDEV is the major number, the minor follows
STATX_SIZE = 256
STATX_AT_ATTRIBUTES = 8
STATX_AT_UID = 20
STATX_AT_MODE = 28
STATX_AT_INO = 32
STATX_AT_SIZE = 40
STATX_AT_RDEV = 128
STATX_AT_MNT_ID = 144

# struct statfs of fstatfs(2)
STATFS_SIZE = 120
STATFS_AT_TYPE = 0
STATFS_AT_FLAGS = 80
