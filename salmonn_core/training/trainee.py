"""What a stage trains: the bridge and its CTC head, and from pre-training on the LLM's LoRA, as one module.

Bridge and LoRA are trained on the LLM's loss, with a small CTC term that keeps the audio tokens next
to the embeddings of their words. The LLM's logits are computed only where there are labels.
Losses are sums: their means are taken over a step's whole batch, however many processes share it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from salmonn_core.bridge import Bridge, Heard
from salmonn_core.config import LoraConfig, PromptConfig
from salmonn_core.errors import UserError
from salmonn_core.loading import float_type, load_llm, lora_state, part, with_lora
from salmonn_core.namer import Names, named
from salmonn_core.prompts import build_prompt
from salmonn_core.spelling import spellings
from salmonn_core.training.align import CtcHead, silence_missing_stream
from salmonn_core.training.checkpoints import folders
from salmonn_core.training.classify import SMALL
from salmonn_core.training.config import TrainConfig
from salmonn_core.training.corpus import SPEECH_WIDTH, TINY_QFORMER, Clip, Features, masked, whole_windows
from salmonn_core.training.features import accelerator
from salmonn_core.training.learned import Learned, learned
from salmonn_core.training.naming import crossed, fit, known_labels, unspoken, votes_of, words_of
from salmonn_core.training.pieces import Pieces
from salmonn_core.training.sharding import whole
from salmonn_core.training.tasks import Example
from salmonn_core.weights.safe import read_safetensors, write_safetensors
from salmonn_core.weights.sources import locate

TINY_LORA = LoraConfig(
    rank=16,
    alpha=32,
    targets=("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
)
# SmolLM2-Instruct's own chat format around the official speech part: the base was tuned on it.
TINY_PROMPT = PromptConfig(template="<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n", bos=False)
IGNORED = -100
ALIKE = {"cpu": 1.3, "cuda": 3.0}  # a GPU is through with padding before the next group is laid out for it
PROBED_CLIPS = 16
PLACES_RATE = 10.0  # attention scores are a thousand times larger than a step of the bridge's rate
REMEMBERED = 1 << 16  # texts: instructions come again and again, and an answer is asked for twice
CROSSED = "crossed.safetensors"


class Trainee(nn.Module):
    """Bridge with its namer, CTC head and, unless this is the alignment, an LLM with LoRA."""

    def __init__(
        self, bridge: Bridge, head: CtcHead, labels: list[str], llm: Any, tokenizer: Any, pieces: Pieces, bf16: bool
    ) -> None:
        super().__init__()
        self.bridge, self.head, self.labels, self.llm = bridge, head, labels, llm
        self.tokenizer, self.pieces, self.bf16 = tokenizer, pieces, bf16
        self.spelled = spellings(head.tokens, pieces.parts)
        self.ids = lru_cache(REMEMBERED)(self._ids)
        self.crossed: Mapping[str, Tensor] = {}
        self.masking = 0.0  # share of what is heard that training hides
        self.learn: frozenset[str] = frozenset()  # tasks; the answers to others stay as they were
        self.before: dict[str, Tensor] = {}  # the LoRA that gave them

    @property
    def device(self) -> torch.device:
        return self.bridge.projection.weight.device

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def weight(self, example: Example) -> float:
        """How much an example counts in the LLM's loss: the root of its label tokens, its end included.

        By tokens alone a sound's three-word label is a tenth of a long sentence, and sounds are never learned.
        """
        return 0.0 if self.llm is None else math.sqrt(len(self.ids(example.answer)) + 1)

    def worth(self, spelled: list[int]) -> float:
        """How much a clip counts in the CTC loss: as much as any other."""
        return 1.0

    def compared(self, spelled: list[list[int]], generator: torch.Generator) -> Tensor:
        """As `CtcHead.compared`."""
        return self.head.compared(spelled, generator)

    def spelling(self, example: Example) -> list[int]:
        """The clip's words as CTC targets; empty if it has none, or some that the head's classes cannot spell.

        Only speech counts: a sound's label has no place in the clip, and its loss outweighs the words'.
        """
        if not example.clip.text or example.clip.kind != "speech":
            return []
        found = [self.spelled.get(token, ()) for token in self.pieces.ids(example.clip.text)]
        return [part for parts in found for part in parts] if all(found) else []

    def hear(self, pairs: list[tuple[Tensor, Tensor]], examples: Sequence[Example] = ()) -> list[Heard]:
        """What the bridge makes of clips, given their (Whisper, BEATs) states; nothing where there are no states.

        Args:
            examples: of the same clips, of which `crossed` may know better what a namer hears than the namer that
                was fitted on them.
        """
        votes = [self._votes(example) for example in examples] or [None] * len(pairs)
        sound = [(pair, vote) for pair, vote in zip(pairs, votes, strict=True) if len(pair[0])]
        dtype = torch.bfloat16 if self.bf16 else torch.float32
        speech, audio = ([pair[stream].to(self.device, dtype) for pair, _ in sound] for stream in (0, 1))
        if self.training and self.masking:
            speech, audio = [masked(s, self.masking) for s in speech], [masked(a, self.masking) for a in audio]
        naming = self.llm is not None  # the alignment looks at words alone
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            heard = iter(self.bridge.hear(speech, audio, [vote for _, vote in sound], naming) if sound else ())
        silence = torch.zeros(0, self.bridge.projection.out_features, device=self.device)
        nothing = Heard(silence, silence, silence[:, :0])
        return [next(heard) if len(s) else nothing for s, _ in pairs]

    def _votes(self, example: Example) -> Tensor | None:
        votes = self.crossed.get(example.clip.path)
        if votes is None:
            return None
        windows = whole_windows(len(votes), example.span)
        return (votes if windows is None else votes[windows]).float().to(self.device)

    def forward(self, examples: list[Example], pairs: list[tuple[Tensor, Tensor]], compared: Tensor) -> Tensor:
        """Sums of the LLM's loss, each example's by its `weight`, and of the CTC loss over clips: (2,)."""
        heard = self.hear(pairs, examples)
        tokens, spoken = [clip.tokens for clip in heard], [clip.spoken for clip in heard]
        return torch.stack((self._llm_loss(examples, tokens), self._ctc(examples, spoken, compared)))

    def _llm_loss(self, examples: list[Example], audio: list[Tensor]) -> Tensor:
        if self.llm is None:
            return torch.zeros((), device=self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            rows = self._rows(examples, audio)
            kept = [bool(self.learn) and example.task not in self.learn for example in examples]
            groups = alike([len(embeds) for embeds, _ in rows], ALIKE[self.device.type])
            losses = [self._loss_of_alike([rows[i] for i in group], [kept[i] for i in group]) for group in groups]
            return torch.stack(losses).sum()

    def _loss_of_alike(self, rows: list[tuple[Tensor, Tensor]], kept: list[bool]) -> Tensor:
        """The loss of examples that are about as long as each other, so that little of the batch is padding.

        Args:
            kept: of which the answer stays as it was: its loss is how far each token's distribution is from the
                one before (Kullback-Leibler divergence).
        """
        pad = nn.utils.rnn.pad_sequence
        embeds = pad([row for row, _ in rows], batch_first=True)
        labels = pad([label for _, label in rows], batch_first=True, padding_value=IGNORED)
        wanted = labels[:, 1:] != IGNORED  # position i predicts token i + 1
        logits = self._logits(embeds, wanted)
        each = F.cross_entropy(logits, labels[:, 1:][wanted], reduction="none")
        counts, stays = wanted.sum(dim=1), torch.tensor(kept, device=embeds.device)
        if any(kept):
            among = stays.repeat_interleave(counts).nonzero().flatten()
            with torch.no_grad(), self._as_before():
                told = self._logits(embeds[stays], wanted[stays]).log_softmax(-1)
            apart = F.kl_div(logits[among].log_softmax(-1), told, reduction="none", log_target=True).sum(dim=-1)
            each = each.index_copy(0, among, apart)
        return (each * (1.0 / counts.sqrt()).repeat_interleave(counts)).sum()

    def _logits(self, embeds: Tensor, wanted: Tensor) -> Tensor:
        """(positions, vocabulary) of those that are wanted, (rows, length - 1): only they pay for 49,152 logits."""
        hidden = self.llm.base_model.model.model(inputs_embeds=embeds).last_hidden_state
        logits: Tensor = self.llm.base_model.model.lm_head(hidden[:, :-1][wanted])
        return logits.float()

    @contextmanager
    def _as_before(self) -> Iterator[None]:
        """The LLM with the LoRA that the run began with."""
        lora = [
            (parameter, self.before[name]) for name, parameter in self.llm.named_parameters() if name in self.before
        ]
        now = [parameter.data for parameter, _ in lora]
        for parameter, before in lora:
            parameter.data = before.to(parameter)
        try:
            # Autocast would take what it made of today's weights a moment ago.
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=False):
                yield
        finally:
            for (parameter, _), data in zip(lora, now, strict=True):
                parameter.data = data

    def _rows(self, examples: Sequence[Example], audio: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Input embeddings (length, width) and labels (length,) of each example.

        All their words are embedded, and all labels made, in one go each: a GPU waits longer for a call than for it.
        """
        table = self.llm.get_input_embeddings()
        words, labels, sizes, lengths = [], [], [], []
        for example, heard in zip(examples, audio, strict=True):
            halves = build_prompt(TINY_PROMPT, example.instruction)
            before, after = self.ids(halves.before), self.ids(halves.after)
            answer = [*self.ids(example.answer), self.tokenizer.eos_token_id]
            unlabelled = len(before) + len(heard) + len(after)
            words += [*before, *after, *answer]
            labels += [*[IGNORED] * unlabelled, *answer]
            sizes += [len(before), len(after) + len(answer)]
            lengths.append(unlabelled + len(answer))
        said = iter(table(torch.tensor(words, device=self.device)).split(sizes))
        embeds = [torch.cat((next(said), heard.to(table.weight.dtype), next(said))) for heard in audio]
        return list(zip(embeds, torch.tensor(labels, device=self.device).split(lengths), strict=True))

    def _ctc(self, examples: list[Example], audio: list[Tensor], compared: Tensor) -> Tensor:
        spelled = [(heard, ids) for e, heard in zip(examples, audio, strict=True) if (ids := self.spelling(e))]
        if not spelled:
            return torch.stack([tokens.sum() for tokens in audio]).sum() * 0.0  # a batch may have no loss at all
        return self.head.loss([heard for heard, _ in spelled], [ids for _, ids in spelled], compared)

    def names(self, path: str, question: str) -> Names:
        """What a namer that was fitted without it hears in a clip that is not plain speech."""
        votes = self.crossed.get(path)
        return Names() if votes is None else named(votes, self.labels, question)

    @torch.inference_mode()
    def read(self, pair: tuple[Tensor, Tensor]) -> str:
        """What the CTC head alone reads in a clip."""
        return self.pieces.text(self.head.greedy(self.hear([pair])[0].spoken))

    def groups(self, config: TrainConfig) -> list[dict[str, Any]]:
        """What the optimizer gets: parameters with the rates that they are trained at."""
        places = [] if self.bridge.places is None else list(self.bridge.places.parameters())
        apart = {id(p) for p in places}
        heard = [p for p in (*self.bridge.parameters(), *self.head.parameters()) if id(p) not in apart]
        lora = [] if self.llm is None else list(self.llm.parameters())
        groups: list[dict[str, Any]] = [
            {"params": heard, "full_lr": config.lr_bridge},
            {"params": places, "full_lr": PLACES_RATE * config.lr_bridge, "weight_decay": 0.0},
            {"params": lora, "full_lr": config.lr_lora},
        ]
        for group in groups:
            group["params"] = [p for p in group["params"] if p.requires_grad]
        return [group for group in groups if group["params"]]

    def said(self) -> dict[str, Any]:
        """What a checkpoint says of itself."""
        return {"tokens": self.head.tokens, "labels": self.labels}

    def state(self) -> dict[str, Tensor]:
        """Weights of a checkpoint: `bridge.`, `head.`, `lora.`."""
        state = {f"bridge.{k}": v for k, v in self.bridge.state_dict().items()}
        state |= {f"head.{k}": v for k, v in self.head.state_dict().items()}
        if self.llm is not None:
            state |= {f"lora.{k}": v for k, v in lora_state(self.llm).items()}
        state = {k: whole(v) for k, v in state.items()}
        return state | {"head.scale": state["head.scale"].view(())}

    def load(self, state: dict[str, Tensor]) -> bool:
        """Take a checkpoint's weights; whether a LoRA was among them."""
        # A checkpoint from before the namer leaves it as it is.
        self.bridge.load_state_dict(self.bridge.state_dict() | part(state, "bridge."))
        head = part(state, "head.")
        self.head.load_state_dict(head | {"scale": head["scale"].view(1)})
        lora = part(state, "lora.")
        if lora and self.llm is not None:
            self.llm.load_state_dict(lora, strict=False)  # a subset by design; its names were checked when saved
        return bool(lora)


