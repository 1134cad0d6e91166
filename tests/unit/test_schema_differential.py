"""Three judges, one verdict: specs/ by jsonschema, the compiled check, and the official schemas of runtime-spec 1.3.0.

Where ours is stricter or laxer on purpose, the difference is a row of `STRICTER` or `LAXER` with its reason; every row
is shown to be needed, and no other difference is allowed.
"""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from jsonschema import Draft4Validator, Draft202012Validator
from jsonschema.validators import extend
from referencing import Registry
from referencing.jsonschema import DRAFT4

from pyrunc.config.example import example
from pyrunc.config.load import load_json
from pyrunc.errors import Rejected
from pyrunc.validate import _schema
from pyrunc.validate._accept import accept
from pyrunc.validate.compile import ROOTS, bundle
from pyrunc.validate.explain import Validator, path_of, problems

REPOSITORY = Path(__file__).parents[2]
OFFICIAL = REPOSITORY.parent / "shared" / "reference" / "runtime-spec-schema"
CONFIGS = {
    path.stem: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((REPOSITORY / "tests" / "data" / "configs").glob("*.json"))
}
MUTATIONS = 6000

needs_official = pytest.mark.skipif(
    not OFFICIAL.is_dir(), reason="this host has no official schemas beside the repository (../shared)"
)


class Difference(NamedTuple):
    """Our verdict differs at `path` (a regular expression) for `keyword`; `at` and `value` make an example."""

    path: str
    keyword: str
    at: tuple[str | int, ...]
    value: Any
    reason: str


GONE = object()
NO_ID = 2**32 - 1
UNITS = "cannot be applied, and an invalid value must be an error (spec.md)"

