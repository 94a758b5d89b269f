"""A single clip under 30 s of padding through encoders and bridge, in passes that are recorded once on a GPU.

Whisper and the bridge always get the same shapes. What BEATs gets is rounded up, behind a mask that keeps what is the
clip's as if nothing followed it. BEATs, whose matrices are too small to fill a GPU, runs beside Whisper; and once the
clip is there nothing waits for the GPU, so that the prompt that follows is launched while it still hears.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn_core.ahead import Aside
from salmonn_core.beats import Beats
from salmonn_core.bridge import Bridge, Heard
from salmonn_core.fbank import beats_fbank
from salmonn_core.graphs import Recorded
from salmonn_core.whisper import encode_whisper, log_mel_there

ROUNDED = 512  # fbank frames, 5 s: a clip of any length is one of six


class Hearing:
    """Encoders and bridge of a model."""

    def __init__(self, whisper: WhisperEncoder, beats: Beats, bridge: Bridge) -> None:
        self._bins, self._beats, self._bridge = whisper.config.num_mel_bins, beats, bridge
        # Two streams taken one after the other are two, and so are the workspaces of what is recorded on them.
        whispers, self._aside = Aside(self.device), Aside(self.device)
        self._speech = Recorded(lambda mel: tuple(encode_whisper(whisper, [mel])), whisper, stream=whispers.stream)
        self._audio = Recorded(
            lambda fbank, tokens: (beats.forward_rounded(fbank, tokens)[0],), beats, kept=6, stream=self._aside.stream
        )
        self._heard = Recorded(lambda joined: tuple(bridge.hear_joined([joined])[0]), bridge)

    @property
    def device(self) -> torch.device:
        return self._bridge.projection.weight.device

    def hear(self, wave: np.ndarray) -> tuple[Tensor, Heard]:
        """A clip of at least 1 s, (samples,), as Whisper's states, (1500, d_model), and what the bridge makes of it."""
        samples = torch.from_numpy(wave).to(self.device, torch.float32)  # outlives what reads it aside (`hand_over`)
        self._aside.follow()
        speech = self.speech(log_mel_there(samples, self._bins))  # first, since it takes longer
        with self._aside.here():
            audio = self.audio(samples)
        audio = self._aside.hand_over(self._aside.mark(), audio)
        return speech, self.heard(speech, audio)

    def speech(self, mel: Tensor) -> Tensor:
        """(1, mel_bins, 3000) to Whisper's states, (1500, d_model)."""
        return self._speech(mel)[0]

    def audio(self, wave: Tensor) -> Tensor:
        """(samples,) to BEATs' tokens, (tokens, width)."""
        fbank = beats_fbank(wave[None])
        frames = fbank.shape[1]
        count = self._beats.tokens(frames)
        fbank = F.pad(fbank, (0, 0, 0, ROUNDED * math.ceil(frames / ROUNDED) - frames))
        return self._audio(fbank, torch.full((1, 1), count, device=fbank.device))[0][:count]

    def heard(self, speech: Tensor, audio: Tensor) -> Heard:
        return Heard(*self._heard(self._bridge.join(speech, audio)))