def alike(lengths: Sequence[int], most: float) -> list[list[int]]:
    """Which rows go through the LLM together: those at most so many times as long as the shortest of their group."""
    groups: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if groups and lengths[index] <= most * lengths[groups[-1][0]]:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def build_trainee(config: TrainConfig, clips: list[Clip], features: Features) -> Trainee:
    """The parts at their start: new, or as the checkpoint or model that the config names left them.

    Raises:
        UserError: a checkpoint that is missing or was not written by a stage.
    """
    folder = locate(config.llm)
    embeddings = word_embeddings(folder)
    pieces = Pieces(folder)
    start = learned(config.start) if config.start else Learned({}, [], [])
    tokens = _classes(config, clips, pieces, start)
    labels = _labels(config, clips, start)
    bridge = _new_bridge(embeddings.shape[1], len(labels), config.dropout)
    dtype = float_type(accelerator(), config.precision)
    llm, tokenizer = (None, None) if config.stage == "align" else _llm(folder, config.lora_scale, dtype)
    head = CtcHead(embeddings, tokens)
    trainee = Trainee(bridge, head, labels, llm, tokenizer, pieces, dtype is torch.bfloat16)
    trainee.masking = config.masking
    has_lora = trainee.load(start.weights) if config.start else False
    if config.learn:
        if not has_lora:
            raise UserError(f"learn: {config.start} has no LoRA whose answers could stay as they are")
        trainee.learn, trainee.before = frozenset(config.learn), part(start.weights, "lora.")
    if bridge.namer is not None:
        if "bridge.namer.label.weight" not in start.weights and not folders(config.out):
            fit(bridge, clips, features, labels, words_of(labels, embeddings, pieces))
        for fixed in (bridge.namer.label, bridge.ln_speech, bridge.ln_audio):
            fixed.requires_grad_(False)  # sounds are too few to go on: it would soon know them by heart
        if llm is None:
            bridge.namer.requires_grad_(False)
        else:
            trainee.crossed = _told(config, bridge, clips, features, labels)
    if not config.lr_bridge:
        bridge.requires_grad_(False)
        head.requires_grad_(False)
    if llm is not None and not has_lora:
        _match_norm(trainee, embeddings, [features[path] for path in features.some(PROBED_CLIPS)])
    return trainee