STRICTER = [
    Difference("root", "required", ("root",), GONE, "config.md: required on all platforms but Hyper-V"),
    Difference(r"root\.path", "pattern", ("root", "path"), "", "config.md: a directory must exist there"),
    Difference(
        r"process\.args", "required", ("process", "args"), GONE, "config.md: optional on Windows only"
    ),
    Difference(r"process\.args", "minItems", ("process", "args"), [], "config.md: at least one entry"),
    Difference(r"process\.cwd", "pattern", ("process", "cwd"), "tmp", "config.md: must be an absolute path"),
    Difference(
        r"process\.env\[\]", "pattern", ("process", "env", 0), "A", "config.md: as environ, NAME=value"
    ),
    Difference(r"process\.user\.uid", "maximum", ("process", "user", "uid"), NO_ID, "(uid_t)-1 is no id"),
    Difference(r"process\.user\.gid", "maximum", ("process", "user", "gid"), NO_ID, "(gid_t)-1 is no id"),
    Difference(
        r"process\.user\.additionalGids\[\]",
        "maximum",
        ("process", "user", "additionalGids", 0),
        NO_ID,
        "(gid_t)-1 is no id",
    ),
    Difference(
        r"process\.user\.umask", "maximum", ("process", "user", "umask"), 0o1000, f"umask(2): {UNITS}"
    ),
    Difference(
        r"process\.rlimits\[\]\.type",
        "enum",
        ("process", "rlimits", 0, "type"),
        "RLIMIT_SLEEP",
        "config.md: a value without kernel interface must be an error",
    ),
    Difference(r"process\.oomScoreAdj", "minimum", ("process", "oomScoreAdj"), -1001, f"proc(5): {UNITS}"),
    Difference(r"process\.oomScoreAdj", "maximum", ("process", "oomScoreAdj"), 1001, f"proc(5): {UNITS}"),
    Difference(
        r"process\.ioPriority\.priority",
        "required",
        ("process", "ioPriority", "priority"),
        GONE,
        "config.md: required",
    ),
    Difference(
        r"process\.ioPriority\.priority",
        "minimum",
        ("process", "ioPriority", "priority"),
        -1,
        "config.md: 0 to 7",
    ),
    Difference(
        r"process\.ioPriority\.priority",
        "maximum",
        ("process", "ioPriority", "priority"),
        8,
        "config.md: 0 to 7",
    ),
    Difference(r"mounts\[\]\.destination", "pattern", ("mounts", 0, "destination"), "", "config.md: a path"),
    Difference(
        r"hooks\.\w+\[\]\.path",
        "pattern",
        ("hooks", "poststop", 0, "path"),
        "true",
        "config.md: must be absolute",
    ),
    Difference(
        r"hooks\.\w+\[\]\.env\[\]",
        "pattern",
        ("hooks", "poststop", 0, "env", 0),
        "=v",
        "config.md: as environ",
    ),
    Difference(
        r"hooks\.\w+\[\]\.timeout", "maximum", ("hooks", "poststop", 0, "timeout"), 2**63, "config.md: an int"
    ),
    Difference(
        "annotations", "propertyNames", ("annotations", ""), "x", "config.md: a key must not be empty"
    ),
    Difference(
        r"linux\.sysctl", "propertyNames", ("linux", "sysctl", ""), "x", f"no such parameter: {UNITS}"
    ),
    Difference(
        r"linux\.resources\.unified",
        "propertyNames",
        ("linux", "resources", "unified", ""),
        "1",
        "a file name",
    ),
    Difference(
        r"linux\.namespaces\[\]\.path",
        "pattern",
        ("linux", "namespaces", 7, "path"),
        "ns/time",
        "must be absolute",
    ),
    Difference(r"linux\.devices\[\]\.path", "pattern", ("linux", "devices", 1, "path"), "vda", "a full path"),
    Difference(
        r"linux\.devices\[\]\.major", "required", ("linux", "devices", 1, "major"), GONE, "unless a FIFO"
    ),
    Difference(
        r"linux\.devices\[\]\.minor", "required", ("linux", "devices", 1, "minor"), GONE, "unless a FIFO"
    ),
    Difference(
        r"linux\.devices\[\]\.uid", "maximum", ("linux", "devices", 0, "uid"), NO_ID, "-1 keeps the owner"
    ),
    Difference(
        r"linux\.devices\[\]\.gid", "maximum", ("linux", "devices", 0, "gid"), NO_ID, "-1 keeps the group"
    ),
    Difference(r"linux\.maskedPaths\[\]", "pattern", ("linux", "maskedPaths", 0), "proc", "must be absolute"),
    Difference(
        r"linux\.readonlyPaths\[\]", "pattern", ("linux", "readonlyPaths", 0), "proc", "must be absolute"
    ),
    Difference(
        r"linux\.resources\.devices\[\]\.type",
        "enum",
        ("linux", "resources", "devices", 0, "type"),
        "u",
        "a, b or c",
    ),
    Difference(
        r"linux\.resources\.devices\[\]\.access",
        "pattern",
        ("linux", "resources", "devices", 1, "access"),
        "rx",
        "made of r, w, m",
    ),
    Difference(
        r"linux\.resources\.memory\.swappiness",
        "maximum",
        ("linux", "resources", "memory", "swappiness"),
        101,
        "config-linux.md: 0 to 100",
    ),
    Difference(
        r"linux\.seccomp\.listenerPath",
        "dependentRequired",
        ("linux", "seccomp", "listenerPath"),
        GONE,
        "config-linux.md: listenerMetadata must not be set without it",
    ),
    Difference(
        r"linux\.seccomp\.syscalls\[\]\.args\[\]\.index",
        "maximum",
        ("linux", "seccomp", "syscalls", 0, "args", 0, "index"),
        6,
        f"a system call has six arguments: {UNITS}",
    ),
    Difference(
        r"linux\.memoryPolicy\.mode",
        "required",
        ("linux", "memoryPolicy", "mode"),
        GONE,
        "config-linux.md: required",
    ),
    Difference(
        r"linux\.personality\.domain",
        "required",
        ("linux", "personality", "domain"),
        GONE,
        "config-linux.md: required",
    ),
    # Any string on its way to the kernel; also a name of an object, such as a sysctl.
    Difference(
        ".*", "NUL", ("process", "args", 0), "sh\0-c", f"the kernel would see less than was written: {UNITS}"
    ),
]
LAXER = [
    Difference(
        r"linux\.devices\[\]\.fileMode",
        "maximum",
        ("linux", "devices", 0, "fileMode"),
        0o2660,
        "config-linux.md: a uint32; engines pass a host device's set-group-id and sticky bits on, runc takes them",
    ),
    Difference(
        r"linux\.rootfsPropagation",
        "enum",
        ("linux", "rootfsPropagation"),
        "rslave",
        "docker writes the recursive forms, runc and crun take them",
    ),
]
#: Official examples whose official verdict is not ours.
OTHER_EXAMPLES = {
    "freebsd-vnet-disable.json": "settings for FreeBSD have no meaning here and are ignored like unknown properties",
}


