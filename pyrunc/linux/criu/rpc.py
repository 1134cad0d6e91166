"""criu's messages: the fields of its rpc.proto that pyrunc uses, by their names there (criu.org "RPC").

`criu swrk` reads one request from a socket that keeps messages apart, sends notifications on its way if asked to, each
of which it wants answered before it goes on, and last a response.
"""

from __future__ import annotations

from pyrunc.linux.criu.wire import INTEGER, TEXT, decode, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Final

    from pyrunc.linux.criu.wire import Shape

#: enum criu_req_type
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10
NAMES: Final = {
    DUMP: "DUMP",
    RESTORE: "RESTORE",
    PRE_DUMP: "PRE_DUMP",
    NOTIFY: "NOTIFY",
    FEATURE_CHECK: "FEATURE_CHECK",
    VERSION: "VERSION",
}

#: enum criu_cg_mode, by the words of --manage-cgroups-mode.
CGROUP_MODES: Final = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
#: enum criu_network_lock_method, by the words of --network-lock.
NETWORK_LOCKS: Final = {"iptables": 1, "nftables": 2, "skip": 3}

_PAIR: Final[Shape] = {"key": (1, TEXT), "val": (2, TEXT)}
_PAGE_SERVER: Final[Shape] = {"address": (1, TEXT), "port": (2, INTEGER)}
_INHERITED: Final[Shape] = {"key": (1, TEXT), "fd": (2, INTEGER)}
_CGROUP_ROOT: Final[Shape] = {"ctrl": (1, TEXT), "path": (2, TEXT)}
_JOINED: Final[Shape] = {"ns": (1, TEXT), "ns_file": (2, TEXT)}

OPTIONS: Final[Shape] = {
    "images_dir_fd": (1, INTEGER),
    "pid": (2, INTEGER),
    "leave_running": (3, INTEGER),
    "ext_unix_sk": (4, INTEGER),
    "tcp_established": (5, INTEGER),
    "shell_job": (7, INTEGER),
    "file_locks": (8, INTEGER),
    "log_level": (9, INTEGER),
    "log_file": (10, TEXT),
    "ps": (11, _PAGE_SERVER),
    "notify_scripts": (12, INTEGER),
    "root": (13, TEXT),
    "parent_img": (14, TEXT),
    "track_mem": (15, INTEGER),
    "auto_dedup": (16, INTEGER),
    "work_dir_fd": (17, INTEGER),
    "link_remap": (18, INTEGER),
    "ext_mnt": (23, _PAIR),
    "manage_cgroups": (24, INTEGER),
    "cg_root": (25, _CGROUP_ROOT),
    "rst_sibling": (26, INTEGER),
    "inherit_fd": (27, _INHERITED),
    "manage_cgroups_mode": (34, INTEGER),
    "external": (37, TEXT),
    "empty_ns": (38, INTEGER),
    "join_ns": (39, _JOINED),
    "freeze_cgroup": (44, TEXT),
    "tcp_skip_in_flight": (46, INTEGER),
    "lazy_pages": (48, INTEGER),
    "orphan_pts_master": (50, INTEGER),
    "config_file": (51, TEXT),
    "tcp_close": (52, INTEGER),
    "lsm_profile": (53, TEXT),
    "lsm_mount_context": (63, TEXT),
    "network_lock": (64, INTEGER),
    "mntns_compat_mode": (65, INTEGER),
}
_FEATURES: Final[Shape] = {"mem_track": (1, INTEGER), "lazy_pages": (2, INTEGER)}
_REQUEST: Final[Shape] = {
    "type": (1, INTEGER),
    "opts": (2, OPTIONS),
    "notify_success": (3, INTEGER),
    "keep_open": (4, INTEGER),
    "features": (5, _FEATURES),
}
_RESPONSE: Final[Shape] = {
    "type": (1, INTEGER),
    "success": (2, INTEGER),
    "restore": (4, {"pid": (1, INTEGER)}),
    "notify": (5, {"script": (1, TEXT), "pid": (2, INTEGER)}),
    "cr_errno": (7, INTEGER),
    "features": (8, _FEATURES),
    "version": (10, {"major_number": (1, INTEGER), "minor_number": (2, INTEGER)}),
}


def request(kind: int, **fields: Any) -> bytes:
    """A criu_req."""
    return encode(_REQUEST, {"type": kind, **fields})


def response(raw: bytes) -> Mapping[str, Any]:
    """The criu_resp in `raw`. Raises PyruncError."""
    return decode(_RESPONSE, raw)
