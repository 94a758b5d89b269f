"""`assistant profiles`."""

from __future__ import annotations

import yaml

from assistant import profile as profile_module
from assistant.commands.output import print_rows
from assistant.commands.setup import make_host
from assistant.errors import UserError


def _description(name: str) -> str:
    try:
        return profile_module.load(name).description
    except UserError as error:
        return f"invalid: {error}"


def list_all(as_json: bool) -> None:
    rows = [
        {"name": p.name, "from": p.origin, "description": _description(p.name), "file": str(p.path)}
        for p in profile_module.available().values()
    ]
    print_rows(rows, as_json)
    if not as_json:
        print(f"\nyour own profiles go into {profile_module.user_folder()}")


def show(name: str) -> None:
    loaded = profile_module.load(name)
    print(f"# {profile_module.find(name).path}")
    print(yaml.safe_dump(loaded.model_dump(mode="json"), sort_keys=False, allow_unicode=True), end="")


def check(name: str) -> None:
    loaded = profile_module.load(name)
    problems: list[str] = []
    make_host(loaded, lambda plugin, message: problems.append(f"plugin {plugin} {message}"), safe=False)
    if problems:
        raise UserError("\n".join(f"profile {loaded.name}: {problem}" for problem in problems))
    print(f"{profile_module.find(name).path}: fine")
