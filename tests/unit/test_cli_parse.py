"""The command line: Go's habits, the texts that callers search for, one table behind all."""

from __future__ import annotations

import pytest

from pyrunc.cli import options, verbs
from pyrunc.cli.parse import defaults, parse_command, parse_global, texts
from pyrunc.errors import UsageError


def given(name: str, *words: str) -> tuple[dict[str, options.Value], list[str]]:
    command = verbs.command(name)
    assert command
    values = defaults((*command.options, options.HELP))
    return values, parse_command(command, words, values)


def globals_of(*words: str) -> tuple[dict[str, options.Value], list[str]]:
    values = defaults(options.GLOBAL)
    return values, parse_global(words, values)


@pytest.mark.parametrize(
    "words",
    [
        ("--bundle", "/b", "id"),
        ("--bundle=/b", "id"),
        ("-bundle", "/b", "id"),
        ("-bundle=/b", "id"),
        ("-b", "/b", "id"),
        ("-b=/b", "id"),
        ("--b", "/b", "id"),
        ("id", "--bundle", "/b"),
        ("--bundle", "/other", "-b", "/b", "id"),
        ("--bundle", "/b", "--", "id"),
    ],
)
def test_every_way_to_give_a_value(words: tuple[str, ...]) -> None:
    values, rest = given("create", *words)
    assert (values["bundle"], rest) == ("/b", ["id"])


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("--no-pivot", True),
        ("-no-pivot", True),
        ("--no-pivot=true", True),
        ("--no-pivot=1", True),
        ("--no-pivot=T", True),
        ("--no-pivot=false", False),
        ("--no-pivot=0", False),
    ],
)
def test_flags(word: str, value: bool) -> None:
    assert given("run", word, "id")[0]["no-pivot"] is value


def test_one_dash_before_a_long_name_as_go_runc_writes_it() -> None:
    assert given("run", "-no-subreaper", "id")[0]["no-subreaper"] is True
    assert globals_of("-systemd-cgroup", "state", "id")[0]["systemd-cgroup"] is True


def test_the_command_line_of_conmon() -> None:
    values, rest = globals_of(
        "--systemd-cgroup", "--log-format=json", "--log=/l", "create", "--bundle", "/b", "x"
    )
    assert values["log"] == "/l" and values["log-format"] == "json"
    assert rest == ["create", "--bundle", "/b", "x"]
    words = "--bundle /b --pid-file /p --no-new-keyring --preserve-fds 2 --console-socket /s 0123abc".split()
    values, rest = given("create", *words)
    assert rest == ["0123abc"]
    assert values["preserve-fds"] == 2 and values["console-socket"] == "/s" and values["pid-file"] == "/p"


def test_a_value_may_begin_with_a_dash_and_hold_an_equals_sign() -> None:
    assert given("create", "--bundle", "-x", "id")[0]["bundle"] == "-x"
    assert given("create", "--bundle=a=b", "id")[0]["bundle"] == "a=b"


def test_words_after_two_dashes_are_no_options() -> None:
    assert given("kill", "id", "--", "-9")[1] == ["id", "-9"]
    assert given("kill", "-", "9")[1] == ["-", "9"]


def test_global_options_end_at_the_command() -> None:
    values, rest = globals_of("--root", "/r", "list", "--debug")
    assert rest == ["list", "--debug"]
    assert values["debug"] is False


@pytest.mark.parametrize(
    ("name", "words", "text"),
    [
        ("create", ("--bundle",), "flag needs an argument: -bundle"),
        ("create", ("-b",), "flag needs an argument: -b"),
        ("create", ("--wrong", "id"), "flag provided but not defined: -wrong"),
        ("create", ("--wrong=x", "id"), "flag provided but not defined: -wrong"),
        ("create", ("---wrong", "id"), "bad flag syntax: ---wrong"),
        ("create", ("--=x", "id"), "bad flag syntax: --=x"),
        ("create", ("--no-pivot=maybe", "id"), 'invalid boolean value "maybe" for -no-pivot: parse error'),
        ("create", ("--preserve-fds", "-1", "id"), 'invalid value "-1" for flag -preserve-fds'),
        ("create", ("--preserve-fds", "²", "id"), 'invalid value "²" for flag -preserve-fds'),
        ("create", ("--preserve-fds", "1_0", "id"), 'invalid value "1_0" for flag -preserve-fds'),
        ("state", (), 'pyrunc: "state" requires exactly 1 argument(s)'),
        ("state", ("a", "b"), 'pyrunc: "state" requires exactly 1 argument(s)'),
        ("kill", (), 'pyrunc: "kill" requires a minimum of 1 argument(s)'),
        ("delete", (), 'pyrunc: "delete" requires a minimum of 1 argument(s)'),
        ("features", ("a",), 'pyrunc: "features" requires exactly 0 argument(s)'),
        ("state", ("--root", "/r", "id"), "write it before the command"),
    ],
)
def test_usage_errors(name: str, words: tuple[str, ...], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        given(name, *words)
    assert text in str(caught.value)


def test_what_was_understood_before_an_error_is_kept_for_the_log() -> None:
    values = defaults(options.GLOBAL)
    with pytest.raises(UsageError):
        parse_global(["--log", "/l", "--wrong"], values)
    assert values["log"] == "/l"


def test_a_list_takes_all_and_another_command_line_is_left_alone() -> None:
    option = options.Option("env", "a variable", "e", "K=V", many=True)
    command = options.Command("x", "", "", 1, 9, (option,), "", lambda *_: 0, everywhere=False)
    values = defaults(command.options) | {"help": False}
    assert parse_command(command, ["-e", "A=1", "--env=B=2", "id", "ls", "-e", "C=3"], values) == [
        "id",
        "ls",
        "-e",
        "C=3",
    ]
    assert texts(values, "env") == ["A=1", "B=2"] and defaults(command.options) == {"env": []}


def test_help_needs_no_words() -> None:
    assert given("state", "--help")[0]["help"] is True
    assert given("state", "-h")[0]["help"] is True


def test_the_table_is_consistent() -> None:
    for table in (options.GLOBAL, *((*command.options, options.HELP) for command in verbs.commands())):
        names = [name for option in table for name in (option.name, option.short) if name]
        assert len(names) == len(set(names))
    assert list(verbs.FAMILIES) == [command.name for command in verbs.commands()]