def _new_bridge(llm_width: int, labels: int, dropout: float | None) -> Bridge:
    bridge = Bridge(TINY_QFORMER, SPEECH_WIDTH, SMALL.encoder_embed_dim, llm_width, labels)
    silence_missing_stream(bridge)
    if dropout is not None:
        for module in bridge.modules():
            if isinstance(module, nn.Dropout):
                module.p = dropout
            elif hasattr(module, "attention_dropout"):  # of the Q-Former, which keeps its own as a number
                cast(Any, module).attention_dropout = dropout
    return bridge


def _told(
    config: TrainConfig, bridge: Bridge, clips: list[Clip], features: Features, labels: list[str]
) -> dict[str, Tensor]:
    """What the LLM is told that a namer hears in the clips while it learns: its windows' logits, by path."""
    if config.learn:  # what it says of sounds stays as it is, so it may believe the bridge's own
        assert bridge.namer is not None
        return {clip.path: votes_of(bridge.namer, bridge, features, clip.path) for clip in unspoken(clips)}
    return _crossed(config, bridge, clips, features, labels)


def word_embeddings(llm: Path) -> Tensor:
    """(vocabulary, width) input embeddings of the base LLM in a folder."""
    return read_safetensors(llm / "model.safetensors")["model.embed_tokens.weight"]


