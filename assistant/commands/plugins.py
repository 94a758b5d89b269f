"""`assistant plugins`."""

from __future__ import annotations

from assistant.commands.output import print_rows
from assistant.plugin_host import discover


def list_all(as_json: bool) -> None:
    rows = [
        {
            "name": plugin.name,
            "from": "bundled" if plugin.bundled else plugin.distribution,
            "version": plugin.version,
            "module": plugin.module,
        }
        for plugin in discover()
    ]
    print_rows(rows, as_json)
