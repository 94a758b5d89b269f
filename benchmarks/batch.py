"""Throughput of `ask_many` beside one by one, in one process on the same cores, and whether the answers agree.

    python -m benchmarks.batch examples/*.wav --repeat 8

The ratio of processor time is given too: unlike the clock's it hardly notices what else the machine does. What can be
gained depends on the answers' length, since only their tokens share what a batch reads once; it is printed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch

from salmonn_core import GenerationOptions, Salmonn, UserError
from salmonn_core.audio import read_audio
from salmonn_core.config import SAMPLE_RATE
from salmonn_core.model import BATCH

T = TypeVar("T")


@dataclass
class Timer:
    """Seconds of the clock and of the processor, over all its rounds."""

    clock: float = 0.0
    processor: float = 0.0

    def __call__(self, run: Callable[[], T]) -> T:
        clock, processor = time.perf_counter(), time.process_time()
        result = run()
        self.clock += time.perf_counter() - clock
        self.processor += time.process_time() - processor
        return result


def measure(
    files: list[Path], instruction: str, threads: int, tokens: int, batch: int, rounds: int
) -> dict[str, float]:
    """Seconds of both ways in turn over the same clips, their ratios, and the share of equal answers.

    Raises:
        UserError: a file that cannot be read.
    """
    torch.set_num_threads(threads)
    waves = [read_audio(file) for file in files]
    model = Salmonn.from_pretrained("salmonn-tiny")
    options = GenerationOptions(max_new_tokens=tokens)
    model.ask(waves[0], instruction)  # packs the weights
    list(model.ask_many(waves[:2], instruction))
    alone, together = Timer(), Timer()
    for _ in range(rounds):
        one_by_one = alone(lambda: [model.ask(wave, instruction, options) for wave in waves])
        batched = together(lambda: dict(model.ask_many(waves, instruction, options, batch)))
    return {
        "clips": len(waves),
        "mean_clip_s": sum(map(len, waves)) / SAMPLE_RATE / len(waves),
        "mean_tokens": sum(len(model.ids(answer)) for answer in one_by_one) / len(waves),
        "alone_s": alone.clock,
        "together_s": together.clock,
        "ratio": alone.clock / together.clock,
        "processor_ratio": alone.processor / together.processor,
        "same": sum(batched[index] == answer for index, answer in enumerate(one_by_one)) / len(waves),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch", description="ask_many beside one by one")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--repeat", type=int, default=1, help="how often each file is asked about")
    parser.add_argument("--instruction", default="Transcribe the speech.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=96, help="longest answer")
    parser.add_argument("--batch", type=int, default=BATCH, help="clips that are answered together")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        files = arguments.files * arguments.repeat
        settings = (arguments.instruction, arguments.threads, arguments.tokens, arguments.batch, arguments.rounds)
        row = measure(files, *settings)
    except UserError as error:
        sys.exit(f"error: {error}")
    if arguments.json:
        print(json.dumps(row))
    else:
        print(
            f"{row['clips']} clips of {row['mean_clip_s']:.1f} s, {row['mean_tokens']:.0f} tokens an answer: "
            f"one by one {row['alone_s']:.1f} s, together {row['together_s']:.1f} s, {row['ratio']:.2f} times the "
            f"throughput (target 3; {row['processor_ratio']:.2f} by processor time), "
            f"{row['same']:.0%} of the answers the same"
        )


if __name__ == "__main__":
    main()
