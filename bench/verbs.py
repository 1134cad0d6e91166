"""The time of each verb, from the call to its end as the caller sees it."""

from __future__ import annotations

import json
import subprocess
import time

from bench.contenders import Contender, Failed, timed, turns

VERBS = ("run", "create", "start", "state", "exec", "kill", "delete")

#: Rounds before the first that counts: page cache, the runtimes' own caches.
WARM_UP = 3

Times = dict[str, dict[str, list[float]]]


def measure(field: list[Contender], rounds: int) -> Times:
    """Seconds of every call, by contender and verb."""
    times: Times = {contender.name: {verb: [] for verb in VERBS} for contender in field}
    for number, contender in turns(field, rounds + WARM_UP):
        one = life(contender)
        if number >= WARM_UP:
            for verb, seconds in one.items():
                times[contender.name][verb].append(seconds)
    return times


def floor(field: list[Contender], rounds: int) -> list[float]:
    """Seconds of the interpreter alone: what no verb of a runtime written in Python can go below."""
    log = field[0].log
    return [timed(["/usr/bin/python3", "-I", "-S", "-c", "pass"], log)[0] for _ in range(rounds)]


def life(contender: Contender) -> dict[str, float]:
    """`run` of one container; the other verbs on a second, in the order of its life."""
    process = contender.bundle.config["process"]
    process["args"] = ["true"]
    id = contender.new_id()
    contender.bundle.write(id)
    one = {"run": contender.must("run", "--bundle", str(contender.bundle.path), id)}
    contender.made.discard(id)
    process["args"] = ["sleep", "1000"]
    id = contender.new_id()
    one["create"] = contender.create(id)
    one["start"] = contender.must("start", id)
    one["state"] = contender.must("state", id)
    one["exec"] = contender.must("exec", id, "true")
    one["kill"] = contender.must("kill", id, "KILL")
    wait_stopped(contender, id)
    one["delete"] = contender.must("delete", id)
    contender.made.discard(id)
    process["args"] = ["true"]
    return one


def wait_stopped(contender: Contender, id: str) -> None:
    """Wait until `state` says stopped (not timed)."""
    command = [contender.program, "--root", str(contender.root), "state", id]
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        if json.loads(out)["status"] == "stopped":
            return
        time.sleep(0.005)
    raise Failed(f"{contender.name}: {id} does not stop")
