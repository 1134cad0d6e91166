"""state and list: what is known about containers, as JSON or as a table. Takes no lock and never waits."""

from __future__ import annotations

from pyrunc.config.writer import dumps
from pyrunc.errors import PyruncError
from pyrunc.lifecycle.status import current, document, load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Final

    from pyrunc.store.store import Store

#: Narrowest column and the space after the widest cell, as runc's table has them.
_COLUMN: Final = 12
_GAP: Final = 3


def state(store: Store, container_id: str) -> str:
    """The state document of one container as JSON, indented, without a newline at the end (as runc)."""
    with store.open(container_id) as directory:
        record = load(directory, newer_is_fine=True)
        return dumps(document(record, current(directory, record)), 2)


def listing(
    store: Store, form: str, quiet: bool, only: Sequence[str] | None = None
) -> tuple[str, list[tuple[str, PyruncError]]]:
    """All containers in the format `form` (table or json), or only their ids; of `only` these, if it is not None.

    Returned with it: what is wrong with the ones left out, by id.
    """
    if form not in ("table", "json"):
        raise PyruncError("invalid format option", remedy="use table or json", code="usage")
    documents: list[dict[str, Any]] = []
    broken: list[tuple[str, PyruncError]] = []
    owners: dict[int, str] = {}
    for container_id in store.ids() if only is None else only:
        try:
            with store.open(container_id) as directory:
                record = load(directory, newer_is_fine=True)
                if quiet:
                    documents.append({"id": record.id})
                    continue
                if record.owner not in owners:
                    owners[record.owner] = _user_name(record.owner)
                documents.append(document(record, current(directory, record), owner=owners[record.owner]))
        except PyruncError as error:
            broken.append((container_id, error))
    if quiet:
        return "".join([entry["id"] + "\n" for entry in documents]), broken
    if form == "json":
        return dumps(documents or None) + "\n", broken
    keys = ("id", "pid", "status", "bundle", "created", "owner")
    rows = [[key.upper() for key in keys], *[[str(entry[key]) for key in keys] for entry in documents]]
    return table(rows), broken


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def table(rows: Sequence[Sequence[str]]) -> str:
    """`rows` in columns, the first of them the headings."""
    last = len(rows[0]) - 1
    widths = [max(_COLUMN, max(len(row[place]) for row in rows) + _GAP) for place in range(last)]
    widths.append(0)
    return "".join(["".join(map(str.ljust, row, widths)) + "\n" for row in rows])
