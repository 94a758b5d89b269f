"""Compare this implementation with a folder of reference vectors, array by array.

    python -m salmonn_core.parity ../shared/golden

The folder holds a published-style checkpoint (`salmonn.pth`, `beats.pt`, `whisper/`, `llama/`), recordings, and what
the original implementation computed from them in float32 (`outputs.npz`, `probes.npz`). The checkpoint is
loaded by the public loader. Exit status 1 if an array misses its tolerance.

Sets of other sizes and clips are welcome: arrays are found by the names of the folder's recordings, where the shortest
one is the clip that is looked into, and the next one its neighbour in a padded batch (`noise` and `chirp` in set A).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from salmonn_core.beats import relative_position_bucket, shrink_mask
from salmonn_core.checkpoint import OfficialFiles
from salmonn_core.errors import UserError
from salmonn_core.fbank import beats_fbank
from salmonn_core.llm import PeftLlm
from salmonn_core.model import Salmonn
from salmonn_core.weights.safe import read_json
from salmonn_core.whisper import encode_whisper, log_mel

# Largest absolute difference, by the beginning of an array's name; everything else must be equal.
TOLERANCES = {
    "mel": 5e-5,
    "fbank": 2e-4,
    "batch_fbank": 2e-4,
    "short04_fbank": 2e-4,
    "dbg_beats": 1e-4,
    "dbg_qformer": 1e-4,
    "beats": 1e-4,
    "batch_beats": 1e-4,
    "short04_beats": 1e-4,
    "whisper": 1e-4,
    "audio_tokens": 1e-4,
    "batch_audio_tokens": 1e-4,
    "short04_audio_tokens": 1e-4,
    "tiny": 1e-4,
    "logits": 1e-3,
    "greedy_margin": 1e-3,
}
SHORT_SAMPLES = 6400
BEAMS = 4


@dataclass(frozen=True)
class Row:
    """One compared array."""

    name: str
    shape: tuple[int, ...]
    difference: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.tolerance


@dataclass
class Golden:
    """A folder of vectors and the model that it describes."""

    folder: Path
    model: Salmonn
    inputs: Any
    arrays: dict[str, np.ndarray]
    used: set[str] = field(default_factory=set)

    @cached_property
    def clips(self) -> list[str]:
        """Names of the recordings, the shortest first."""
        return sorted((path.stem for path in self.folder.glob("*.wav")), key=lambda clip: len(self.wave(clip)))

    @cached_property
    def lora_scales(self) -> dict[str, float]:
        """Strengths of the LoRA by label: x1 is as trained, x05 half of it."""
        found = (re.match(r"(?:logits|greedy|beam4)_(x\d+)_", name) for name in self.arrays)
        labels = sorted({match[1] for match in found if match})
        return {label: float(f"{label[1]}.{label[2:] or 0}") for label in labels}

    def wave(self, clip: str) -> np.ndarray:
        """(samples,) float64, channel 0, as the reference has it."""
        return soundfile.read(self.folder / f"{clip}.wav", dtype="float64", always_2d=True)[0][:, 0]

    def rows(self, name: str) -> Any:
        """Which rows of an array the set holds; all of them if it does not say."""
        if name not in self.arrays:
            return slice(None)
        self.used.add(name)
        return torch.from_numpy(self.arrays[name])

    def compare(self, name: str, make: Callable[[], Any]) -> Iterator[Row]:
        """A row if the set has this array."""
        if name not in self.arrays:
            return
        self.used.add(name)
        wanted, mine = self.arrays[name].astype(np.float64), np.asarray(make(), np.float64)
        same = mine.shape == wanted.shape
        difference = float(np.abs(mine - wanted).max(initial=0.0)) if same else float("inf")
        yield Row(name, wanted.shape, difference, tolerance(name))


def constant(value: Any) -> Callable[[], Any]:
    """What is computed already, as `Golden.compare` wants it."""
    return lambda: value


def tolerance(name: str) -> float:
    """By the longest beginning that is listed; arrays of integers and masks must be equal."""
    found = [prefix for prefix in TOLERANCES if name.startswith(prefix)]
    exact = name.startswith(("audio_atts", "batch_audio_atts")) or name.endswith("_mask")
    return 0.0 if exact or not found else TOLERANCES[max(found, key=len)]


def open_golden(folder: Path) -> Golden:
    """Load the folder's checkpoint through the public loader.

    Raises:
        UserError: a file of the layout is missing, or does not fit.
    """
    for name in ("outputs.npz", "inputs.npz", "config_set.json"):
        if not (folder / name).exists():
            raise UserError(f"{folder} is no folder of reference vectors: {name} is missing")
    settings = read_json(folder / "config_set.json")
    checkpoint = next((folder / n for n in ("salmonn.pth", "salmonn.pth.xz") if (folder / n).exists()), folder)
    files = OfficialFiles(checkpoint, folder / "beats.pt", folder / "whisper", folder / "llama")
    model = Salmonn.from_official(
        files, precision="fp32", qformer_heads=settings.get("bert", {}).get("num_attention_heads")
    )
    arrays = dict(np.load(folder / "outputs.npz"))
    if (folder / "probes.npz").exists():
        arrays |= dict(np.load(folder / "probes.npz"))
    return Golden(folder, model, np.load(folder / "inputs.npz"), arrays)


@torch.inference_mode()
def compare(golden: Golden) -> Iterator[Row]:
    """Every array of the set that is known here."""
    for clip in golden.clips:
        yield from _hearing(golden, clip)
        yield from _answering(golden, clip)
    yield from _batch(golden)
    yield from _inside(golden)
    yield from _probes(golden)


def _speech(golden: Golden, clip: str) -> Tensor:
    whisper = golden.model.whisper
    if f"mel_{clip}" in golden.inputs:
        mel = torch.from_numpy(golden.inputs[f"mel_{clip}"])[None]
    else:
        mel = log_mel(golden.wave(clip).astype(np.float32), whisper.config.num_mel_bins, pad_to_30s=True)
    return encode_whisper(whisper, [mel])[0]


def _beats(golden: Golden, clip: str, padding: Tensor | None = None) -> Tensor:
    return golden.model.beats(torch.from_numpy(golden.wave(clip))[None], padding)[0]


def _hearing(golden: Golden, clip: str) -> Iterator[Row]:
    model, wave = golden.model, golden.wave(clip)
    if f"mel_{clip}" in golden.inputs:
        mine = log_mel(wave.astype(np.float32), model.whisper.config.num_mel_bins, pad_to_30s=True)[0]
        wanted = golden.inputs[f"mel_{clip}"]
        yield Row(f"mel_{clip}", wanted.shape, float(np.abs(mine.numpy() - wanted).max()), tolerance("mel"))
    yield from golden.compare(f"fbank_{clip}", lambda: beats_fbank(torch.from_numpy(wave)[None])[0])
    none = torch.zeros(1, len(wave), dtype=torch.bool)
    yield from golden.compare(f"beats_none_{clip}", lambda: _beats(golden, clip))
    yield from golden.compare(f"beats_zeromask_{clip}", lambda: _beats(golden, clip, none))
    for name in _class_arrays(golden, clip):
        yield from golden.compare(name, lambda: model.beats.class_probabilities(torch.from_numpy(wave)[None])[0])
    yield from golden.compare(f"whisper_{clip}", lambda: _speech(golden, clip)[golden.rows(f"whisper_rows_{clip}")])
    yield from golden.compare(f"audio_tokens_{clip}", lambda: model.encode(wave.astype(np.float32)).tokens)
    yield from golden.compare(
        f"audio_atts_{clip}", lambda: torch.ones(len(model.encode(wave.astype(np.float32)).tokens))
    )


def _class_arrays(golden: Golden, clip: str) -> list[str]:
    """What a fine-tuned BEATs says of a clip, whatever the set calls it: (predictor_class,)."""
    config = golden.model.beats.config
    shape = (config.predictor_class,) if config.finetuned_model else None
    return [
        name
        for name, array in golden.arrays.items()
        if array.shape == shape and name.startswith("beats") and name.endswith(f"_{clip}")
    ]


def _prompt(golden: Golden, audio: Tensor) -> Tensor:
    """[BOS, before, audio, after] as embeddings; the set gives ids, since it has no tokenizer."""
    llm = golden.model.llm
    before, after = (torch.from_numpy(golden.inputs[f"prompt_{half}_ids"]) for half in ("before", "after"))
    start = torch.tensor([int(golden.inputs["bos_id"])])
    return torch.cat((llm.embed(torch.cat((start, before))), audio, llm.embed(after)))


def _answering(golden: Golden, clip: str) -> Iterator[Row]:
    model = golden.model
    assert isinstance(model.llm, PeftLlm)
    audio = model.encode(golden.wave(clip).astype(np.float32)).tokens
    prompt = _prompt(golden, audio)
    rows = golden.rows(f"logits_rows_{clip}")
    for label, scale in golden.lora_scales.items():
        yield from golden.compare(f"logits_{label}_{clip}", partial(_logits, model.llm, prompt, scale, rows))
        name = f"beam4_{label}_{clip}"
        if name in golden.arrays:
            beams = _beams(model.llm, prompt, scale, len(golden.arrays[name]))
            yield from golden.compare(name, constant(beams))
        name = f"greedy_{label}_{clip}"
        if name in golden.arrays:
            ids, margins = _greedy(model.llm, prompt, scale, len(golden.arrays[name]))
            yield from golden.compare(name, constant(ids))
            yield from golden.compare(f"greedy_margin_{label}_{clip}", constant(margins))


def _logits(llm: PeftLlm, prompt: Tensor, scale: float, rows: Any) -> Tensor:
    return llm.logits(prompt, scale)[rows]


def _beams(llm: PeftLlm, prompt: Tensor, scale: float, steps: int) -> Tensor:
    """The reference's own default, four beams, by transformers' search over our prompt."""
    llm.set_lora_scale(scale)
    return llm.model.generate(
        inputs_embeds=prompt[None],
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        num_beams=BEAMS,
        do_sample=False,
        max_new_tokens=steps,
    )[0]


def _greedy(llm: PeftLlm, prompt: Tensor, scale: float, steps: int) -> tuple[list[int], list[float]]:
    """Greedy ids and, for each, how far it was ahead of the second."""
    state, logits = llm.prefill([prompt], scale)
    ids: list[int] = []
    margins: list[float] = []
    for step in range(steps):
        first, second = logits[0].topk(2).values.tolist()
        ids.append(int(logits[0].argmax()))
        margins.append(first - second)
        if step + 1 < steps:
            state, logits = llm.step(state, torch.tensor([ids[-1]]), scale)
    return ids, margins


def _batch(golden: Golden) -> Iterator[Row]:
    """Two clips padded to one length, as the reference's collater does."""
    if len(golden.clips) < 2:
        return
    names = golden.clips[:2]
    clips = [torch.from_numpy(golden.wave(clip)) for clip in names]
    batch = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    padding = torch.arange(batch.shape[1])[None] >= torch.tensor([len(clip) for clip in clips])[:, None]
    fbank = beats_fbank(batch)
    heard = golden.model.beats(batch, padding)
    frames = shrink_mask(padding, fbank.shape[1])
    yield from golden.compare(f"batch_fbank_{names[0]}_padded", lambda: fbank[0])
    yield from golden.compare("batch_fbank_mask", lambda: frames)
    yield from golden.compare("batch_beats_mask", lambda: shrink_mask(frames, heard.shape[1]))
    yield from golden.compare("batch_beats", lambda: heard)
    speech = [_speech(golden, clip) for clip in names]
    tokens = torch.stack([golden.model.bridge(s, a) for s, a in zip(speech, heard, strict=True)])
    yield from golden.compare("batch_audio_tokens", lambda: tokens)
    yield from golden.compare("batch_audio_atts", lambda: torch.ones(tokens.shape[:2]))


