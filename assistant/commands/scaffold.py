"""`assistant plugins new`: a package with a skill, its test, its entry point and its README, ready to install."""

from __future__ import annotations

import re
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from assistant.errors import UserError
from assistant.hosting.discovery import discover

FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "gitignore": ".gitignore",
    "skill.py": "{module}.py",
    "test_skill.py": "test_{module}.py",
}


def create(name: str, folder: Path) -> Path:
    """Write the package into `folder`/`name`.

    Raises:
        UserError: no good name, or something is there already.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise UserError(f"{name!r} is no name for a plugin: small letters, digits and single hyphens, e.g. my-skill")
    target, module = folder / name, name.replace("-", "_")
    if target.exists():
        raise UserError(f"{target} is there already; nothing was written")
    _refuse_taken(name, module)
    target.mkdir(parents=True)
    for template, path in FILES.items():
        text = (resources.files("assistant.commands") / "templates" / f"{template}.txt").read_text("utf-8")
        filled = text.replace("@name@", name).replace("@module@", module)
        (target / path.format(module=module)).write_text(filled, encoding="utf-8")
    return target


def _refuse_taken(name: str, module: str) -> None:
    """A module of that name would hide another, or a plugin would be there twice."""
    if name in {plugin.name for plugin in discover()}:
        raise UserError(f"there is a plugin {name!r} already (assistant plugins list); choose another name")
    found = find_spec(module)
    if found is not None and found.origin is not None:
        raise UserError(f"{module!r} is a Python module that is installed here; choose another name")


def run(name: str, folder: Path) -> None:
    target = create(name, folder)
    print(f"{target}: a plugin whose tests pass. What next:")
    print(f"  cd {target} && python -m pytest      # test it")
    print(f"  assistant plugins install --editable {target}   # use it, and go on writing it")
