"""The published checkpoints: `salmonn_v1.pth` and BEATs' `.pt`, read without unpickling code.

`salmonn_v1.pth` holds only what was trained (Q-Former, LayerNorms, projection, LoRA); the encoders and
the LLM come from their own releases. Names and sizes are taken from the files, and what cannot be read off
a tensor's shape from the checkpoint's own `config`. Source: bytedance/SALMONN, branch salmonn.
"""

from __future__ import annotations

import io
import lzma
import re
from dataclasses import dataclass, fields
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from salmonn_core.config import BeatsConfig, LoraConfig, PromptConfig, QFormerConfig, SalmonnConfig
from salmonn_core.errors import UserError
from salmonn_core.weights.safe import describe_misfit

HEAD_DIM = 64  # of BERT base, from which the published Q-Former was made
SHARED_BIAS = r"encoder\.layers\.[1-9]\d*\.self_attn\.relative_attention_bias\.weight"  # copies of layer 0's
# Not weights, but in the file because the reference saves every tensor that is not a frozen named parameter.
KNOWN_EXTRAS = re.compile(
    r"speech_Qformer\.bert\.embeddings\.position_ids"
    r"|llama_model\..*\.rotary_emb\.inv_freq"
    rf"|beats\.{SHARED_BIAS}"
)
RENAMED = (
    (r"^speech_query_tokens$", "bridge.query_tokens"),
    (r"^(ln_speech|ln_audio)\.", r"bridge.\1."),
    (r"^speech_llama_proj\.", "bridge.projection."),
    (r"^speech_Qformer\.bert\.embeddings\.LayerNorm\.", "bridge.qformer.layernorm."),
    (r"^speech_Qformer\.bert\.(encoder\.layer\.\d+\.(?:cross)?attention)\.self\.", r"bridge.qformer.\1.attention."),
    (r"^speech_Qformer\.bert\.encoder\.", "bridge.qformer.encoder."),
    (r"^llama_model\.(?=.*\.lora_[AB]\.)", "lora."),
)  # fmt: skip
# What a published BEATs may say of itself and this implementation does not do.
BEATS_REQUIRES = {
    "layer_norm_first": False,
    "relative_position_embedding": True,
    "gru_rel_pos": True,
    "activation_fn": "gelu",
}


# What a checkpoint's own settings may say of itself and this implementation does not do.
SALMONN_REQUIRES = {"use_speech_Qformer": True, "window_level_Qformer": True, "lora": True}


@dataclass(frozen=True)
class OfficialFiles:
    """The four releases that make a SALMONN.

    Attributes:
        checkpoint: `salmonn_v1.pth` (or `.pth.xz`).
        beats: `BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt`.
        whisper: transformers folder of whisper-large-v2.
        llm: transformers folder of Vicuna-13B v1.1 or 7B v1.5.
    """

    checkpoint: Path
    beats: Path
    whisper: Path
    llm: Path


def read_pickle(path: Path) -> dict[str, Any]:
    """A torch checkpoint with `weights_only`, memory-mapped where the format allows.

    Raises:
        UserError: no such file; not a checkpoint; or it holds more than tensors and plain values.
    """
    if not path.exists():
        raise UserError(f"no such checkpoint: {path}")
    try:
        if path.suffix == ".xz":
            return dict(torch.load(io.BytesIO(lzma.decompress(path.read_bytes())), "cpu", weights_only=True))
        try:
            return dict(torch.load(path, "cpu", weights_only=True, mmap=True))
        except RuntimeError:  # files of before torch 1.6 cannot be mapped
            return dict(torch.load(path, "cpu", weights_only=True))
    except (UnpicklingError, EOFError, RuntimeError, lzma.LZMAError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} is no checkpoint of plain tensors, so it is not opened ({reason})") from error


def read_beats(path: Path) -> tuple[BeatsConfig, dict[str, Tensor]]:
    """A published BEATs: its sizes and its weights by our names (`weight` as `Beats` wants them).

    Raises:
        UserError: it lacks `cfg` or `model`, or it is a variant that is not implemented.
    """
    content = read_pickle(path)
    if not {"cfg", "model"} <= set(content):
        raise UserError(f"{path} is no BEATs checkpoint: it needs cfg and model, it has {', '.join(sorted(content))}")
    cfg: dict[str, Any] = content["cfg"]
    _require(cfg, BEATS_REQUIRES, f"{path}: BEATs")
    known = {field.name for field in fields(BeatsConfig)}
    config = BeatsConfig(
        **{key: value for key, value in cfg.items() if key in known},
        post_extract_proj="post_extract_proj.weight" in content["model"],
    )
    return config, {key: value for key, value in content["model"].items() if not re.fullmatch(SHARED_BIAS, key)}


