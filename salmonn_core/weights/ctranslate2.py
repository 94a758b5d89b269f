"""Read a Whisper model in CTranslate2's binary format (version 6) as transformers' Whisper weights.

The format, little-endian: version, then the spec's name and revision, then a flat list of arrays
(name, rank, dimensions, dtype code, byte count, bytes), then aliases. Query, key and value projections
are fused along the output axis.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from salmonn_core.errors import UserError

VERSION = 6
DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


def _unpack(file: BinaryIO, form: str) -> int:
    size = struct.calcsize(form)
    data = file.read(size)
    if len(data) != size:
        raise UserError("the CTranslate2 model file ends early; fetch it again")
    return int(struct.unpack(form, data)[0])


def _string(file: BinaryIO) -> str:
    return file.read(_unpack(file, "<H")).rstrip(b"\0").decode()


def read_arrays(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Yield each named array of the file.

    Raises:
        UserError: another version of the format, an unknown dtype or a truncated file.
    """
    with path.open("rb") as file:
        version = _unpack(file, "<I")
        if version != VERSION:
            raise UserError(f"{path}: CTranslate2 format version {version}, only {VERSION} can be read")
        _string(file)
        _unpack(file, "<I")
        for _ in range(_unpack(file, "<I")):
            name = _string(file)
            shape = [_unpack(file, "<I") for _ in range(_unpack(file, "<B"))]
            code = _unpack(file, "<B")
            data = file.read(_unpack(file, "<I"))
            if code not in DTYPES:
                raise UserError(f"{path}: array {name} has the unknown dtype code {code}")
            yield name, np.frombuffer(data, DTYPES[code]).reshape(shape)


_NORMS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
}


def _layer_weights(side: str, index: int, arrays: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """transformers' names and weights of one encoder or decoder layer."""
    old, new = f"{side}/layer_{index}/", f"model.{side}.layers.{index}."
    for ours, theirs in _NORMS.items():
        if f"{old}{ours}/gamma" in arrays:
            yield f"{new}{theirs}.weight", arrays[f"{old}{ours}/gamma"]
            yield f"{new}{theirs}.bias", arrays[f"{old}{ours}/beta"]
    for kind in ("weight", "bias"):
        fused = arrays[f"{old}self_attention/linear_0/{kind}"].chunk(3)
        for name, part in zip(("q_proj", "k_proj", "v_proj"), fused, strict=True):
            if (name, kind) != ("k_proj", "bias"):  # Whisper's key projection has none
                yield f"{new}self_attn.{name}.{kind}", part
        yield f"{new}self_attn.out_proj.{kind}", arrays[f"{old}self_attention/linear_1/{kind}"]
        yield f"{new}fc1.{kind}", arrays[f"{old}ffn/linear_0/{kind}"]
        yield f"{new}fc2.{kind}", arrays[f"{old}ffn/linear_1/{kind}"]
        if side == "decoder":
            yield f"{new}encoder_attn.q_proj.{kind}", arrays[f"{old}attention/linear_0/{kind}"]
            key, value = arrays[f"{old}attention/linear_1/{kind}"].chunk(2)
            if kind == "weight":
                yield f"{new}encoder_attn.k_proj.weight", key
            yield f"{new}encoder_attn.v_proj.{kind}", value
            yield f"{new}encoder_attn.out_proj.{kind}", arrays[f"{old}attention/linear_2/{kind}"]


def whisper_weights(path: Path) -> dict[str, Tensor]:
    """The state dict of `WhisperForConditionalGeneration`, float16 as stored.

    Raises:
        UserError: the file lacks an array that a Whisper must have.
    """
    arrays = {name: torch.from_numpy(array.copy()) for name, array in read_arrays(path)}
    try:
        return dict(_whisper_weights(arrays))
    except KeyError as missing:
        raise UserError(f"{path}: not a Whisper model, it has no array {missing}") from missing


def _whisper_weights(arrays: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for number in (1, 2):
        for kind in ("weight", "bias"):
            yield f"model.encoder.conv{number}.{kind}", arrays[f"encoder/conv{number}/{kind}"]
    for side in ("encoder", "decoder"):
        yield f"model.{side}.embed_positions.weight", arrays[f"{side}/position_encodings/encodings"]
        yield f"model.{side}.layer_norm.weight", arrays[f"{side}/layer_norm/gamma"]
        yield f"model.{side}.layer_norm.bias", arrays[f"{side}/layer_norm/beta"]
        layers = {name.split("/")[1] for name in arrays if name.startswith(f"{side}/layer_")} - {"layer_norm"}
        for index in range(len(layers)):
            yield from _layer_weights(side, index, arrays)
    yield "model.decoder.embed_tokens.weight", arrays["decoder/embeddings/weight"]
    yield "proj_out.weight", arrays["decoder/embeddings/weight"]
