"""Throughput of `ask_many` beside one by one, in one process on the same cores, and whether the answers agree.

python -m benchmarks.batch examples/*.wav --repeat 8
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from salmonn_core import Salmonn, UserError
from salmonn_core.audio import read_audio


def measure(files: list[Path], instruction: str, threads: int) -> dict[str, float]:
    """Seconds of both ways over the same clips, their ratio, and the share of equal answers.

    Raises:
        UserError: a file that cannot be read.
    """
    torch.set_num_threads(threads)
    model = Salmonn.from_pretrained("salmonn-tiny")
    waves = [read_audio(file) for file in files]
    model.ask(waves[0], instruction)  # packs the weights
    list(model.ask_many(waves[:2], instruction))
    begun = time.perf_counter()
    alone = [model.ask(wave, instruction) for wave in waves]
    middle = time.perf_counter()
    together = dict(model.ask_many(waves, instruction))
    ended = time.perf_counter()
    same = sum(together[index] == answer for index, answer in enumerate(alone))
    return {
        "clips": len(waves),
        "alone_s": middle - begun,
        "together_s": ended - middle,
        "ratio": (middle - begun) / (ended - middle),
        "same": same / len(waves),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description="ask_many beside one by one")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--repeat", type=int, default=1, help="how often each file is asked about")
    parser.add_argument("--instruction", default="Transcribe the speech.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        row = measure(arguments.files * arguments.repeat, arguments.instruction, arguments.threads)
    except UserError as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        print(json.dumps(row))
    else:
        print(
            f"{row['clips']} clips: one by one {row['alone_s']:.1f} s, together {row['together_s']:.1f} s, "
            f"{row['ratio']:.2f} times the throughput (target 3), {row['same']:.0%} of the answers the same"
        )


if __name__ == "__main__":
    main()
