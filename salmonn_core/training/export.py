"""Join a stage's checkpoint and the BEATs encoder into the model folder that ships."""

from __future__ import annotations

import argparse
from pathlib import Path

from safetensors.torch import load_file

from salmonn_core.config import SalmonnConfig
from salmonn_core.loading import save
from salmonn_core.training.classify import SMALL, load_beats
from salmonn_core.training.corpus import TINY_QFORMER
from salmonn_core.training.stages import TINY_LORA, TINY_PROMPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, help="of a training stage")
    parser.add_argument("--beats", type=Path, required=True)
    parser.add_argument("--stage", required=True, help="name of the last stage, for config.json")
    parser.add_argument("--out", type=Path, required=True, help="model folder")
    arguments = parser.parse_args()
    state = {k: v for k, v in load_file(arguments.checkpoint).items() if k.startswith(("bridge.", "lora."))}
    state |= {f"beats.{k}": v for k, v in load_beats(arguments.beats).state_dict().items()}
    config = SalmonnConfig(
        name="salmonn-tiny",
        beats=SMALL,
        qformer=TINY_QFORMER,
        lora=TINY_LORA,
        prompt=TINY_PROMPT,
        pad_to_30s=False,
        training_stage=arguments.stage,
        license="Apache-2.0; training data licences are listed in docs/model-card.md",
    )
    save(arguments.out, config, state)
    size = (arguments.out / "salmonn.safetensors").stat().st_size
    print(f"{arguments.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
