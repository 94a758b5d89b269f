"""The published model's speed on a GPU, on random weights of its sizes, beside the reference recipe and the memory.

    python -m benchmarks.gpu --size 13b

From a waveform on the host to the first token and its stages, tokens a second, peak memory, in bfloat16. Beside them
(a) the reference's own recipe: 30 s of padding, transformers' `generate` with four beams, float16 autocast; and (b)
what the memory allows: the weights that a token reads over the bandwidth of a copy on the same device. Random weights
cost what trained ones cost, so no checkpoint is needed. One size with `--rounds 3 --reference-rounds 1` takes half a
minute. `--size toy --device cpu` is how its code is tested.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from salmonn_core.audio import fit_length
from salmonn_core.beats import Beats
from salmonn_core.bridge import Bridge
from salmonn_core.config import SAMPLE_RATE, BeatsConfig, LoraConfig, QFormerConfig, SalmonnConfig
from salmonn_core.decode import GenerationOptions
from salmonn_core.errors import UserError
from salmonn_core.fused import TILE, TILES
from salmonn_core.loading import check_device, with_lora
from salmonn_core.model import Salmonn
from salmonn_core.static import StaticLlama
from salmonn_core.whisper import log_mel_there

TARGETS = {"first_ms": 60.0, "of_the_memory_limit": 0.75, "times_the_reference": 5.0}
INSTRUCTION = "Describe the sound in detail."
BEAMS = 4
COPY_BYTES = 1 << 30


@dataclass(frozen=True)
class Size:
    """Sizes of the parts, as the releases have them."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int = 32_000
    whisper_width: int = 1280
    whisper_layers: int = 32
    whisper_heads: int = 20
    beats: BeatsConfig = field(default_factory=BeatsConfig)
    qformer: QFormerConfig = field(default_factory=QFormerConfig)


TOY_BEATS = BeatsConfig(
    embed_dim=32, encoder_layers=2, encoder_embed_dim=64, encoder_ffn_embed_dim=128, encoder_attention_heads=2
)
TOY_QFORMER = QFormerConfig(hidden_size=64, attention_heads=2, intermediate_size=128)
SIZES = {
    "7b": Size(4096, 32, 32, 11_008),
    "13b": Size(5120, 40, 40, 13_824),
    "toy": Size(64, 2, 4, 128, 512, 64, 2, 2, TOY_BEATS, TOY_QFORMER),
}


class Characters:
    """Stands for a tokenizer: a character a token, and no token that ends an answer."""

    eos_token_id, eos_token, bos_token_id = -1, "", 1

    def __call__(self, text: str, **_: Any) -> Any:
        return argparse.Namespace(input_ids=[ord(letter) % 256 for letter in text])

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(chr(32 + index % 90) for index in ids)


def random_model(size: Size, device: str) -> Salmonn:
    """A published-size SALMONN in bfloat16, its weights drawn on the device."""
    torch.manual_seed(0)
    config = SalmonnConfig(beats=size.beats, qformer=size.qformer)
    llm = LlamaConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.width,
        intermediate_size=size.inner,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
    )
    whisper = WhisperConfig(
        d_model=size.whisper_width,
        encoder_layers=size.whisper_layers,
        encoder_attention_heads=size.whisper_heads,
        encoder_ffn_dim=4 * size.whisper_width,
    )
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            wrapped = frozen(with_lora(LlamaForCausalLM(llm), LoraConfig()))
            beats = Beats(config.beats)
            beats.fold()  # as the loader does
            parts = (
                frozen(WhisperEncoder(whisper)),
                frozen(beats),
                frozen(Bridge(config.qformer, size.whisper_width, config.beats.encoder_embed_dim, size.width)),
            )
    finally:
        torch.set_default_dtype(default)
    engine = StaticLlama(wrapped.to(torch.bfloat16), config.lora.alpha / config.lora.rank)
    return Salmonn(config, *parts, engine, Characters())


def frozen(module: nn.Module) -> Any:
    return module.eval().requires_grad_(False)


