"""The paper's stages on cached encoder features: pre-training, instruction tuning, activation tuning.

Bridge and LoRA are trained on the LLM's loss, with a small CTC term that keeps the audio tokens next
to the embeddings of their words. The LLM's logits are computed only where there are labels.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from salmonn_core.bridge import Bridge
from salmonn_core.config import LoraConfig, PromptConfig
from salmonn_core.loading import load_llm, lora_state, part, with_lora
from salmonn_core.prompts import build_prompt
from salmonn_core.training.align import CtcHead
from salmonn_core.training.classify import SMALL
from salmonn_core.training.corpus import SPEECH_WIDTH, TINY_QFORMER, Clip, Features, bucketed, load_clips
from salmonn_core.training.pieces import Pieces
from salmonn_core.training.tasks import Example, allowed, draw
from salmonn_core.weights.safe import read_safetensors

TINY_LORA = LoraConfig(
    rank=16,
    alpha=32,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
# SmolLM2-Instruct's own chat format around the official speech part: the base was tuned on it.
TINY_PROMPT = PromptConfig(template="<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", bos=False)
CTC_WEIGHT = 0.3
IGNORED = -100


@dataclass
class Trainee:
    """Everything a step needs."""

    bridge: Bridge
    head: CtcHead
    llm: Any
    tokenizer: Any
    pieces: Pieces
    features: Features

    def ids(self, text: str) -> Tensor:
        return torch.tensor(self.tokenizer(text, add_special_tokens=False).input_ids, dtype=torch.long)

    def loss(self, examples: list[Example]) -> tuple[Tensor, Tensor]:
        """The LLM's mean loss a label token and the CTC loss of the speech clips."""
        pairs = [self.features[e.clip.path] for e in examples]
        with torch.autocast("cpu", torch.bfloat16):
            audio = self.bridge.forward_batch([s for s, _ in pairs], [a for _, a in pairs])
            embeds, labels = self._batch(examples, audio)
            hidden = self.llm.base_model.model.model(inputs_embeds=embeds).last_hidden_state
            # Position i predicts token i + 1; only labelled positions pay for 49,152 logits.
            wanted = labels[:, 1:] != IGNORED
            logits = self.llm.base_model.model.lm_head(hidden[:, :-1][wanted])
        loss = F.cross_entropy(logits.float(), labels[:, 1:][wanted])
        return loss, self._ctc(examples, audio)

    def _batch(self, examples: list[Example], audio: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Right-padded input embeddings (batch, longest, width) and labels (batch, longest)."""
        table = self.llm.get_input_embeddings()
        rows, labels = [], []
        for example, heard in zip(examples, audio, strict=True):
            halves = build_prompt(TINY_PROMPT, example.instruction)
            before, after = self.ids(halves.before), self.ids(halves.after)
            answer = torch.cat((self.ids(example.answer), torch.tensor([self.tokenizer.eos_token_id])))
            rows.append(torch.cat((table(before), heard.to(table.weight.dtype), table(after), table(answer))))
            unlabelled = torch.full((len(before) + len(heard) + len(after),), IGNORED)
            labels.append(torch.cat((unlabelled, answer)))
        pad = nn.utils.rnn.pad_sequence
        return pad(rows, batch_first=True), pad(labels, batch_first=True, padding_value=IGNORED)

    def _ctc(self, examples: list[Example], audio: list[Tensor]) -> Tensor:
        targets = [self.pieces.ids(e.clip.text) for e in examples]
        known = [i for i, t in enumerate(targets) if all(token in self.head.class_of for token in t)]
        if not known:
            return torch.zeros(())
        return self.head.loss([audio[i] for i in known], [targets[i] for i in known])


def build(arguments: argparse.Namespace) -> Trainee:
    llm, tokenizer = load_llm(arguments.llm, "fp32")
    llm.requires_grad_(False)
    llm = with_lora(llm, TINY_LORA)
    for name, parameter in llm.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    state = load_file(arguments.start)
    with safe_open(arguments.start, framework="pt") as file:
        tokens = json.loads(file.metadata()["tokens"])
    embeddings = read_safetensors(arguments.llm / "model.safetensors")["model.embed_tokens.weight"]
    bridge = Bridge(TINY_QFORMER, SPEECH_WIDTH, SMALL.encoder_embed_dim, embeddings.shape[1])
    head = CtcHead(embeddings, tokens)
    bridge.load_state_dict(part(state, "bridge."))
    head.load_state_dict(part(state, "head."))
    features = Features(arguments.whisper, arguments.beats, SMALL)
    trainee = Trainee(bridge, head, llm, tokenizer, Pieces(arguments.llm), features)
    lora = part(state, "lora.")
    if lora:
        llm.load_state_dict(lora, strict=False)  # a subset by design; its names were checked when saved
    else:
        _match_norm(trainee, embeddings)
    return trainee


def _match_norm(trainee: Trainee, embeddings: Tensor) -> None:
    """Scale the projection so that audio tokens are as long as word embeddings (CTC sees only directions)."""
    wanted = embeddings.float().norm(dim=-1).mean()
    probe = [trainee.features[path] for path in trainee.features.some(16)]
    with torch.inference_mode():
        tokens = torch.cat(trainee.bridge.forward_batch([s for s, _ in probe], [a for _, a in probe]))
    factor = (wanted / tokens.norm(dim=-1).mean()).item()
    trainee.bridge.projection.weight.data *= factor
    trainee.bridge.projection.bias.data *= factor


def save(trainee: Trainee, path: Path) -> None:
    state = {f"bridge.{k}": v for k, v in trainee.bridge.state_dict().items()}
    state |= {f"head.{k}": v for k, v in trainee.head.state_dict().items()}
    state |= {f"lora.{k}": v for k, v in lora_state(trainee.llm).items()}
    partial = path.with_suffix(".partial")
    save_file(
        {k: v.detach().contiguous() for k, v in state.items()},
        partial,
        {"tokens": json.dumps(trainee.head.tokens)},
    )
    partial.rename(path)


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    rng = random.Random(arguments.seed)
    trainee = build(arguments)
    answers = json.loads(arguments.answers.read_text()) if arguments.answers else {}
    clips = [c for c in load_clips(arguments.train) if c.path in trainee.features]
    clips = [c for c in clips if allowed(c, arguments.stage, answers)]
    parameters = [
        {"params": [*trainee.bridge.parameters(), *trainee.head.parameters()], "lr": arguments.lr_bridge},
        {"params": [p for p in trainee.llm.parameters() if p.requires_grad], "lr": arguments.lr_lora},
    ]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.01)
    lengths = [(i, trainee.features.frames(c.path)) for i, c in enumerate(clips) for _ in range(_repeats(c, answers))]
    print(f"{len(clips)} clips, {len(lengths)} draws an epoch, stage {arguments.stage}", flush=True)
    progress = Progress(arguments)
    while not progress.over:
        for batch in bucketed(lengths, arguments.budget, rng):
            examples = [draw(clips[i], arguments.stage, answers, rng) for i in batch]
            for group, rate in zip(optimizer.param_groups, (arguments.lr_bridge, arguments.lr_lora), strict=True):
                group["lr"] = rate * progress.warmth()
            loss, ctc = trainee.loss(examples)
            optimizer.zero_grad()
            (loss + CTC_WEIGHT * ctc).backward()
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
            optimizer.step()
            if progress.stepped(loss.item(), ctc.item(), len(examples)):
                save(trainee, arguments.out)
            if progress.over:
                break
    save(trainee, arguments.out)


def _repeats(clip: Clip, answers: dict[str, str]) -> int:
    """Sounds and answered questions are few; they are drawn more often than plain transcripts."""
    if clip.kind != "speech":
        return 3
    return 3 if f"QA:{clip.text}" in answers or f"story:{clip.text}" in answers else 1


@dataclass
class Progress:
    """Time-boxed progress: warm-up, cosine cool-down to the time limit, running means, when to save."""

    arguments: argparse.Namespace

    def __post_init__(self) -> None:
        self.begun, self.step, self.seen = time.monotonic(), 0, 0
        self.means = [0.0, 0.0]

    @property
    def share(self) -> float:
        return (time.monotonic() - self.begun) / (60.0 * self.arguments.minutes)

    @property
    def over(self) -> bool:
        return self.share >= 1.0

    def warmth(self) -> float:
        cooling = 0.5 * (1.0 + float(torch.cos(torch.tensor(torch.pi * min(1.0, self.share)))))
        return min(1.0, (self.step + 1) / 15) * max(0.03, cooling)

    def stepped(self, loss: float, ctc: float, clips: int) -> bool:
        self.step += 1
        self.seen += clips
        for i, value in enumerate((loss, ctc)):
            self.means[i] += (value - self.means[i]) / min(self.step, 50)
        if self.step % 10 == 0:
            seconds = time.monotonic() - self.begun
            print(
                f"step {self.step} clips {self.seen} loss {self.means[0]:.3f} ctc {self.means[1]:.3f} {seconds:.0f} s",
                flush=True,
            )
        return self.step % 50 == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=("pretrain", "instruct", "activate"), required=True)
    parser.add_argument("--train", nargs="+", type=Path, required=True, help="manifests")
    parser.add_argument("--answers", type=Path, help="JSON of the base LLM's own answers")
    parser.add_argument("--whisper", nargs="+", type=Path, required=True, help="feature stores")
    parser.add_argument("--beats", nargs="*", type=Path, default=[], help="feature stores")
    parser.add_argument("--llm", type=Path, required=True)
    parser.add_argument("--start", type=Path, required=True, help="checkpoint of the stage before")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--budget", type=int, default=2400, help="encoder frames a batch (50 a second)")
    parser.add_argument("--lr-bridge", type=float, default=3e-4)
    parser.add_argument("--lr-lora", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)


if __name__ == "__main__":
    main()
