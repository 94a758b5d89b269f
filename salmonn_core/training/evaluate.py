"""Measure a model folder on clips that training never saw, greedy decoding: word error rate and sound labels."""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import jiwer
import torch
from tqdm import tqdm
from transformers.models.whisper.english_normalizer import BasicTextNormalizer

from salmonn_core import Salmonn
from salmonn_core.training.corpus import Clip, load_clips

ESC_10 = (
    "dog",
    "rooster",
    "rain",
    "sea waves",
    "crying baby",
    "clock tick",
    "sneeze",
    "helicopter",
    "chainsaw",
    "fire",
)


def interval(right: list[float], seed: int = 0, draws: int = 1000) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval."""
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(right, k=len(right))) / len(right) for _ in range(draws))
    return sum(right) / len(right), means[int(0.025 * draws)], means[int(0.975 * draws)]


def word_error_rate(model: Salmonn, clips: list[Clip], log: list[dict[str, str]]) -> dict[str, object]:
    """WER over all words, with a bootstrap interval over clips."""
    normal = BasicTextNormalizer()
    pairs = []
    for clip in tqdm(clips, mininterval=20):
        heard = normal(model.ask(clip.path, "Transcribe the speech."))
        pairs.append((normal(clip.text), heard))
        log.append({"path": Path(clip.path).name, "said": clip.text, "heard": heard})
    rng = random.Random(0)
    wers = sorted(_wer(rng.choices(pairs, k=len(pairs))) for _ in range(200))
    return {"measure": "WER", "clips": len(pairs), "value": round(_wer(pairs), 3),
            "low": round(wers[5], 3), "high": round(wers[194], 3)}  # fmt: skip


def _wer(pairs: list[tuple[str, str]]) -> float:
    return float(jiwer.wer([said for said, _ in pairs], [heard for _, heard in pairs]))


def named_sounds(model: Salmonn, clips: list[Clip], log: list[dict[str, str]]) -> dict[str, object]:
    """Share of clips one of whose labels is named in the caption, by its longest word's stem."""
    right = []
    for clip in tqdm(clips, mininterval=20):
        heard = model.ask(clip.path, "Describe the sound.").lower()
        labels: list[str] = clip.row["labels"]
        right.append(float(any(_names(label, heard) for label in labels)))
        log.append({"path": Path(clip.path).name, "said": ", ".join(labels), "heard": heard})
    mean, low, high = interval(right)
    return {"measure": "label named", "clips": len(right), "value": round(mean, 3), "low": round(low, 3),
            "high": round(high, 3)}  # fmt: skip


def _names(label: str, caption: str) -> bool:
    """Whether a caption names a label: the stem of each of its words, four letters, is there."""
    return all(word[:4] in caption for word in label.split() if len(word) > 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="salmonn-tiny", help="bundled name or folder")
    parser.add_argument("--speech", nargs="*", type=Path, default=[], help="manifests")
    parser.add_argument("--sounds", nargs="*", type=Path, default=[], help="manifests")
    parser.add_argument("--limit", type=int, default=1000, help="clips a manifest")
    parser.add_argument("--out", type=Path, required=True, help="JSON with the table and every answer")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    model = Salmonn.from_pretrained(arguments.model)
    table: list[dict[str, object]] = []
    log: list[dict[str, str]] = []
    begun = time.monotonic()
    for kind, manifests in (("speech", arguments.speech), ("sounds", arguments.sounds)):
        for manifest in manifests:
            clips = load_clips([manifest])
            random.Random(0).shuffle(clips)
            measure = word_error_rate if kind == "speech" else named_sounds
            row = {"set": f"{manifest.parent.name}/{manifest.stem}", **measure(model, clips[: arguments.limit], log)}
            table.append(row)
            print(json.dumps(row), flush=True)
            if kind == "sounds":
                known = [c for c in clips if any(n in " ".join(c.row["labels"]) for n in ESC_10)]  # type: ignore[arg-type]
                ten = {"set": "ten common classes", **named_sounds(model, known[: arguments.limit], [])}
                table.append(ten)
                print(json.dumps(ten), flush=True)
    result = {"seconds": round(time.monotonic() - begun), "table": table, "answers": log}
    arguments.out.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
