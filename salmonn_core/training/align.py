"""Stage 0: teach the bridge alone to put audio tokens next to the embeddings of the words spoken.

CTC whose classifier is the LLM's own frozen input-embedding matrix: logits are the cosine between an
audio token and each embedding times a learned scale, over the tokens that occur in the set, plus a
learned blank. No LLM runs, so a step costs a few hundredths of the later stages; without it the LLM's
loss sits on a plateau for thousands of steps.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path

import jiwer
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from salmonn_core.bridge import Bridge, pad_tokens
from salmonn_core.loading import part
from salmonn_core.training.classify import SMALL
from salmonn_core.training.corpus import SPEECH_WIDTH, TINY_QFORMER, Clip, Features, bucketed, load_clips
from salmonn_core.training.pieces import Pieces
from salmonn_core.weights.safe import read_safetensors

INITIAL_SCALE = 20.0
# Wrong classes that a step compares with: all twenty thousand would cost more than the Q-Former itself.
NEGATIVES = 4096


class CtcHead(nn.Module):
    """Cosine classifier over a subset of the LLM's vocabulary; class 0 is the blank."""

    def __init__(self, embeddings: Tensor, tokens: list[int]) -> None:
        super().__init__()
        self.register_buffer("classes", F.normalize(embeddings[tokens].float(), dim=-1), persistent=False)
        self.tokens = tokens
        self.class_of = {token: i + 1 for i, token in enumerate(tokens)}
        self.scale = nn.Parameter(torch.tensor(INITIAL_SCALE).log())
        self.blank = nn.Linear(embeddings.shape[1], 1)
        nn.init.zeros_(self.blank.weight)
        nn.init.constant_(self.blank.bias, 2.0)

    def forward(self, audio_tokens: Tensor, only: Tensor | None = None) -> Tensor:
        """(batch, length, width) to log-probabilities (batch, length, 1 + classes), of `only` some classes."""
        direction = F.normalize(audio_tokens.float(), dim=-1)
        classes: Tensor = self.classes if only is None else self.classes[only]  # type: ignore[assignment,index]
        cosine = direction @ classes.T * self.scale.exp()
        return torch.cat((self.blank(direction), cosine), dim=-1).log_softmax(dim=-1)

    def loss(self, audio_tokens: list[Tensor], targets: list[list[int]]) -> Tensor:
        """Mean CTC loss a target token, against a sample of the classes; clips too short for their text count zero."""
        wanted = torch.tensor([self.class_of[t] - 1 for target in targets for t in target])
        sample = torch.randperm(len(self.tokens))[:NEGATIVES]
        only = torch.cat((wanted, sample)).unique()
        parts = torch.searchsorted(only, wanted).split([len(t) for t in targets])
        classes = [part + 1 for part in parts]  # class 0 is the blank
        log_probs = self(pad_tokens(audio_tokens), only).transpose(0, 1)
        lengths = torch.tensor([len(t) for t in audio_tokens])
        target_lengths = torch.tensor([len(c) for c in classes])
        return F.ctc_loss(log_probs, torch.cat(classes), lengths, target_lengths, zero_infinity=True)

    def greedy(self, audio_tokens: Tensor) -> list[int]:
        """LLM token ids of one clip: best class a step, repeats merged, blanks dropped."""
        best = self(audio_tokens[None])[0].argmax(dim=-1).tolist()
        kept = [c for i, c in enumerate(best) if c and (i == 0 or best[i - 1] != c)]
        return [self.tokens[c - 1] for c in kept]


@dataclass
class Aligner:
    """The bridge, the CTC head and what they need."""

    bridge: Bridge
    head: CtcHead
    features: Features
    pieces: Pieces

    def ids(self, clip: Clip) -> list[int]:
        return self.pieces.ids(clip.text)

    def tokens(self, clips: list[Clip]) -> list[Tensor]:
        pairs = [self.features[clip.path] for clip in clips]
        return self.bridge.forward_batch([s for s, _ in pairs], [a for _, a in pairs])

    def word_error_rate(self, clips: list[Clip]) -> float:
        self.bridge.eval()
        with torch.inference_mode():
            said = [self.pieces.text(self.head.greedy(t)) for t in self.tokens(clips)]
        self.bridge.train()
        return float(jiwer.wer([clip.text for clip in clips], said))