def synchronise(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def seconds(run: Callable[[], Any], device: str, rounds: int) -> float:
    """The median until it returns, after one round that is not counted; `finished` is for what returns too early."""
    run()
    taken = []
    for _ in range(rounds):
        synchronise(device)
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def finished(run: Callable[[], Any], device: str) -> Callable[[], None]:
    """The same until the device is done with it, for what leaves its result there."""

    def both() -> None:
        run()
        synchronise(device)

    return both


def answer(model: Salmonn, wave: np.ndarray, tokens: int) -> str:
    """Ours, from the waveform on the host."""
    return model.ask(wave, INSTRUCTION, GenerationOptions(max_new_tokens=tokens))


@torch.inference_mode()
def stages(model: Salmonn, wave: np.ndarray, device: str, rounds: int) -> dict[str, float]:
    """Milliseconds of what the first token waits for, each by itself and until the device is done with it.

    `hearing_ms` is all but the prompt together, as they overlap.
    """
    hearing, clip = model.hearing, fit_length(wave)
    bins = model.whisper.config.num_mel_bins
    samples = torch.from_numpy(clip).to(device)
    mel = log_mel_there(samples, bins)
    speech, audio = hearing.speech(mel), hearing.audio(samples)
    heard = model.encode(wave)

    def prompt() -> None:
        ready = model.prompt(INSTRUCTION, heard)
        state, _ = model.llm.prefill([ready.rest], 1.0, [ready.prefix])
        state.cut(len(ready.rest))  # as it is kept for the next question

    runs: dict[str, Callable[[], Any]] = {
        "log_mel_ms": lambda: log_mel_there(samples, bins),
        "whisper_ms": lambda: hearing.speech(mel),
        "beats_ms": lambda: hearing.audio(samples),
        "bridge_ms": lambda: hearing.heard(speech, audio),
        "hearing_ms": lambda: hearing.hear(clip),
        "prompt_ms": prompt,
    }
    return {name: 1000 * seconds(finished(run, device), device, rounds) for name, run in runs.items()}


@torch.inference_mode()
def reference(model: Salmonn, wave: np.ndarray, tokens: int, device: str) -> Any:
    """The recipe of the reference: the same parts under float16 autocast, `generate` with four beams."""
    kind = torch.device(device).type
    with torch.autocast("cuda", torch.float16) if kind == "cuda" else nullcontext():
        prompt = model.prompt(INSTRUCTION, model.encode(wave))
        return model.llm.model.generate(  # type: ignore[attr-defined]
            inputs_embeds=prompt.rest[None],
            attention_mask=torch.ones(1, len(prompt.rest), dtype=torch.long, device=device),
            num_beams=BEAMS,
            do_sample=False,
            max_new_tokens=tokens,
            min_new_tokens=tokens,
        )


def halve(model: Salmonn) -> None:
    """The reference's precision: casting bfloat16 at each product would make its recipe slower than it is."""
    for module in (model.whisper, model.beats, model.bridge, model.llm.model):  # type: ignore[attr-defined]
        module.half()


def copy_bandwidth(device: str, size: int) -> float:
    """Bytes read a second by a copy on the device, which reads and writes each byte once: twice what it copies."""
    source = torch.empty(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * size / seconds(finished(lambda: target.copy_(source), device), device, 10)


def read_bytes(model: Salmonn) -> int:
    """Bytes of weights that one token reads: all of the LLM's but the table of embeddings, of which it reads a row."""
    llm = model.llm.model  # type: ignore[attr-defined]
    table = llm.get_input_embeddings().weight
    return sum(weight.nbytes for weight in llm.parameters() if weight is not table)


def measure(
    size: Size,
    device: str,
    audio_s: float,
    tokens: int,
    rounds: int,
    reference_rounds: int = 1,
    copied: int = COPY_BYTES,
) -> dict[str, float]:
    """All figures of one size; without rounds of the reference those that it is not needed for.

    Raises:
        UserError: no such device.
    """
    device = check_device(device)
    cuda = torch.device(device).type == "cuda"
    wave = np.random.default_rng(0).standard_normal(int(audio_s * SAMPLE_RATE)).astype(np.float32) * 0.1
    if cuda:
        torch.cuda.set_device(device)  # whose clock and memory are asked from here on
    gc.collect()  # the size before this one: its recorded graphs and its weights hold each other
    model = random_model(size, device)
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    first = seconds(lambda: answer(model, wave, 1), device, rounds)
    whole = seconds(lambda: answer(model, wave, tokens), device, rounds)
    peak = torch.cuda.max_memory_allocated() if cuda else 0
    limit = copy_bandwidth(device, copied) / read_bytes(model)
    rate = (tokens - 1) / max(whole - first, 1e-9)
    figures = {
        "first_ms": 1000 * first,
        **stages(model, wave, device, rounds),
        "answer_ms": 1000 * whole,
        "tokens_per_s": rate,
        "peak_gb": peak / 1e9,
        "limit_tokens_per_s": limit,
        "of_the_memory_limit": rate / limit,
    }
    if not reference_rounds:
        return figures
    if cuda:
        halve(model)
    theirs = seconds(finished(lambda: reference(model, wave, tokens, device), device), device, reference_rounds)
    return figures | {"reference_ms": 1000 * theirs, "times_the_reference": theirs / whole}


def table(rows: dict[str, dict[str, float]]) -> str:
    """Markdown, the targets beside what they are for."""
    names = list(next(iter(rows.values())))
    heads = [f"{name} (target {TARGETS[name]:g})" if name in TARGETS else name for name in names]
    lines = [f"| size | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for size, row in rows.items():
        lines.append(f"| {size} | {' | '.join(f'{row[name]:.3g}' for name in names)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0], epilog="example: --size 7b --out gpu.json"
    )
    parser.add_argument("--size", choices=[*SIZES, "all"], default="all", help="all is 7b and 13b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--audio-s", type=float, default=10.0)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--reference-rounds", type=int, default=3, help="0 leaves the reference out")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    if arguments.tokens < 2:
        sys.exit("error: --tokens must be at least 2: the first is timed apart")
    sizes = ["7b", "13b"] if arguments.size == "all" else [arguments.size]
    on_gpu = torch.device(arguments.device).type == "cuda"
    rows = {}
    for name in sizes:
        copied = 1 << 24 if name == "toy" else COPY_BYTES
        values = (arguments.device, arguments.audio_s, arguments.tokens, arguments.rounds, arguments.reference_rounds)
        try:
            rows[name] = measure(SIZES[name], *values, copied)
        except UserError as error:
            sys.exit(f"error: {error}")
        machine = torch.cuda.get_device_name() if on_gpu else "CPU"
        if arguments.out:  # after each size: a lent machine may be taken back
            record(arguments.out, machine, rows)
    print(f"{machine}, torch {torch.__version__}, {arguments.audio_s:g} s of audio, {arguments.tokens} tokens\n")
    print(table(rows))


def record(path: Path, machine: str, rows: dict[str, dict[str, float]]) -> None:
    """The figures with what they were measured on and with."""
    tiles = [[*shape, *tile] for shape, tile in TILES.items()]
    about = {"machine": machine, "torch": torch.__version__, "tile": TILE, "tiles": tiles}
    sizes = {name: asdict(SIZES[name]) for name in rows}
    path.write_text(json.dumps(about | {"sizes": sizes, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