def official_validator(name: str) -> Any:
    """A validator for the official schema `name`."""

    def retrieve(uri: str) -> Any:
        path = OFFICIAL / uri
        if path.exists():
            return DRAFT4.create_resource(json.loads(path.read_text(encoding="utf-8")))
        # Other platforms' schemas are not part of the reference: all that matters here is that they are objects.
        platform = re.fullmatch(r"config-(\w+)\.json", uri)
        assert platform, uri
        return DRAFT4.create_resource({platform[1]: {"type": "object"}})

    def pattern(_: Any, wanted: str, value: Any, __: Any) -> Any:
        # In ECMA 262 `$` is the very end; in Python also before a last newline.
        if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", wanted), value):
            from jsonschema import ValidationError

            yield ValidationError(f"{value!r} does not match {wanted!r}")

    schema = json.loads((OFFICIAL / name).read_text(encoding="utf-8"))
    registry: Registry[Any] = Registry(retrieve=retrieve)  # type: ignore[call-arg]
    return extend(Draft4Validator, {"pattern": pattern})(schema, registry=registry)  # type: ignore[no-untyped-call]


def places(validator: Any, config: Any) -> set[tuple[str, str, Any]]:
    """Each broken rule as (path without indices, keyword, bad value as text)."""
    found = set()
    errors = list(validator.iter_errors(config))
    while errors:
        error = errors.pop()
        if error.validator == "anyOf":  # the official schema has one, with one branch
            errors += error.context
            continue
        path = re.sub(r"\[\d+\]", "[]", path_of(error))
        keyword = error.validator
        names: list[str] = [""]
        if path.endswith('[""]'):  # the official schema does not look at the value of an empty name
            path = path.removesuffix('[""]')
            keyword = "propertyNames"
        if "propertyNames" in error.absolute_schema_path:
            keyword = "propertyNames"
        elif keyword == "required":
            names = [name for name in error.validator_value if name not in error.instance]
        elif keyword == "dependentRequired":
            names = [other for others in error.validator_value.values() for other in others]
        if (
            isinstance(error.instance, str)
            and "\0" in error.instance
            and keyword in ("pattern", "propertyNames")
        ):
            keyword = "NUL"
        for name in names:
            found.add((f"{path}.{name}".strip(".") if name else path, keyword, repr(error.instance)[:80]))
    return found


def undeliberate(
    found: set[tuple[str, str, Any]], differences: list[Difference]
) -> set[tuple[str, str, Any]]:
    return {
        place
        for place in found
        if not any(place[1] == row.keyword and re.fullmatch(row.path, place[0]) for row in differences)
    }


OURS = Validator(_schema.CONFIG)


def changed(config: Any, at: tuple[str | int, ...], value: Any) -> Any:
    config = copy.deepcopy(config)
    node = config
    for key in at[:-1]:
        node = node[key]
    if value is GONE:
        del node[at[-1]]
    else:
        node[at[-1]] = value
    return config


# -- the schemas themselves ----------------------------------------------------------------------------


@pytest.mark.parametrize("constant", ROOTS)
def test_a_schema_is_a_valid_schema_and_the_built_one_is_up_to_date(constant: str) -> None:
    schema = bundle(ROOTS[constant])
    Draft202012Validator.check_schema(schema)
    assert getattr(_schema, constant) == schema, "specs/ changed: build again"


