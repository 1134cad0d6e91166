"""The manual pages are those of the tables, and roff that man can read."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pyrunc.cli import man, verbs
from tests.support.payload import REPOSITORY


def test_the_pages_in_the_tree_are_up_to_date() -> None:
    folder = REPOSITORY / "docs" / "man"
    assert {path.name: path.read_text() for path in folder.glob("*.8")} == man.pages(), (
        "run: python -m pyrunc.cli.man docs/man"
    )


def test_every_option_and_command_has_its_place() -> None:
    pages = man.pages()
    for command in verbs.commands():
        text = pages[f"pyrunc-{command.name}.8"].replace("\\-", "-")
        for option in command.options:
            assert (f"--{option.name}" in text) is not option.hidden


def test_no_text_becomes_a_request() -> None:
    assert man.escape(".x \\ --a") == "\\&.x \\e \\-\\-a"
    for text in man.pages().values():
        for line in text.splitlines():
            assert not line.startswith("'")
            assert not line.startswith(".") or line.split()[0] in (".TH", ".SH", ".TP", ".PP", ".BR")


@pytest.mark.skipif(not shutil.which("groff"), reason="groff is not installed")
def test_groff_has_no_complaint() -> None:
    for text in man.pages().values():
        done = subprocess.run(
            ["groff", "-man", "-ww", "-Tutf8", "-z"], input=text, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
