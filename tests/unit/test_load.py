"""Reading a bundle's configuration: strict JSON, strict UTF-8, clear errors, no crash."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyrunc.config import load as module
from pyrunc.config.load import SIZE_LIMIT, load, load_json
from pyrunc.errors import KernelError, PyruncError, Rejected

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(params=["C scanner", "json"])
def scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read: with the accelerator, and without."""
    if request.param == "json":
        monkeypatch.setattr(module, "_json", None)


def refusal(raw: bytes) -> str:
    with pytest.raises(Rejected) as caught:
        load_json(raw, "config.json")
    text = str(caught.value)
    assert "\n" not in text
    return text.removeprefix("invalid config.json: ")


# -- a bundle ------------------------------------------------------------------------------------------


def test_a_bundle(tmp_path: Path) -> None:
    raw = b' {"ociVersion": "1.0.0", "root": {"path": "rootfs"}}\n'
    (tmp_path / "config.json").write_bytes(raw)
    loaded = load(str(tmp_path))
    assert loaded.bundle == os.path.realpath(tmp_path)
    assert loaded.config == {"ociVersion": "1.0.0", "root": {"path": "rootfs"}}
    assert loaded.raw == raw


def test_the_bundle_is_named_by_its_real_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "other.json").write_text("{}")
    (tmp_path / "link").symlink_to("b")
    monkeypatch.chdir(tmp_path)
    assert load("link", "other.json").bundle == os.path.realpath(tmp_path / "b")
    monkeypatch.chdir(tmp_path / "b")
    assert load(".", "other.json").bundle == os.path.realpath(tmp_path / "b")


def test_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match=r"open bundle .*/none: no such file or directory"):
        load(str(tmp_path / "none"))
    (tmp_path / "file").touch()
    with pytest.raises(KernelError, match="not a directory"):
        load(str(tmp_path / "file"))


def test_no_config(tmp_path: Path) -> None:
    with pytest.raises(PyruncError, match=r"^JSON specification file config\.json not found"):
        load(str(tmp_path))
    with pytest.raises(PyruncError, match=r"^JSON specification file x\.json not found"):
        load(str(tmp_path), "x.json")


def test_a_bundle_whose_name_is_not_utf8(tmp_path: Path) -> None:
    bundle = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(bundle)
    with pytest.raises(PyruncError, match="not UTF-8"):
        load(os.fsdecode(bundle))


def test_a_config_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "/dev/zero", "."):
        with pytest.raises(PyruncError, match="not a regular file"):
            load(str(tmp_path), name)


def test_too_large(tmp_path: Path) -> None:
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(PyruncError, match="larger than 16 MiB"):
        load(str(tmp_path))
    (tmp_path / "config.json").write_bytes(b"{}" + b" " * (SIZE_LIMIT - 2))
    assert str(load(str(tmp_path)).config) == "{}"


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    (tmp_path / "config.json").write_text("{")
    for name in ("config.json", "none", "/dev/zero"):
        with pytest.raises(PyruncError):
            load(str(tmp_path), name)
    assert os.listdir("/proc/self/fd") == before


# -- JSON ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize(
    "text",
    [
        "{}",
        " [1, -2, 3.5, 1e3, true, false, null] ",
        '"a\\u00e9\\n\\ud83d\\ude00\\\\ud800"',
        '"\\ud000\\ud7ff\\uD55c\\uae00"',
        "0",
        '{"a": {"a": 1}}',
    ],
)
def test_good_json(text: str) -> None:
    value = load_json(text.encode(), "x")
    assert value == json.loads(text)
    assert repr(value) == repr(json.loads(text))


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "line 1, column 1: expecting value"),
        (b"  ", "expecting value"),
        (b"{]", "line 1, column 2: expecting property name enclosed in double quotes"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6: expecting ':' delimiter"),
        (b"{} x", "line 1, column 4: extra data"),
        (b"{'a': 1}", "line 1, column 2: expecting property name"),
        (b'{"a": 1,}', "column"),
        (b"// no\n{}", "line 1, column 1: expecting value"),
        (b'{"a', "unterminated string"),
        (b'{"a": "\n"}', "line 1, column 8: invalid control character"),
        (b'{"a": "\0"}', "invalid control character"),
        (b'"\\x"', "invalid \\escape"),
        (b"[NaN]", "NaN is not JSON"),
        (b"[Infinity]", "Infinity is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b"\xef\xbb\xbf{}", "starts with a byte order mark"),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "byte 7 is not UTF-8"),
        (b'{"a": "\xc0\xaf"}', "byte 7 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b'[\n"\\ud800"]', "line 2, column 2: \\ud800 is half a character"),
        (b'"\\uDC80"', "line 1, column 2: \\uDC80 is half a character"),
        (b'"\\ud800\\ud800"', "half a character"),
        (b'"\\ud83d\\ude00\\ude00"', "column 14: \\ude00 is half a character"),
        (b'"\\ud800\\udc', "invalid \\uxxxx escape"),
        (b'"\\ud800\\ud', "invalid \\uxxxx escape"),
        (b'"\\ud8', "\\ud8 is half a character"),
        (b"9" * 5000, "holds a number of thousands of digits"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"a":' * 100_000, "is nested too deeply"),
        (b"[" * 100_000 + b"]" * 100_000, "is nested too deeply"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_bad_json(raw: bytes, words: str) -> None:
    assert words.lower() in refusal(raw).lower()


@pytest.mark.usefixtures("scanner")
def test_names_given_twice_are_named_with_their_path() -> None:
    raw = b'{"a": 1, "linux": {"namespaces": [{}, {"type": "pid", "type": "pid"}]}, "a": 1, "a.b": 0, "a.b": 0, "a": 2}'
    assert refusal(raw) == (
        'a: is given more than once; ["a.b"]: is given more than once; '
        "linux.namespaces[1].type: is given more than once"
    )


def test_a_name_written_in_two_ways_is_one_name() -> None:
    assert "a: is given more than once" in refusal(b'{"a": 1, "\\u0061": 2}')


def test_a_hostile_number_of_duplicates_stays_readable() -> None:
    raw = b"{" + b",".join(b'"%d":0,"%d":1' % (i, i) for i in range(100_000)) + b"}"
    assert len(refusal(raw)) < 20_000_000


def test_reading_does_not_import_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"ociVersion": "1.0.0"}')
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from pyrunc.config.load import load; load(sys.argv[2]);"
        "print(*[name for name in ('json', 're', 'typing', 'enum') if name in sys.modules])"
    )
    words = [sys.executable, "-I", "-S", "-c", code, str(REPOSITORY), str(tmp_path)]
    assert subprocess.run(words, capture_output=True, check=True, text=True).stdout.split() == []
