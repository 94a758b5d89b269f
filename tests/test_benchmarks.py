"""The benchmarks' own arithmetic; what they measure is in docs/benchmarks.md."""

import json
import subprocess
import sys

import pytest

from salmonn_core import UserError
from tests.conftest import ROOT, needs_shared


def test_ratios_are_ours_over_theirs_with_the_target_beside():
    from benchmarks.latency import table

    ours, theirs = {"heard": 50.0, "first": 100.0, "all": 400.0}, {"heard": 150.0, "first": 200.0, "all": 500.0}
    last = table({"salmonn-tiny": ours, "tuned": theirs}, 40).splitlines()[-1]
    assert last == "| tuned | 150 | 200 | 500 | 0.50 (target 0.6) | 0.80 (target 1.0) |"


def test_the_window_is_five_seconds_with_the_sentence_inside():
    from benchmarks.latency import spoken_window

    window = spoken_window()
    assert len(window) == 80_000
    assert abs(window[:8_000]).max() < 0.01 < abs(window[12_000:40_000]).max()


def test_a_peer_that_crashes_without_a_word_is_said_to_have_crashed():
    from benchmarks.latency import Peer

    killed = subprocess.Popen(
        [sys.executable, "-c", "import os; input(); os.kill(os.getpid(), 11)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with pytest.raises(UserError, match="the engine stock was killed by SIGSEGV: a package of it"):
        Peer("stock", killed).answer()


def test_the_published_table_is_what_the_published_measurement_says():
    medians = json.loads((ROOT / "docs/latency.json").read_text())["medians_ms"]
    first = f"{medians['salmonn-tiny']['first'] / medians['tuned']['first']:.2f} (target 0.6)"
    for page in ("README.md", "docs/benchmarks.md"):
        assert first in (ROOT / page).read_text()


@pytest.mark.weights
def test_the_batch_benchmark_runs_and_says_how_many_answers_agree():
    command = [
        sys.executable,
        "-m",
        "benchmarks.batch",
        "examples/crow.flac",
        "examples/bell.flac",
        "--tokens",
        "12",
        "--json",
    ]
    row = json.loads(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert row["clips"] == 2
    assert row["ratio"] == pytest.approx(row["alone_s"] / row["together_s"])


@pytest.mark.weights
def test_the_precision_benchmark_sets_bf16_and_int8_beside_float32_position_by_position():
    command = [sys.executable, "-m", "benchmarks.precision", "examples/please-try-later.wav", "--tokens", "6", "--json"]
    rows = json.loads(subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout)
    assert set(rows) == {"bf16", "int8"}
    for row in rows.values():
        assert 2 <= row["positions"] <= 7
        assert row["same"] > 0.5
        assert 0.0 < row["divergence"] < 0.3


def test_a_missing_file_is_one_line():
    command = [sys.executable, "-m", "benchmarks.batch", "none.wav"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr


def test_the_table_of_skills_says_what_was_measured_and_by_what_rule():
    from benchmarks.skills import Result, table

    found = [Result("alert: rain", 9, 10, 1, 100), Result("alert: dog", 9, 10, 10, 100), Result("alert: cow", 1, 2)]
    lines = table([*found, Result("wake", 1, 10)], "salmonn-tiny", 4.6, 0).splitlines()
    assert lines[0] == "`salmonn-tiny`, bundled settings, seed 0, 5 minutes:"
    assert lines[4:] == [
        "| alert: rain | 9 of 10 | 1 of 100 | usable |",
        "| alert: dog | 9 of 10 | 10 of 100 | usable where a false one does not matter |",
        "| alert: cow | 1 of 2 |  | too few clips to say |",
        "| wake | 1 of 10 |  | not to be relied on |",
    ]


def test_the_table_of_skills_is_written_between_the_marks_of_its_page(tmp_path):
    from benchmarks.skills import BEGIN, END, write_into

    page = tmp_path / "skills.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write_into(page, "new")
    assert page.read_text() == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    assert BEGIN in (ROOT / "docs/skills.md").read_text()


@pytest.mark.weights
@needs_shared
def test_the_benchmark_of_the_skills_runs(tmp_path):
    command = [sys.executable, "-m", "benchmarks.skills", "../shared/data/dev", "--clips", "4"]
    out = tmp_path / "skills.json"
    done = subprocess.run([*command, "--out", out], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    kept = json.loads(out.read_text())
    assert {"alert: rain", "music described as music"} <= {row["what"] for row in kept["results"]}
    assert all(answer["file"] for answer in kept["answers"])


def test_a_train_is_no_rain():
    from benchmarks.skills import _has

    assert _has(["crying baby"], "baby")
    assert not _has(["train horn"], "rain")


def test_the_gpu_benchmark_runs_at_toy_size_and_its_figures_agree_with_each_other():
    from benchmarks.gpu import SIZES, measure, table

    row = measure(SIZES["toy"], "cpu", audio_s=1.0, tokens=12, rounds=3, copied=1 << 20)
    assert row["of_the_memory_limit"] == pytest.approx(row["tokens_per_s"] / row["limit_tokens_per_s"])
    assert row["times_the_reference"] == pytest.approx(row["reference_ms"] / row["answer_ms"])
    assert "first_ms (target 60)" in table({"toy": row})
    assert all(row[f"{stage}_ms"] > 0 for stage in ("log_mel", "whisper", "beats", "bridge", "hearing", "prompt"))


def test_the_gpu_benchmark_leaves_the_reference_out_where_it_is_told_to():
    from benchmarks.gpu import SIZES, measure

    row = measure(SIZES["toy"], "cpu", audio_s=1.0, tokens=3, rounds=1, reference_rounds=0, copied=1 << 20)
    assert "answer_ms" in row
    assert "reference_ms" not in row


def test_the_sizes_of_the_gpu_benchmark_are_those_of_the_releases():
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from benchmarks.gpu import SIZES

    for name, billions in (("7b", 6.74), ("13b", 13.02)):
        size = SIZES[name]
        with torch.device("meta"):
            llm = LlamaForCausalLM(
                LlamaConfig(
                    vocab_size=size.vocabulary,
                    hidden_size=size.width,
                    intermediate_size=size.inner,
                    num_hidden_layers=size.layers,
                    num_attention_heads=size.heads,
                )
            )
        assert sum(weight.numel() for weight in llm.parameters()) / 1e9 == pytest.approx(billions, abs=0.01)


def test_a_gpu_that_is_not_there_is_a_clear_error():
    from benchmarks.gpu import SIZES, measure

    with pytest.raises(UserError, match="no device 'cuda:99' on this machine"):
        measure(SIZES["toy"], "cuda:99", audio_s=1.0, tokens=2, rounds=1)