def _inside(golden: Golden) -> Iterator[Row]:
    """Intermediate arrays of the shortest clip, and the position buckets."""
    beats, bridge = golden.model.beats, golden.model.bridge
    if "rel_bucket_dist" in golden.arrays:
        golden.used.add("rel_bucket_dist")
        config = beats.config
        distance = torch.from_numpy(golden.arrays["rel_bucket_dist"])
        yield from golden.compare(
            "rel_bucket", lambda: relative_position_bucket(distance, config.num_buckets, config.max_distance)
        )
    if not golden.clips:
        return
    clip = golden.clips[0]
    fbank = beats_fbank(torch.from_numpy(golden.wave(clip))[None])
    patches = beats.layer_norm(beats.patch_embedding(fbank[:, None]).flatten(2).transpose(1, 2))
    projected = beats.post_extract_proj(patches)
    placed = beats.encoder.pos_conv[0](projected)
    yield from golden.compare("dbg_beats_patch_ln", lambda: patches[0])
    yield from golden.compare("dbg_beats_proj", lambda: projected[0])
    yield from golden.compare("dbg_beats_posconv", lambda: placed[0])
    x = beats.encoder.layer_norm(projected + placed)
    bias = beats.encoder.layers[0].self_attn.position_bias(x.shape[1])  # type: ignore[operator,union-attr]
    yield from golden.compare(f"dbg_beats_pos_bias_{clip}", lambda: bias)
    for index, layer in enumerate(beats.encoder.layers):
        x = layer(x, bias, None)
        yield from golden.compare(f"dbg_beats_layer{index}", constant(x[0]))
    joined = bridge.join(_speech(golden, clip), _beats(golden, clip))
    windows = bridge.windows(joined)
    yield from golden.compare("dbg_qformer_in_w0_3", lambda: windows[[0, 1, 2, 3, -1]])
    queries = bridge.query_tokens.expand(len(windows), -1, -1)
    yield from golden.compare(
        "dbg_qformer_out",
        lambda: bridge.qformer(query_embeds=queries, encoder_hidden_states=windows).last_hidden_state,
    )