def _crossed(
    config: TrainConfig, bridge: Bridge, clips: list[Clip], features: Features, labels: list[str]
) -> dict[str, Tensor]:
    """What `crossed` gives, kept beside the run's checkpoints; the stage before may have it too."""
    wanted = {clip.path for clip in unspoken(clips)}
    for folder in (config.out, config.start):
        if folder is not None and (folder / CROSSED).is_file():
            known = load_file(folder / CROSSED)
            if wanted <= known.keys():
                return known
    heard = crossed(bridge, clips, features, labels)
    config.out.mkdir(parents=True, exist_ok=True)
    partial = config.out / f"{CROSSED}.partial"
    write_safetensors(heard, partial)
    partial.rename(config.out / CROSSED)
    return heard


def _classes(config: TrainConfig, clips: list[Clip], pieces: Pieces, start: Learned) -> list[int]:
    """Those of the run so far, or of the stage before; the alignment adds what its own set has.

    It can: a class has no weights of its own.
    """
    if folders(config.out):
        return learned(config.out).tokens
    known = start.tokens
    if known and config.stage != "align":
        return known
    heard = pieces.classes((clip.text for clip in clips if clip.kind == "speech"), config.whole_from)
    return sorted({*known, *heard})


def _labels(config: TrainConfig, clips: list[Clip], start: Learned) -> list[str]:
    """What the namer knows: what its checkpoint says, or from instruction tuning on the labels of the set."""
    if start.labels:
        return start.labels
    return known_labels(clips) if config.stage in ("instruct", "activate") else []


