"""The wire format of criu's messages: the examples of protobuf.dev "Encoding", there and back, and damaged ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrunc.errors import PyruncError
from pyrunc.linux.criu import rpc
from pyrunc.linux.criu.wire import INTEGER, TEXT, decode, encode

if TYPE_CHECKING:
    from pyrunc.linux.criu.wire import Shape

SHAPE: Shape = {
    "a": (1, INTEGER),
    "b": (2, TEXT),
    "c": (3, {"a": (1, INTEGER), "d": (4, TEXT)}),
    "far": (536870911, INTEGER),
}


@pytest.mark.parametrize(
    ("message", "raw"),
    [
        ({}, ""),
        ({"a": 0}, "0800"),
        ({"a": 150}, "089601"),
        ({"a": -2}, "08feffffffffffffffff01"),
        ({"a": True}, "0801"),
        ({"b": "testing"}, "120774657374696e67"),
        ({"b": ""}, "1200"),
        ({"c": {"a": 150}}, "1a03089601"),
        ({"a": None, "b": "é"}, "1202c3a9"),
        ({"a": [1, 2]}, "08010802"),
        ({"c": [{"a": 1}, {}]}, "1a0208011a00"),
        ({"far": 1}, "f8ffffff0f01"),
    ],
)
def test_bytes(message: dict[str, Any], raw: str) -> None:
    assert encode(SHAPE, message).hex() == raw


_MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(-(1 << 63), (1 << 63) - 1),
        "b": st.text() | st.just("\udcff"),
        "c": st.fixed_dictionaries({}, optional={"a": st.integers(0, 9), "d": st.text()}),
        "far": st.integers(-(1 << 31), (1 << 31) - 1),
    },
)


@given(_MESSAGES)
def test_there_and_back(message: dict[str, Any]) -> None:
    assert decode(SHAPE, encode(SHAPE, message)) == message


def test_what_is_not_known_is_skipped() -> None:
    """A newer criu may say more: of every wire type."""
    raw = bytes.fromhex("200129010203040506070832036162633d01020304089601")
    assert decode(SHAPE, raw) == {"a": 150}


def test_of_a_field_given_twice_the_last_counts() -> None:
    assert decode(SHAPE, bytes.fromhex("08010802")) == {"a": 2}


@pytest.mark.parametrize(
    "raw",
    [
        "08",
        "0880",
        "12",
        "1205616263",
        "1a0208",
        "0b",
        "0f",
        "08" + "ff" * 10,
        "0a0161",
        "1001",
        "1a05ff",
        "2101",
    ],
)
def test_damaged(raw: str) -> None:
    with pytest.raises(PyruncError, match="no message"):
        decode(SHAPE, bytes.fromhex(raw))


@given(st.binary(max_size=64))
def test_anything_is_a_message_or_an_error(raw: bytes) -> None:
    try:
        rpc.response(raw)
    except PyruncError:
        pass


#: Of criu's rpc.proto (4.1): each message, and what of it is sent or read here, as "name number type".
PROTOCOL = {
    "criu_page_server_info": "address 1 string, port 2 int32",
    "ext_mount_map": "key 1 string, val 2 string",
    "join_namespace": "ns 1 string, ns_file 2 string",
    "inherit_fd": "key 1 string, fd 2 int32",
    "cgroup_root": "ctrl 1 string, path 2 string",
    "criu_opts": """
        images_dir_fd 1 int32, pid 2 int32, leave_running 3 bool, ext_unix_sk 4 bool, tcp_established 5 bool,
        shell_job 7 bool, file_locks 8 bool, log_level 9 int32, log_file 10 string, ps 11 criu_page_server_info,
        notify_scripts 12 bool, root 13 string, parent_img 14 string, track_mem 15 bool, auto_dedup 16 bool,
        work_dir_fd 17 int32, link_remap 18 bool, ext_mnt 23 ext_mount_map, manage_cgroups 24 bool,
        cg_root 25 cgroup_root, rst_sibling 26 bool, inherit_fd 27 inherit_fd, manage_cgroups_mode 34 criu_cg_mode,
        external 37 string, empty_ns 38 uint32, join_ns 39 join_namespace, freeze_cgroup 44 string,
        tcp_skip_in_flight 46 bool, lazy_pages 48 bool, orphan_pts_master 50 bool, config_file 51 string,
        tcp_close 52 bool, lsm_profile 53 string, lsm_mount_context 63 string,
        network_lock 64 criu_network_lock_method, mntns_compat_mode 65 bool
    """,
    "criu_restore_resp": "pid 1 int32",
    "criu_notify": "script 1 string, pid 2 int32",
    "criu_features": "mem_track 1 bool, lazy_pages 2 bool",
    "criu_version": "major_number 1 int32, minor_number 2 int32",
    "criu_req": """
        type 1 criu_req_type, opts 2 criu_opts, notify_success 3 bool, keep_open 4 bool, features 5 criu_features
    """,
    "criu_resp": """
        type 1 criu_req_type, success 2 bool, restore 4 criu_restore_resp, notify 5 criu_notify, cr_errno 7 int32,
        features 8 criu_features, version 10 criu_version
    """,
}
INTEGERS = ("bool", "int32", "uint32", "criu_cg_mode", "criu_network_lock_method", "criu_req_type")


def shape_of(message: str) -> Shape:
    fields: dict[str, tuple[int, Any]] = {}
    for field in PROTOCOL[message].split(","):
        name, number, kind = field.split()
        fields[name] = (
            int(number),
            TEXT if kind == "string" else INTEGER if kind in INTEGERS else shape_of(kind),
        )
    return fields


def test_the_numbers_of_the_options() -> None:
    """criu skips a number that it does not know, and takes another's for that: neither says anything."""
    assert shape_of("criu_opts") == rpc.OPTIONS


def test_the_numbers_of_requests_and_responses() -> None:
    assert shape_of("criu_req") == rpc._REQUEST
    assert shape_of("criu_resp") == rpc._RESPONSE


def test_the_numbers_of_words() -> None:
    """enum criu_req_type, criu_cg_mode and criu_network_lock_method."""
    assert {name: number for number, name in rpc.NAMES.items()} == {
        "DUMP": 1, "RESTORE": 2, "PRE_DUMP": 4, "NOTIFY": 6, "FEATURE_CHECK": 9, "VERSION": 10,
    }  # fmt: skip
    assert rpc.CGROUP_MODES == {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
    assert rpc.NETWORK_LOCKS == {"iptables": 1, "nftables": 2, "skip": 3}


def test_a_field_that_no_message_has() -> None:
    with pytest.raises(KeyError):
        rpc.request(rpc.DUMP, opts={"pidd": 1})


def test_a_request() -> None:
    """What criu's own rpc.proto makes of it: type 1 in field 1; in field 2 pid 7 (field 2) and a mount (field 23)."""
    raw = rpc.request(rpc.DUMP, opts={"pid": 7, "ext_mnt": [{"key": "/k", "val": "/v"}], "ps": None})
    assert raw.hex() == "0801120d1007ba01080a022f6b12022f76"
