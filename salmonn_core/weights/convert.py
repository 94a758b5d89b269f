"""Turn downloaded base models into folders of safetensors that transformers loads with memory mapping.

Each folder is written beside its final place and renamed at the end: there is no half-written one.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from salmonn_core.weights.ctranslate2 import whisper_weights

WHISPER_BASE = {
    "d_model": 512,
    "encoder_layers": 6,
    "decoder_layers": 6,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
    "encoder_ffn_dim": 2048,
    "decoder_ffn_dim": 2048,
    "vocab_size": 51_865,
    "num_mel_bins": 80,
    "max_source_positions": 1500,
    "max_target_positions": 448,
}


def quiet_transformers() -> None:
    """Our own progress bar says what is happening; transformers' would print over it."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` if the body succeeds, and disappears if it does not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    work.chmod(0o755)
    try:
        yield work
        if target.exists():
            shutil.rmtree(target)
        work.rename(target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def convert_whisper(model_bin: Path, target: Path) -> None:
    """CTranslate2's Whisper base to a transformers folder (float16 safetensors)."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    quiet_transformers()
    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig(**WHISPER_BASE))
    state = whisper_weights(model_bin)
    model.load_state_dict(state, strict=True, assign=True)
    with new_folder(target) as folder:
        model.save_pretrained(folder)


def convert_gguf(file: Path, target: Path) -> None:
    """A GGUF causal language model to a transformers folder (bfloat16 safetensors) with its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    quiet_transformers()
    # transformers draws a bar of its own here, whatever its settings say.
    with contextlib.redirect_stderr(io.StringIO()):
        loaded = AutoModelForCausalLM.from_pretrained(
            file.parent,
            gguf_file=file.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    # A model that came from GGUF refuses to be saved, even dequantised: its weights move to a plain twin.
    model = AutoModelForCausalLM.from_config(loaded.config, dtype=torch.bfloat16)
    model.load_state_dict(loaded.state_dict())
    with new_folder(target) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
