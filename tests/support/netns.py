"""Network namespaces for tests, in which devices are made and moved: never the host's own."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.support import footprint
from tests.support.runtime import Runtime, wait_for


class NetworkNamespace:
    """A network namespace, held by a process that sleeps."""

    def __init__(self) -> None:
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
        footprint.own_children.add(self.holder.pid)
        wait_for(self._made, say="the network namespace")
        self.path = f"/proc/{self.holder.pid}/ns/net"
        self.inside = ["nsenter", f"--net={self.path}", "--"]

    def _made(self) -> bool:
        with open(f"/proc/{self.holder.pid}/comm") as file:
            return file.read() == "sleep\n"

    def end(self) -> None:
        """Let it go, with what is in it."""
        self.holder.kill()
        self.holder.wait()
        footprint.own_children.discard(self.holder.pid)

    def ip(self, *words: str) -> None:
        """Change something in it, in the words of the ip program."""
        subprocess.run([*self.inside, "ip", *words], check=True)

    def shown(self, *words: str) -> Any:
        """What ip(8) shows there, as JSON."""
        done = subprocess.run([*self.inside, "ip", "-json", "-details", *words], capture_output=True)
        return json.loads(done.stdout or "[]") if done.returncode == 0 else []

    def state(self) -> Any:
        """All devices with their addresses, but for the seconds that these have left."""
        links = self.shown("address")
        for address in (address for link in links for address in link["addr_info"]):
            address.pop("valid_life_time", None)
            address.pop("preferred_life_time", None)
        return links

    def names(self) -> set[str]:
        """The names of its devices."""
        return {link["ifname"] for link in self.shown("link")}

    def device(self, name: str) -> dict[str, Any]:
        """A device with its addresses; {} if there is none."""
        return next((link for link in self.shown("address") if link["ifname"] == name), {})

    def around(self, runtime: Runtime) -> Runtime:
        """The runtime, called in it."""
        twin = runtime.like()
        twin.prefix = self.inside
        return twin


def addresses(device: dict[str, Any]) -> list[tuple[str, int, str]]:
    """(address, length of the prefix, label) of those with global scope, as ip(8) shows them."""
    return [
        (entry["local"], entry["prefixlen"], entry.get("label", ""))
        for entry in device["addr_info"]
        if entry["scope"] == "global"
    ]
