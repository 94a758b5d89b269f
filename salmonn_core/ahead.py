"""Work on the GPU beside its caller's: the next token's while Python chooses it, BEATs' while Whisper's goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Begun:
    """A step that was launched before anybody asked for it.

    Attributes:
        logits: (1, vocabulary) after it.
        token: (1,) on the host, what it appends.
        known: when `token` is there; None on a CPU, where it is at once.
        lora_scale: the LoRA's strength in it.
    """

    logits: Tensor
    token: Tensor
    known: torch.cuda.Event | None
    lora_scale: float

    def is_for(self, token: int, lora_scale: float) -> bool:
        if self.known is not None:
            self.known.synchronize()  # long since: it was known before this step began
        return int(self.token) == token and self.lora_scale == lora_scale


class Aside:
    """A stream beside the caller's; on a CPU, where `stream` is None, work is done where it is given."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._host = torch.zeros(1, dtype=torch.long, pin_memory=self.stream is not None)

    @property
    def _caller(self) -> torch.cuda.Stream:
        assert self.stream is not None
        return torch.cuda.current_stream(self.stream.device)

    @contextmanager
    def here(self) -> Iterator[None]:
        """Launch on this stream."""
        with torch.cuda.stream(self.stream):  # None changes nothing
            yield

    def follow(self) -> None:
        """What is launched here from now on comes after what the caller has launched."""
        if self.stream is not None:
            self.stream.wait_stream(self._caller)

    def mark(self) -> torch.cuda.Event | None:
        """What has been launched here so far."""
        return None if self.stream is None else self.stream.record_event()

    def hand_over(self, done: torch.cuda.Event | None, result: Tensor) -> Tensor:
        """What was made here, for the caller to go on with once it is done, and not before."""
        if done is not None:
            self._caller.wait_event(done)
            result.record_stream(self._caller)  # its memory is not used again here while the caller's work reads it
        return result

    def to_host(self, chosen: torch.cuda.Event | None, token: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        """A token, (1,), copied by the caller's stream, so that what is launched here need not wait for the copy.

        Returns:
            where it will be, until the next is, and when.
        """
        if chosen is None:
            return self._host.copy_(token), None
        self._caller.wait_event(chosen)
        self._host.copy_(token, non_blocking=True)
        return self._host, self._caller.record_event()

    def wait(self) -> None:
        """What the caller launches from now on comes after all that was launched here."""
        if self.stream is not None:
            self._caller.wait_stream(self.stream)

    def finish(self) -> None:
        """Return when all that was launched here is done: what it uses may then be freed."""
        if self.stream is not None:
            self.stream.synchronize()
