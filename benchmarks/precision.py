"""How far the precisions of the CPU are from float32: the same answers, token by token, beside the reference's own.

    python -m benchmarks.precision examples/*.wav

Each file is asked in float32 first; the others are then fed that answer, and at each position the likeliest next token
and the whole distribution are compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from salmonn_core import GenerationOptions, Salmonn, UserError
from salmonn_core.audio import read_audio
from salmonn_core.loading import Precision

OTHERS: tuple[Precision, ...] = ("bf16", "int8")


@torch.inference_mode()
def along(model: Salmonn, waves: Sequence[np.ndarray], instruction: str, answers: Sequence[str]) -> Tensor:
    """Log-probabilities of the next token after each clip's prompt and after each token of its answer:
    (positions of all clips, vocabulary)."""
    rows = []
    for wave, answer in zip(waves, answers, strict=True):
        ready = model.prompt(instruction, model.encode(wave))
        state, logits = model.llm.prefill([ready.rest], 1.0, [ready.prefix])
        rows.append(logits)
        for token in model.ids(answer):
            state, logits = model.llm.step(state, token[None], 1.0)
            rows.append(logits)
    return torch.cat(rows).double().log_softmax(dim=-1)


def measure(files: Sequence[Path], instruction: str, tokens: int) -> dict[str, dict[str, float]]:
    """Of each precision over all positions of all files: the share of equal likeliest tokens, and the mean divergence
    KL(float32 || it) in nats.

    Raises:
        UserError: a file that cannot be read.
    """
    waves = [read_audio(file) for file in files]
    model = Salmonn.from_pretrained("salmonn-tiny", precision="fp32")
    answers = [model.ask(wave, instruction, GenerationOptions(max_new_tokens=tokens)) for wave in waves]
    exact = along(model, waves, instruction, answers)
    found: dict[str, dict[str, float]] = {}
    for precision in OTHERS:
        near = along(Salmonn.from_pretrained("salmonn-tiny", precision=precision), waves, instruction, answers)
        same = (near.argmax(dim=-1) == exact.argmax(dim=-1)).double().mean()
        divergence = (exact.exp() * (exact - near)).sum(dim=-1).mean()
        found[precision] = {"positions": len(near), "same": float(same), "divergence": float(divergence)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description="bf16 and int8 beside float32")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--instruction", default="Transcribe the speech.")
    parser.add_argument("--tokens", type=int, default=40, help="longest answer")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        rows = measure(arguments.files, arguments.instruction, arguments.tokens)
    except UserError as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        print(json.dumps(rows))
        return
    print("| precision | positions | same likeliest token | divergence (nats) |\n|---|---|---|---|")
    for name, row in rows.items():
        print(f"| {name} | {row['positions']} | {row['same']:.1%} | {row['divergence']:.4f} |")


if __name__ == "__main__":
    main()