def _require(settings: dict[str, Any], needed: dict[str, Any], what: str) -> None:
    for key, value in needed.items():
        if settings.get(key, value) != value:
            raise UserError(f"{what} with {key}={settings[key]!r} is not supported, only {value!r}")


def read_salmonn(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The trained part by our names (`bridge.`, `lora.`) and the run's own `model` settings.

    Raises:
        UserError: it has no `model`, keys that no SALMONN has, listed, or settings that are not implemented.
    """
    content = read_pickle(path)
    if "model" not in content:
        raise UserError(f"{path} is no SALMONN checkpoint: it has no entry 'model'")
    state: dict[str, Tensor] = {}
    unexpected = set()
    for key, tensor in content["model"].items():
        if KNOWN_EXTRAS.fullmatch(key):
            continue
        name = _renamed(key)
        if name is None:
            unexpected.add(key)
        else:
            state[name] = tensor
    if unexpected:
        raise UserError(f"{path} does not fit SALMONN: {describe_misfit(set(), unexpected, [])}")
    settings = dict((content.get("config") or {}).get("model") or {})
    _require(settings, SALMONN_REQUIRES, f"{path}: a SALMONN")
    return state, settings


def _renamed(key: str) -> str | None:
    for pattern, replacement in RENAMED:
        name, count = re.subn(pattern, replacement, key)
        if count:
            return name
    return None


def read_official(
    files: OfficialFiles, qformer_heads: int | None = None, name: str = "salmonn"
) -> tuple[SalmonnConfig, dict[str, Tensor]]:
    """Sizes and trained weights of a published SALMONN, ready for `loading.build` or for a model folder.

    Args:
        qformer_heads: attention heads, which no tensor shows; hidden size / 64 unless given.

    Raises:
        UserError: a file that is missing, damaged, or not what it should be.
    """
    state, settings = read_salmonn(files.checkpoint)
    beats, beats_state = read_beats(files.beats)
    where = str(files.checkpoint)
    config = SalmonnConfig(
        name=name,
        whisper=str(files.whisper),
        llm=str(files.llm),
        beats=beats,
        qformer=_qformer_config(state, settings, qformer_heads, where),
        lora=_lora_config(state, settings, where),
        prompt=PromptConfig(template=settings.get("prompt_template", PromptConfig().template)),
        pad_to_30s=True,
        training_stage="published",
        license="SALMONN: Apache-2.0; BEATs: MIT; Whisper: MIT; Vicuna: the licence of its Llama base",
    )
    return config, state | {f"beats.{key}": value for key, value in beats_state.items()}


def _qformer_config(state: dict[str, Tensor], settings: dict[str, Any], heads: int | None, where: str) -> QFormerConfig:
    needed = {"bridge.query_tokens", "bridge.qformer.encoder.layer.0.intermediate_query.dense.weight"}
    if needed - set(state):
        raise UserError(f"{where} does not fit SALMONN: {describe_misfit(needed - set(state), set(), [])}")
    _, queries, hidden = state["bridge.query_tokens"].shape
    if heads is None and hidden % HEAD_DIM:
        raise UserError(f"{where}: a Q-Former {hidden} wide has no {HEAD_DIM}-wide heads; give qformer_heads")
    layers = {key.split(".")[4] for key in state if key.startswith("bridge.qformer.encoder.layer.")}
    default = QFormerConfig()
    return QFormerConfig(
        hidden_size=hidden,
        layers=len(layers),
        attention_heads=heads or hidden // HEAD_DIM,
        intermediate_size=len(state["bridge.qformer.encoder.layer.0.intermediate_query.dense.weight"]),
        queries=queries,
        window_s=float(settings.get("second_per_window", default.window_s)),
        stride_s=float(settings.get("second_stride", default.stride_s)),
    )


def _lora_config(state: dict[str, Tensor], settings: dict[str, Any], where: str) -> LoraConfig:
    down = {key: value for key, value in state.items() if ".lora_A." in key}
    if not down:
        raise UserError(f"{where} does not fit SALMONN: it has no LoRA (llama_model...lora_A)")
    targets = sorted({key.split(".lora_A.")[0].rsplit(".", 1)[1] for key in down})
    rank = len(next(iter(down.values())))
    return LoraConfig(rank=rank, alpha=int(settings.get("lora_alpha", LoraConfig().alpha)), targets=tuple(targets))