def properties_of(schema: Any) -> list[tuple[str, Any]]:
    found = []
    if isinstance(schema, dict):
        found += (
            list(schema.get("properties", {}).items()) if isinstance(schema.get("properties"), dict) else []
        )
        found += [pair for value in schema.values() for pair in properties_of(value)]
    elif isinstance(schema, list):
        found += [pair for value in schema for pair in properties_of(value)]
    return found


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "specs").glob("*.schema.json")), ids=lambda path: path.name
)
def test_every_property_is_described(path: Path) -> None:
    for name, schema in properties_of(json.loads(path.read_text(encoding="utf-8"))):
        # `if` compares a property that is described elsewhere.
        assert "description" in schema or set(schema) <= {"const", "enum"}, name


# -- examples ------------------------------------------------------------------------------------------


def official_examples(kind: str, verdict: str) -> list[Any]:
    folder = OFFICIAL / "test" / kind / verdict
    return [pytest.param(path, id=path.name) for path in sorted(folder.glob("*.json"))]


@needs_official
@pytest.mark.parametrize("path", official_examples("config", "good"))
def test_official_good_configs_are_good(path: Path) -> None:
    config = load_json(path.read_bytes(), path.name)
    assert accept(config), problems(config)
    assert problems(config) == []


@needs_official
@pytest.mark.parametrize("path", official_examples("config", "bad"))
def test_official_bad_configs_are_bad_or_their_verdict_has_a_reason(path: Path) -> None:
    try:
        config = load_json(path.read_bytes(), path.name)
    except Rejected:
        return
    assert accept(config) == (problems(config) == []) == (path.name in OTHER_EXAMPLES)


@needs_official
@pytest.mark.parametrize("verdict", ["good", "bad"])
@pytest.mark.parametrize("kind", ["state", "features"])
def test_official_state_and_features_examples(kind: str, verdict: str) -> None:
    schema = getattr(_schema, kind.upper())
    for parameters in official_examples(kind, verdict):
        path = parameters.values[0]
        try:
            value = load_json(path.read_bytes(), path.name)
        except Rejected:
            assert verdict == "bad"
            continue
        assert (problems(value, schema) == []) == (verdict == "good"), path.name


@needs_official
@pytest.mark.parametrize("rootless", [False, True])
@pytest.mark.parametrize("cgroup_v2", [False, True])
def test_our_example_is_good(rootless: bool, cgroup_v2: bool) -> None:
    config = example(rootless, 1000, 1000, cgroup_v2)
    assert accept(config)
    assert problems(config) == []
    assert list(official_validator("config-schema.json").iter_errors(config)) == []


@pytest.mark.parametrize("name", CONFIGS)
def test_real_configs_are_good(name: str) -> None:
    assert problems(CONFIGS[name]) == []
    assert accept(CONFIGS[name])


@needs_official
def test_the_everything_config_names_every_official_property() -> None:
    """So that mutations reach every rule."""

    def names(schema: Any) -> set[str]:
        return {name for name, _ in properties_of(schema)}

    def used(value: Any) -> set[str]:
        if isinstance(value, dict):
            return set(value) | {name for below in value.values() for name in used(below)}
        return {name for below in value for name in used(below)} if isinstance(value, list) else set()

    wanted: set[str] = set()
    for file in ("config-schema.json", "config-linux.json", "defs.json", "defs-linux.json"):
        wanted |= names(json.loads((OFFICIAL / file).read_text(encoding="utf-8")))
    assert wanted <= used(CONFIGS["everything"])


# -- deliberate differences ----------------------------------------------------------------------------


@needs_official
@pytest.mark.parametrize("row", STRICTER, ids=lambda row: f"{row.keyword}:{'.'.join(map(str, row.at))}")
def test_each_strictness_is_real(row: Difference) -> None:
    config = changed(CONFIGS["everything"], row.at, row.value)
    found = places(OURS, config)
    assert found, "ours accepts it"
    assert undeliberate(found, [row]) == set()
    assert not accept(config)
    assert places(official_validator("config-schema.json"), config) == set(), (
        "the official schema refuses it too"
    )