def _llm(folder: Path, scale: float, dtype: torch.dtype) -> tuple[Any, Any]:
    llm, tokenizer = load_llm(folder, dtype)
    if accelerator() == "cpu":
        # On a CPU the backward pass of torch's fused attention takes a third of a step.
        llm.set_attn_implementation("eager")
    llm.requires_grad_(False)
    llm = with_lora(llm, TINY_LORA)
    for name, parameter in llm.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    for module in llm.modules():
        if hasattr(module, "scaling") and isinstance(module.scaling, dict):
            module.scaling = {name: value * scale for name, value in module.scaling.items()}
            module.cast_input_dtype_enabled = False  # autocast does; peft would go to float32 and back
    return llm, tokenizer


def _match_norm(trainee: Trainee, embeddings: Tensor, probe: list[tuple[Tensor, Tensor]]) -> None:
    """Scale the projection so that audio tokens are as long as word embeddings (CTC sees only directions)."""
    wanted = embeddings.float().norm(dim=-1).mean()
    training = trainee.bridge.training
    trainee.bridge.eval()
    with torch.inference_mode():
        factor = (wanted / torch.cat([clip.spoken for clip in trainee.hear(probe)]).float().norm(dim=-1).mean()).item()
    trainee.bridge.train(training)
    trainee.bridge.projection.weight.data *= factor
    trainee.bridge.projection.bias.data *= factor
