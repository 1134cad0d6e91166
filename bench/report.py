"""The table: printed as the parts finish, written to a file with the raw numbers beside it."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from bench.contenders import Contender
from bench.growth import Measured
from bench.memory import FIELDS
from bench.verbs import VERBS, Times


class Result:
    """One session's table. The first contender is the one the ratios are about."""

    def __init__(self, repository: Path, folder: Path) -> None:
        self.repository = repository
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / time.strftime("%Y-%m-%d-%H%M%S.txt")
        self.raw: dict[str, Any] = {}
        self.names: list[str] = []
        self._text = open(self.path, "w")  # noqa: SIM115 - open until `close`

    def say(self, line: str = "") -> None:
        """One line, to the reader and to the file."""
        print(line, flush=True)
        print(line, file=self._text, flush=True)

    def introduce(self, field: list[Contender]) -> None:
        """Who was measured, where, when."""
        self.names = [contender.name for contender in field]
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            check=False,
            cwd=self.repository,
            capture_output=True,
            text=True,
        ).stdout.strip()
        load = " ".join(f"{value:.2f}" for value in os.getloadavg())
        self.say(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  commit {commit or '?'}")
        system = f"{platform.system()} {platform.release()} {platform.machine()}"
        self.say(f"{system}, {os.cpu_count()} CPUs, load {load}")
        for contender in field:
            self.say(f"{contender.name}: {contender.version()}")
        self.raw["commit"] = commit
        self.raw["versions"] = {contender.name: contender.version() for contender in field}

    def _head(self, title: str, first: str, columns: list[str]) -> None:
        self.say()
        self.say(title)
        self.say(f"  {first:<14}" + "".join(f"{column:>16}" for column in columns))

    def _ratios(self, values: list[float]) -> str:
        return "".join(f"{values[0] / value:>15.2f}x" if value else f"{'-':>16}" for value in values[1:])

    def _times(self, label: str, per_name: list[list[float]]) -> None:
        medians = [statistics.median(times) * 1e3 for times in per_name]
        cells = [
            f"{median:.2f} ({min(times) * 1e3:.2f})" for median, times in zip(medians, per_name, strict=True)
        ]
        self.say(f"  {label:<14}" + "".join(f"{cell:>16}" for cell in cells) + self._ratios(medians))

    def _columns(self) -> list[str]:
        return self.names + [f"{self.names[0]}/{name}" for name in self.names[1:]]

    def verbs(self, times: Times, rounds: int) -> None:
        """Each verb."""
        self._head(f"verbs: median (minimum) in ms, n = {rounds}, taking turns", "verb", self._columns())
        for verb in VERBS:
            self._times(verb, [times[name][verb] for name in self.names])
        self.raw["verbs"] = times

    def floor(self, times: list[float]) -> None:
        """The interpreter alone."""
        median, least = statistics.median(times) * 1e3, min(times) * 1e3
        self.say(f"  for comparison, python3 -I -S -c pass: {median:.2f} ({least:.2f})")
        self.raw["floor"] = times

    def memory(self, found: dict[str, dict[str, float]]) -> None:
        """The waiting init."""
        self._head("init between create and start: KiB", "", self._columns())
        for name in FIELDS:
            values = [found[contender][name] for contender in self.names]
            self.say(f"  {name:<14}" + "".join(f"{value:>16.0f}" for value in values) + self._ratios(values))
        self.raw["memory"] = found

    def limits(self, found: dict[str, int]) -> None:
        """The lowest memory limit."""
        self._head("lowest memory limit under which `true` runs: KiB", "", self._columns())
        values = [float(found[name]) for name in self.names]
        self.say(f"  {'limit':<14}" + "".join(f"{value:>16.0f}" for value in values) + self._ratios(values))
        self.raw["limit"] = found

    def mounts(self, found: dict[int, Measured]) -> None:
        """Cost as mounts grow, and its slope."""
        self._head("create with more bind mounts: median (minimum) in ms", "mounts", self._columns())
        for count, measured in found.items():
            self._times(str(count), [measured[name]["create"] for name in self.names])
        few, many = min(found), max(found)
        if few < many:
            slopes = [
                (
                    statistics.median(found[many][name]["create"])
                    - statistics.median(found[few][name]["create"])
                )
                / (many - few)
                * 1e6
                for name in self.names
            ]
            cells = "".join(f"{slope:>16.1f}" for slope in slopes)
            self.say(f"  {'µs per mount':<14}" + cells + self._ratios(slopes))
        self.raw["mounts"] = found

    def containers(self, count: int, measured: Measured) -> None:
        """Cost beside `count` waiting containers."""
        if "containers" not in self.raw:
            title = "beside so many waiting containers (of each runtime): median (minimum) in ms"
            self._head(title, "containers", self._columns())
            self.raw["containers"] = {}
        for verb in ("list", "create"):
            self._times(f"{count} {verb}", [measured[name][verb] for name in self.names])
        self.raw["containers"][count] = measured

    def close(self) -> None:
        """Write the raw numbers."""
        self._text.close()
        self.path.with_suffix(".json").write_text(json.dumps(self.raw))
        print(f"\nwritten to {self.path}")
