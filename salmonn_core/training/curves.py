"""What a run measured, as JSON lines, a PNG, and for TensorBoard if that is installed."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class Curves:
    """`log.jsonl` is the record; a resumed run cuts it back to the step that it resumes from."""

    def __init__(self, run: Path, step: int = 0) -> None:
        run.mkdir(parents=True, exist_ok=True)
        self._run, self._file = run, run / "log.jsonl"
        self.rows: list[dict[str, Any]] = []
        if self._file.exists():
            rows = (json.loads(line) for line in self._file.read_text().splitlines())
            self.rows = [row for row in rows if row["step"] <= step]
        self._file.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        self._board: Any = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(run / "tensorboard", purge_step=step + 1)

    def add(self, step: int, **values: float) -> None:
        row = {"step": step, **values}
        self.rows.append(row)
        with self._file.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def draw(self) -> None:
        """Write `curves.png`: losses on the left axis, word error rate on the right."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 4.5), layout="constrained")
        left = figure.add_subplot()
        right = left.twinx()
        for name in dict.fromkeys(key for row in self.rows for key in row if key not in ("step", "lr")):
            points = [(row["step"], row[name]) for row in self.rows if name in row]
            axes, style = (right, "o--") if name.startswith("wer") else (left, "-")
            axes.plot(*zip(*points, strict=True), style, label=name)
        left.set(xlabel="step", ylabel="loss")
        right.set(ylabel="word error rate", ylim=(0, 1))
        figure.legend(loc="outside upper center", ncols=4)
        figure.savefig(self._run / "curves.png", dpi=120)

    def close(self) -> None:
        self.draw()
        if self._board:
            self._board.close()
