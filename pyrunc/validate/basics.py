"""Rules that belong to no room: the version, that there is a process, and the annotations with a meaning."""

from __future__ import annotations

from pyrunc.config.annotations import check as check_annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.config.spec import Config
    from pyrunc.plan.host import Host
    from pyrunc.validate.report import Report

DIGITS = frozenset("0123456789")
WORD = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-")


def check(config: Config, host: Host, report: Report) -> None:
    """Report an unknown version, a missing process, and annotations that cannot be carried out."""
    _check_version(config["ociVersion"], report)
    check_annotations(config, report)
    if config.get("process") is None:
        report.error("process", "is missing", "name the program to run; pyrunc resolves it when it creates")


def _check_version(version: str, report: Report) -> None:
    """A configuration for 1.x runs on every runtime for 1.x (spec.md, config.md "Specification version")."""
    major = version_major(version)
    if major is None:
        text = version if len(version) <= 40 else version[:39] + "…"
        report.error("ociVersion", f"is no semantic version: {text!r}", 'write a version such as "1.3.0"')
    elif major != "1":
        report.error(
            "ociVersion",
            f"version {version[:40]} of the OCI runtime specification is not supported",
            "pyrunc carries out every 1.x",
        )


def version_major(version: str) -> str | None:
    """The major number of a semantic version 2.0.0, None if `version` is none (semver.org, items 2, 9, 10)."""
    rest, plus, build = version.partition("+")
    core, dash, before = rest.partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or not all(map(_is_number, numbers)):
        return None
    if dash and not all(_is_word(part) and _has_no_extra_zero(part) for part in before.split(".")):
        return None
    if plus and not all(map(_is_word, build.split("."))):
        return None
    return numbers[0]


def _is_number(text: str) -> bool:
    return text != "" and DIGITS.issuperset(text) and _has_no_extra_zero(text)


def _is_word(text: str) -> bool:
    return text != "" and WORD.issuperset(text)


def _has_no_extra_zero(text: str) -> bool:
    return len(text) == 1 or text[0] != "0" or not DIGITS.issuperset(text)
