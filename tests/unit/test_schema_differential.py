"""Three judges, one verdict: specs/ by jsonschema, the compiled check, and the official schemas of runtime-spec 1.3.0.

Where ours is stricter or laxer on purpose, the difference is a row of `STRICTER` or `LAXER` with its reason; every row
is shown to be needed, and no other difference is allowed.
"""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from pyrunc.validate._accept import accept
from tests.support.schema_differences import GONE, LAXER, STRICTER, Difference
from tests.support.schema_judges import (
    CONFIGS,
    OURS,
    changed,
    needs_official,
    official_validator,
    places,
    undeliberate,
)

# -- deliberate differences --------------------------------------------------------------------------------


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


# -- thousands of mutations --------------------------------------------------------------------------------


MUTATIONS = 6000
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
