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
from typing import Literal

import torch
from torch import Tensor

from salmonn_core import GenerationOptions, Salmonn, UserError
from salmonn_core.audio import read_audio

Other = Literal["bf16", "int8"]


@torch.inference_mode()
def along(model: Salmonn, file: Path, instruction: str, answer: str) -> Tensor:
    """Log-probabilities of the next token after the prompt and after each token of an answer: (tokens + 1, vocabulary).

    Raises:
        UserError: a file that cannot be read.
    """
    ready = model.prompt(instruction, model.encode(read_audio(file)))
    state, logits = model.llm.prefill([ready.rest], 1.0, ready.prefix)
    rows = [logits]
    for token in model.ids(answer):
        state, logits = model.llm.step(state, token[None], 1.0)
        rows.append(logits)
    return torch.cat(rows).double().log_softmax(dim=-1)


def measure(files: Sequence[Path], instruction: str, tokens: int, others: Sequence[Other]) -> list[dict[str, float]]:
    """Of each precision over all positions of all files: the share of equal likeliest tokens, and the mean divergence
    KL(float32 || it) in nats."""
    options = GenerationOptions(max_new_tokens=tokens)
    model = Salmonn.from_pretrained("salmonn-tiny", precision="fp32")
    answers = [model.ask(file, instruction, options) for file in files]
    exact = [along(model, file, instruction, answer) for file, answer in zip(files, answers, strict=True)]
    found: list[dict[str, float]] = []
    for precision in others:
        model = Salmonn.from_pretrained("salmonn-tiny", precision=precision)
        near = torch.cat([along(model, file, instruction, answer) for file, answer in zip(files, answers, strict=True)])
        far = torch.cat(exact)
        same = (near.argmax(dim=-1) == far.argmax(dim=-1)).double().mean()
        divergence = (far.exp() * (far - near)).sum(dim=-1).mean()
        found.append({"positions": len(near), "same": float(same), "divergence": float(divergence)})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.precision", description="bf16 and int8 beside float32")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--instruction", default="Transcribe the speech.")
    parser.add_argument("--tokens", type=int, default=40, help="longest answer")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    others: tuple[Other, ...] = ("bf16", "int8")
    try:
        rows = dict(zip(others, measure(arguments.files, arguments.instruction, arguments.tokens, others), strict=True))
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
