"""One stage of training on accelerate: the same steps on one process or many, resumable, repeatable.

A step's batch is drawn for the whole run and then shared out, and its losses are divided by the counts of
the whole batch; so the number of processes and parts changes how fast a step is, not what it does.
All randomness comes from seed, step and process.
"""

from __future__ import annotations

import json
import math
import random
import time
from contextlib import nullcontext
from pathlib import Path
from typing import cast

import jiwer
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from salmonn_core.errors import UserError
from salmonn_core.training.checkpoints import (
    folders,
    load_checkpoint,
    newest,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from salmonn_core.training.classify import SMALL
from salmonn_core.training.config import TrainConfig, files_of
from salmonn_core.training.corpus import SPEECH_WIDTH, Clip, Features, Pair, cut, load_clips
from salmonn_core.training.curves import Curves
from salmonn_core.training.filling import filled
from salmonn_core.training.learned import located
from salmonn_core.training.lettering import LetterTrainee, build
from salmonn_core.training.manifests import check_audio
from salmonn_core.training.mishearing import Mishearing
from salmonn_core.training.sampler import Sampler
from salmonn_core.training.sharding import gathered, is_shared_out
from salmonn_core.training.tasks import Example, commands_as_text
from salmonn_core.training.trainee import Trainee, build_trainee

COOLEST = 0.03  # share of the learning rate that is left at the end
Trained = Trainee | LetterTrainee
STILL_MEANT = 50  # steps of the running mean that the progress bar shows


class Trainer:
    """A run: `Trainer(config).run()` starts it, or goes on from its newest checkpoint."""

    def __init__(self, config: TrainConfig) -> None:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        self.config = config
        # A part of a batch may hold no speech, and then the CTC head has no gradient.
        unused = DistributedDataParallelKwargs(find_unused_parameters=True)
        self.engine = Accelerator(kwargs_handlers=[unused])
        self.step, self.spent_s = 0, 0.0
        torch.manual_seed(config.seed)
        for place in (config.start, config.beats_model):
            if place is not None:
                located(place)  # told before hours of features
        clips, self.dev = self._clips()
        self.features = self._features([*clips, *(c for part in self.dev.values() for c in part)])
        answers = json.loads(config.answers.read_text()) if config.answers else {}
        commands = commands_as_text(config.texts) if config.texts else []
        self.sampler = Sampler(
            clips,
            self.features,
            answers,
            config.stage,
            config.budget,
            config.seed,
            commands,
            config.text_examples,
        )
        if config.misheard:
            self.sampler.heard = Mishearing(commands, config.misheard)
        if not self.sampler.clips:
            raise UserError(f"none of the {len(clips)} clips has a task for stage {config.stage}")
        with self.engine.main_process_first():  # the others find what the first one fitted
            lettered = config.stage == "letters"
            trainee: Trained = build(config) if lettered else build_trainee(config, clips, self.features)
        self.optimizer = torch.optim.AdamW(trainee.groups(config), lr=config.lr_bridge, weight_decay=0.01)
        going = self._resume(trainee)
        self.sampler.names, self.sampler.labels = trainee.names, trainee.labels
        self.features.keep_on(self.engine.device)
        self.model, self.optimizer = self.engine.prepare(trainee, self.optimizer)
        if going:  # only now: FSDP has given the optimizer other parameters
            restore_optimizer(self.optimizer, going)
        self._check_sharding()
        self.average = self._averaged() if config.average else None

    @property
    def shards(self) -> bool:
        """Whether each process holds a part of the weights only (FSDP)."""
        return is_shared_out(self.model)

    def _check_sharding(self) -> None:
        if self.engine.distributed_type == "FSDP" and not self.shards:
            raise UserError("of FSDP only version 2 works here: accelerate launch --use_fsdp --fsdp_version 2 ...")
        if self.shards and self.config.average:
            raise UserError("average: a mean of weights in parts is not kept; leave `average` out, or FSDP")

    @property
    def trainee(self) -> Trained:
        return self.engine.unwrap_model(self.model)

    @property
    def result(self) -> Trained:
        """What the run is for: the mean over its last steps, or the trainee itself."""
        return self.trainee if self.average is None else cast(Trained, self.average.module)

    def _averaged(self) -> AveragedModel:
        """The running mean of the trainee's weights; at first, or if there was none before, they themselves."""
        average = AveragedModel(self.trainee, multi_avg_fn=get_ema_multi_avg_fn(self.config.average))
        if folders(self.config.out):
            cast(Trained, average.module).load(load_file(newest(self.config.out)))
            average.n_averaged.fill_(self.step)
        return average

    def _clips(self) -> tuple[list[Clip], dict[str, list[Clip]]]:
        train, dev = files_of(self.config.train), files_of(self.config.dev)
        if self.engine.is_main_process:
            check_audio([*train, *dev])
        self.engine.wait_for_everyone()
        speech = {
            f"{p.parent.name}-{p.stem}": [c for c in load_clips([p]) if c.kind == "speech" and c.text] for p in dev
        }
        return load_clips(train), {name: clips[: self.config.dev_clips] for name, clips in speech.items()}

    def _features(self, clips: list[Clip]) -> Features:
        with self.engine.main_process_first():
            return filled(self.config, [clip.path for clip in clips])

    def _resume(self, trainee: Trained) -> dict[str, Tensor]:
        """Go on from the newest checkpoint, if there is one: what its optimizer held."""
        found = folders(self.config.out)
        if not found:
            return {}
        weights, tensors, state = load_checkpoint(found[-1])
        if state["stage"] != self.config.stage:
            raise UserError(f"{found[-1]} is of stage {state['stage']}, not {self.config.stage}; choose another `out`")
        trainee.load(weights)
        self.sampler.seek(state["epoch"], state["position"])
        self.step, self.spent_s = state["step"], state["spent_s"]
        return tensors

    @property
    def share(self) -> float:
        """How much of the run is done, 0 to 1."""
        if self.config.steps:
            return self.step / self.config.steps
        return self.spent_s / (60.0 * (self.config.minutes or 1.0))

    def run(self) -> None:
        """Train to the end of the box, with checkpoints on the way."""
        curves = Curves(self.config.out, self.step) if self.engine.is_main_process else None
        total = self.config.steps or round(60 * (self.config.minutes or 1.0))
        unit = "step" if self.config.steps else "s"
        done = self.step if self.config.steps else round(self.spent_s)
        bar = tqdm(total=total, initial=done, unit=unit, desc=self.config.stage, disable=curves is None)
        means: dict[str, float] = {}
        while self.share < 1.0:
            begun = time.monotonic()
            values = self.train_step()
            self.spent_s = self._agreed(self.spent_s + time.monotonic() - begun)
            last = self.share >= 1.0
            if last or self.step % self.config.dev_every == 0:
                values |= self.word_error_rates()
            for name, value in values.items():
                means[name] = means.get(name, value) + (value - means.get(name, value)) / min(self.step, STILL_MEANT)
            if curves:
                curves.add(self.step, **values)
                bar.set_postfix({k: f"{v:.3g}" for k, v in means.items()}, refresh=False)
                bar.update(min(total, self.step if self.config.steps else round(self.spent_s)) - bar.n)
            if last or self.step % self.config.save_every == 0:
                self.save(curves)
        bar.close()
        if curves:
            curves.close()
        self.engine.wait_for_everyone()
        self.engine.end_training()

    def _agreed(self, seconds: float) -> float:
        """The main process's clock, so that all stop at the same step."""
        if self.engine.num_processes == 1:
            return seconds
        from accelerate.utils import broadcast

        return float(broadcast(torch.tensor(seconds, device=self.engine.device)))

    def train_step(self) -> dict[str, float]:
        """One update; returns the mean losses of the whole batch and the first learning rate."""
        config, trainee = self.config, self.trainee
        examples = self.sampler.batch()
        torch.manual_seed(_number(config.seed, self.step, self.engine.process_index))
        weight = sum(trainee.weight(e) for e in examples) or 1.0
        spelled = [ids for e in examples if (ids := trainee.spelling(e))]
        same_everywhere = torch.Generator().manual_seed(_number(config.seed, self.step, -1))
        compared = trainee.compared(spelled, same_everywhere)
        counts = torch.tensor([weight, sum(map(trainee.worth, spelled)) or 1.0], device=self.engine.device)
        weights = torch.tensor([1.0, config.ctc_weight if trainee.llm is not None else 1.0], device=self.engine.device)
        self._set_rates()
        self.model.train()
        total = torch.zeros(2, device=self.engine.device)
        parts = self._my_parts(examples)
        for number, part in enumerate(parts):
            with self.engine.no_sync(self.model) if number + 1 < len(parts) else nullcontext():
                total += self._backward(part, compared, weights, counts)
        self.engine.clip_grad_norm_([p for p in self.model.parameters() if p.requires_grad], 1.0)
        self.optimizer.step()
        if self.average is not None:
            self.average.update_parameters(self.trainee)
        self.optimizer.zero_grad()
        self.step += 1
        llm, ctc = self.engine.reduce(total, "sum").tolist()
        return {"loss": llm or ctc, "ctc": ctc, "lr": self.optimizer.param_groups[0]["lr"]}

    def _backward(self, part: list[Example], compared: Tensor, weights: Tensor, counts: Tensor) -> Tensor:
        """Gradients of one part; returns its share of the batch's mean losses."""
        shown = part or self._stand_in
        means = self.model(shown, [self._heard(e) for e in shown], compared) / counts
        if not part:
            means = means * 0.0
        # DistributedDataParallel takes the mean over processes; the batch's mean needs their sum.
        self.engine.backward((means * weights).sum() * self.engine.num_processes)
        return means.detach()

    def _heard(self, example: Example) -> Pair:
        """The states of what is heard of a clip; none of what is asked in text alone."""
        if not example.clip.path:
            return torch.zeros(0, SPEECH_WIDTH), torch.zeros(0, SMALL.encoder_embed_dim)
        return cut(self.features[example.clip.path], example.span)

    def _my_parts(self, examples: list[Example]) -> list[list[Example]]:
        """This process's share in `accumulate` parts. A part may be empty: every process must run the same passes."""
        self._stand_in = examples[:1]
        ways = self.engine.num_processes * self.config.accumulate
        first = self.engine.process_index * self.config.accumulate
        return [examples[first + i :: ways] for i in range(self.config.accumulate)]

    def _set_rates(self) -> None:
        cooling = COOLEST + (1.0 - COOLEST) * 0.5 * (1.0 + math.cos(math.pi * min(1.0, self.share)))
        warmth = min(1.0, (self.step + 1) / max(1, self.config.warmup)) * cooling
        for group in self.optimizer.param_groups:
            group["lr"] = group["full_lr"] * warmth

    def word_error_rates(self) -> dict[str, float]:
        """WER of what CTC alone reads on each dev manifest."""
        if not self.engine.is_main_process and not self.shards:
            return {}
        trainee = self.result
        trainee.eval()
        found = {}
        with gathered(self.model):
            for name, clips in self.dev.items():
                said = [trainee.read(self.features[clip.path]) for clip in clips]
                if clips:
                    found[f"wer {name}"] = float(jiwer.wer([clip.text for clip in clips], said))
        return found

    def save(self, curves: Curves | None) -> None:
        """A checkpoint, which the main process writes; the others lend their parts of the weights."""
        if curves is None and not self.shards:
            return
        weights, tensors = self.result.state(), optimizer_tensors(self.optimizer)
        going = None if self.average is None else self.trainee.state()
        if curves is None:
            return
        state = {
            "stage": self.config.stage,
            "step": self.step,
            "epoch": self.sampler.epoch,
            "position": self.sampler.position,
            "spent_s": self.spent_s,
            "processes": self.engine.num_processes,
            "config": self.config.model_dump(mode="json"),
        }
        save_checkpoint(self.config.out, self.step, weights, self.result.said(), tensors, state, going)
        curves.draw()


def _number(seed: int, step: int, process: int) -> int:
    return random.Random(f"{seed} {step} {process}").getrandbits(63)


def train(config: TrainConfig) -> Path:
    """Run one stage and return the folder of its newest checkpoint."""
    if config.threads:
        torch.set_num_threads(config.threads)
    Trainer(config).run()
    return folders(config.out)[-1]