def _probes(golden: Golden) -> Iterator[Row]:
    """Inputs that expose mistakes which ordinary clips hide."""
    if len(golden.clips) < 2:
        return
    model, bridge = golden.model, golden.model.bridge
    clip, longer = golden.clips[:2]
    speech, audio = _speech(golden, clip), _beats(golden, clip)
    yield from golden.compare("tiny_in_2e-3", lambda: bridge(speech * 2e-3, audio * 2e-3))
    yield from golden.compare("beats_longer", lambda: bridge(speech[:100], _beats(golden, longer)))
    short = golden.wave(clip)[:SHORT_SAMPLES]
    padded = torch.from_numpy(np.pad(short, (0, 16_000 - len(short))))[None]
    yield from golden.compare("short04_fbank", lambda: beats_fbank(padded)[0])
    yield from golden.compare("short04_beats", lambda: model.beats(padded)[0])
    yield from golden.compare("short04_audio_tokens", lambda: model.encode(short.astype(np.float32)).tokens)
    trained = bridge.query_tokens.data
    bridge.query_tokens.data = trained * 2e-3
    try:
        yield from golden.compare("tiny_query_2e-3", lambda: bridge(speech, audio))
    finally:
        bridge.query_tokens.data = trained


def table(rows: list[Row], left: list[str]) -> str:
    """The comparison as text, misses marked, arrays that nothing here computes at the end."""
    lines = [f"{'':4} {'array':28} {'shape':18} {'max |diff|':>10} {'tolerance':>10}"]
    for row in rows:
        mark = "ok" if row.passed else "MISS"
        lines.append(f"{mark:4} {row.name:28} {row.shape!s:18} {row.difference:10.1e} {row.tolerance:10.0e}")
    missed = sum(not row.passed for row in rows)
    lines.append(f"{len(rows) - missed} of {len(rows)} arrays agree")
    if left:
        lines.append(f"not compared: {', '.join(left)}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m salmonn_core.parity", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="reference vectors, for example ../shared/golden")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each array")
    arguments = parser.parse_args()
    try:
        golden = open_golden(arguments.folder)
        rows = list(compare(golden))
    except UserError as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        for row in rows:
            print(json.dumps(row.__dict__ | {"passed": row.passed}))
    else:
        print(table(rows, sorted(set(golden.arrays) - golden.used)))
    sys.exit(any(not row.passed for row in rows))


if __name__ == "__main__":
    main()