def save(aligner: Aligner, path: Path, step: int) -> None:
    state = {f"bridge.{k}": v.contiguous() for k, v in aligner.bridge.state_dict().items()}
    state |= {f"head.{k}": v.contiguous() for k, v in aligner.head.state_dict().items()}
    metadata = {"step": str(step), "tokens": json.dumps(aligner.head.tokens)}
    partial = path.with_suffix(".partial")
    save_file(state, partial, metadata)
    partial.rename(path)


def build(arguments: argparse.Namespace) -> tuple[Aligner, list[Clip], dict[str, list[Clip]]]:
    pieces = Pieces(arguments.llm)
    embeddings = read_safetensors(arguments.llm / "model.safetensors")["model.embed_tokens.weight"]
    features = Features(arguments.whisper, arguments.beats, SMALL)
    clips = [clip for clip in load_clips(arguments.train) if clip.path in features]
    dev = {p.parent.name + "/" + p.stem: [c for c in load_clips([p]) if c.path in features] for p in arguments.dev}
    used = {t for part in (clips, *dev.values()) for c in part for t in pieces.ids(c.text)}
    bridge = Bridge(TINY_QFORMER, SPEECH_WIDTH, SMALL.encoder_embed_dim, embeddings.shape[1])
    silence_missing_stream(bridge)
    head = CtcHead(embeddings, sorted(used))
    if arguments.start:
        state = load_file(arguments.start)
        bridge.load_state_dict(part(state, "bridge."))
        head.load_state_dict(part(state, "head."))
    return Aligner(bridge, head, features, pieces), clips, dev


def silence_missing_stream(bridge: Bridge) -> None:
    """Start deaf to BEATs: its columns of the cross-attention are zero, so it can join later without a jolt."""
    for layer in bridge.qformer.encoder.layer:
        attention = layer.crossattention.attention
        for linear in (attention.key, attention.value):
            linear.weight.data[:, SPEECH_WIDTH:] = 0.0


def train(arguments: argparse.Namespace) -> None:
    torch.manual_seed(arguments.seed)
    rng = random.Random(arguments.seed)
    aligner, clips, dev = build(arguments)
    print(f"{len(clips)} clips, {len(aligner.head.tokens)} tokens, dev { ({k: len(v) for k, v in dev.items()}) }")
    parameters = [*aligner.bridge.parameters(), *aligner.head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, arguments.lr, total_steps=arguments.steps, pct_start=0.05)
    lengths = [(i, aligner.features.frames(c.path)) for i, c in enumerate(clips)]
    begun, step, mean = time.monotonic(), 0, 0.0
    aligner.bridge.train()
    while step < arguments.steps:
        for batch in bucketed(lengths, arguments.budget, rng):
            chosen = [clips[i] for i in batch]
            with torch.autocast("cpu", torch.bfloat16):
                tokens = aligner.tokens(chosen)
            loss = aligner.head.loss(tokens, [aligner.ids(clip) for clip in chosen])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            mean += (loss.item() - mean) / min(step, 50)
            if step % 50 == 0:
                print(f"step {step} loss {mean:.3f} {time.monotonic() - begun:.0f} s", flush=True)
            if step % 250 == 0 or step == arguments.steps:
                report = {name: round(aligner.word_error_rate(part), 3) for name, part in dev.items()}
                print(f"step {step} wer {report}", flush=True)
                save(aligner, arguments.out, step)
            if step == arguments.steps:
                break


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--train", nargs="+", type=Path, required=True, help="manifests")
    parser.add_argument("--dev", nargs="+", type=Path, required=True, help="manifests of unseen voices")
    parser.add_argument("--whisper", nargs="+", type=Path, required=True, help="feature stores")
    parser.add_argument("--beats", nargs="*", type=Path, default=[], help="feature stores")
    parser.add_argument("--llm", type=Path, required=True)
    parser.add_argument("--start", type=Path, help="continue from this checkpoint's weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--budget", type=int, default=6000, help="encoder frames a batch (50 a second)")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)


if __name__ == "__main__":
    main()
