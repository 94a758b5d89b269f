"""SALMONN as a library: `from salmonn_core import Salmonn`. Importing this costs no torch until a name is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salmonn_core.errors import UserError

if TYPE_CHECKING:
    from salmonn_core.decode import GenerationOptions
    from salmonn_core.model import Asked, AudioTokens, Salmonn

__all__ = ["Asked", "AudioTokens", "GenerationOptions", "Salmonn", "UserError"]


def __getattr__(name: str) -> Any:
    if name in ("Asked", "AudioTokens", "Salmonn"):
        from salmonn_core import model

        return getattr(model, name)
    if name == "GenerationOptions":
        from salmonn_core.decode import GenerationOptions

        return GenerationOptions
    raise AttributeError(f"module 'salmonn_core' has no attribute {name!r}")
