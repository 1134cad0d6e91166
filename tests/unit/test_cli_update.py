"""The options of `update`: what they say of linux.resources, and numbers that are none."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.cli.parse import defaults, parse_command
from pyrunc.cli.verbs import command
from pyrunc.cli.verbs.update import _from_options, _size
from pyrunc.errors import UsageError
from pyrunc.log import Log


def resources(*words: str) -> dict[str, Any]:
    update = command("update")
    assert update
    values = defaults((*update.options,)) | {"help": False}
    parse_command(update, [*words, "box"], values)
    return _from_options(values, Log())


def test_every_option() -> None:
    words = (
        "--blkio-weight 100 --cpu-period 1 --cpu-quota -1 --cpu-burst 0 --cpu-share 4 --cpu-rt-period 5 "
        "--cpu-rt-runtime 6 --cpu-idle 0 --cpuset-cpus 0-1 --cpuset-mems 0 --memory 1g "
        "--memory-reservation 2M --memory-swap -1 --pids-limit 0"
    )
    assert resources(*words.split()) == {
        "blockIO": {"weight": 100},
        "cpu": {
            "period": 1,
            "quota": -1,
            "burst": 0,
            "shares": 4,
            "realtimePeriod": 5,
            "realtimeRuntime": 6,
            "idle": 0,
            "cpus": "0-1",
            "mems": "0",
        },
        "memory": {"limit": 1 << 30, "reservation": 2 << 20, "swap": -1},
        "pids": {"limit": 0},
    }
    assert resources() == {}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("-1", -1),
        ("0", 0),
        ("5", 5),
        ("5b", 5),
        ("5 b", 5),
        ("5k", 5 << 10),
        ("5K", 5 << 10),
        ("5kb", 5 << 10),
        ("5KiB", 5 << 10),
        ("5 m", 5 << 20),
        ("1.5g", 3 << 29),
        ("0.1k", 102),
        ("2T", 2 << 40),
        ("1p", 1 << 50),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert _size("memory", text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-2",
        "x",
        "5x",
        "m",
        "5 5",
        " 5",
        "5 ",
        "5  m",
        "5m ",
        "1.",
        ".5",
        "5i",
        "5ib",
        "1e3",
        "٣",
        "9" * 30,
    ],
)
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match="invalid value for memory"):
        _size("memory", text)


@pytest.mark.parametrize("text", ["x", "5k", "0x5", "1.5", "--5", "9" * 30])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(UsageError, match="invalid value for cpu-quota"):
        resources("--cpu-quota", text)