@needs_official
@pytest.mark.parametrize("row", LAXER, ids=lambda row: ".".join(map(str, row.at)))
def test_each_laxness_is_real(row: Difference) -> None:
    config = changed(CONFIGS["everything"], row.at, row.value)
    assert accept(config)
    found = places(official_validator("config-schema.json"), config)
    assert found
    assert undeliberate(found, [row]) == set()


# -- thousands of mutations ----------------------------------------------------------------------------

VALUES: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        6,
        511,
        512,
        4096,
        65536,
        2**32 - 1,
        2**32,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
    ),
    *(-(2**31), -(2**31) - 1, -(2**63), -(2**63) - 1, 1.0, 1.5, 1e300),
    *("", "x", "/", "/x", "a=b", "=", "\0", "/\0", "a=\0", "\n", "64kB", "2MB", "2MB\n", "٢MB", "0KB", "KB"),
    *("MB:", "MB:\n", "rwm", "p", "c", "0-3", "SCMP_ACT_ALLOW", "RLIMIT_CORE", "rprivate", "LINUX", "time"),
    *([], [""], [None], [[]], ["a=b"], [1], {}, {"": ""}, {"x": 1}, {"path": "/"}, [{}], [{"type": "pid"}]),
]


def nodes(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [at]
    members = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, below in members:
        found += nodes(below, (*at, key))
    return found


def mutate(config: Any, dice: random.Random) -> Any:
    """`config` with one thing changed somewhere."""
    at = dice.choice(nodes(config))
    if not at:
        return dice.choice(VALUES)
    node = config
    for key in at:
        node = node[key]
    kind = dice.randrange(10)
    if kind == 0:
        return changed(config, at, GONE)
    if kind == 1 and isinstance(node, str):
        ends = ("\n", "\0", " ", "=", "/", "X")
        return changed(
            config, at, dice.choice([node + dice.choice(ends), dice.choice(ends) + node, node.lower()])
        )
    if kind == 2 and isinstance(node, dict):
        return changed(config, (*at, dice.choice(["", "unknown", "x.y", "Ä"])), dice.choice(VALUES))
    if kind == 3 and isinstance(node, list):
        return changed(config, at, [*node, dice.choice(VALUES)])
    if kind == 4 and isinstance(node, int) and not isinstance(node, bool):
        return changed(config, at, dice.choice([node + 1, node - 1, -node, node * 2**32, float(node)]))
    return changed(config, at, dice.choice(VALUES))


def some_of(config: Any, dice: random.Random) -> Any:
    """A part of `config`: small ones are judged faster, and absence is a case too."""
    part = {
        name: value for name, value in config.items() if name in ("ociVersion", "root") or dice.random() < 0.4
    }
    for name in ("linux", "process"):
        if name in part:
            keep = {"cwd", "args"}
            part[name] = {
                key: value for key, value in part[name].items() if key in keep or dice.random() < 0.25
            }
    return part


@needs_official
@pytest.mark.timeout(55)
@pytest.mark.parametrize("batch", range(4))
def test_mutations_get_one_verdict(batch: int) -> None:
    dice = random.Random(20_240 + batch)
    official = official_validator("config-schema.json")
    verdicts = {True: 0, False: 0}
    for _ in range(MUTATIONS // 4):
        config = some_of(CONFIGS[dice.choice(list(CONFIGS))], dice)
        for _ in range(dice.choice((1, 1, 2))):
            config = mutate(config, dice)
        ours, theirs = places(OURS, config), places(official, config)
        assert accept(config) == (not ours), f"compiled check: {config}"
        verdicts[not ours] += 1
        both = {place for place, _, _ in ours} & {place for place, _, _ in theirs}
        stricter = undeliberate({place for place in ours if place[0] not in both}, STRICTER)
        laxer = undeliberate({place for place in theirs if place[0] not in both}, LAXER)
        assert (stricter, laxer) == (set(), set()), json.dumps(config)
    # The mutations are worth something only if both verdicts are common.
    assert min(verdicts.values()) > MUTATIONS / 4 / 5, verdicts
