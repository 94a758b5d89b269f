"""The two engines behind one contract: same words, alone or in a batch, with or without a cached prefix."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn_core import int8_pack
from salmonn_core.config import LoraConfig
from salmonn_core.decode import Choice, GenerationOptions, generate, generate_batch
from salmonn_core.int8 import Int8Llama
from salmonn_core.int8_pack import supports
from salmonn_core.llm import PeftLlm
from salmonn_core.loading import with_lora
from salmonn_core.static import StaticLlama


class Codes:
    """Character codes; nothing ends an answer, so that every answer has the same length."""

    eos_token_id = -1

    def __call__(self, text, **_):
        return type("Ids", (), {"input_ids": [ord(c) % 256 for c in text]})

    def decode(self, ids, **_):
        return "".join(chr(i) for i in ids)


@pytest.fixture(scope="module")
def reference():
    """A small Llama with grouped queries and a LoRA that changes every answer."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=256, num_key_value_heads=2, head_dim=16, initializer_range=0.1, **sizes)
    model = with_lora(LlamaForCausalLM(config).eval(), LoraConfig(rank=4, alpha=8, targets=("q_proj", "down_proj")))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter) * 0.1
    return PeftLlm(model.eval().requires_grad_(False), 2.0)


@pytest.fixture(scope="module", params=[255, 127], ids=["as a server's", "as a laptop's"])
def levels(request):
    """Of an activation in int8: with AVX-512 VNNI and without."""
    return request.param


@pytest.fixture(scope="module")
def engines(reference, levels):
    static = StaticLlama(reference.model, 2.0)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(int8_pack, "levels", lambda: levels)
        yield {"peft": reference, "int8": Int8Llama(reference, Codes()), "static": static}


def prompts(*lengths):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(length, 64, generator=generator) for length in lengths]


def choice(tokenizer=Codes()):  # noqa: B008 - it has no state
    return Choice(GenerationOptions(max_new_tokens=20), tokenizer)


def alone(llm, prompt, scale=1.0, prefix=None):
    options = GenerationOptions(max_new_tokens=20, lora_scale=scale)
    return list(generate(llm, Codes(), prompt, options, prefix=prefix))


@torch.inference_mode()
@pytest.mark.parametrize("lengths", [(30,), (7, 30, 18, 25), (100, 3)])
def test_a_sequence_gets_the_same_logits_in_a_batch_as_alone_to_the_bit(engines, lengths):
    llm, many = engines["int8"], prompts(*lengths)
    state, together = llm.prefill(many, 1.0)
    alone = [llm.prefill([prompt], 1.0) for prompt in many]
    for token in (5, 9, 40):
        assert torch.equal(together, torch.cat([logits for _, logits in alone]))
        state, together = llm.step(state, torch.full((len(many),), token), 1.0)
        alone = [llm.step(one, torch.tensor([token]), 1.0) for one, _ in alone]


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_a_cache_that_stands_still_gives_the_logits_of_one_that_grows(engines, scale):
    states = {name: engines[name].prefill(prompts(30), scale)[0] for name in ("peft", "static")}
    for token in (5, 9, 40):
        logits = {}
        for name, state in states.items():
            states[name], logits[name] = engines[name].step(state, torch.tensor([token]), scale)
        torch.testing.assert_close(logits["static"], logits["peft"], atol=1e-5, rtol=0)


def test_two_answers_that_take_turns_in_one_slot_do_not_disturb_each_other(engines):
    many = prompts(20, 33)
    options = GenerationOptions(max_new_tokens=20)
    one, other = (generate(engines["static"], Codes(), prompt, options) for prompt in many)
    interleaved = list(zip(one, other, strict=True))
    assert [list(ids) for ids in zip(*interleaved, strict=True)] == [alone(engines["peft"], p) for p in many]


def test_a_slot_that_is_full_grows_and_forgets_nothing(engines, monkeypatch):
    monkeypatch.setattr("salmonn_core.static.ROOM", 16)
    llm = StaticLlama(engines["peft"].model, 2.0)
    (prompt,) = prompts(30)
    assert alone(llm, prompt) == alone(engines["peft"], prompt)


class Counted(StaticLlama):
    """Knows at which positions a token was appended."""

    def __init__(self, reference):
        super().__init__(reference.model, 2.0)
        self.appended = []

    def _append(self, lora_scale):
        self.appended.append(self._used)
        return super()._append(lora_scale)


def after_steps(llm, prompt, chosen):
    """All logits of a sequence whose tokens are chosen from the logits before them."""
    state, logits = llm.prefill([prompt], 1.0)
    found = [logits]
    for choose in chosen:
        state, logits = llm.step(state, torch.tensor([choose(logits)]), 1.0)
        found.append(logits)
    return torch.cat(found)


def likeliest(logits):
    return int(logits.argmax())


def unlikeliest(logits):
    return int(logits.argmin())


@torch.inference_mode()
def test_greedy_decoding_finds_each_step_begun_but_the_first(engines):
    llm = Counted(engines["peft"])
    state, logits = llm.prefill(prompts(30), 1.0)
    for taken in range(1, 6):
        state, logits = llm.step(state, torch.tensor([likeliest(logits)]), 1.0)
        assert llm.appended == list(range(30, 31 + taken))  # each once, and one more than was asked for


@torch.inference_mode()
def test_a_step_that_was_begun_for_another_token_is_done_again_in_its_place(engines):
    (prompt,) = prompts(30)
    chosen = [likeliest, likeliest, unlikeliest, likeliest, likeliest, unlikeliest, likeliest]
    wanted, mine = (after_steps(llm, prompt, chosen) for llm in (engines["peft"], Counted(engines["peft"])))
    torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_nothing_is_begun_for_a_sequence_whose_tokens_were_guessed_wrong_twice(engines):
    llm = Counted(engines["peft"])
    after_steps(llm, prompts(30)[0], [unlikeliest] * 6)
    assert llm.appended == [30, 31, 31, 32, 32, 33, 34, 35]
    llm.appended.clear()
    after_steps(llm, prompts(20)[0], [likeliest] * 2)
    assert llm.appended == [20, 21, 22]  # another sequence begins anew


@torch.inference_mode()
def test_another_lora_scale_is_no_step_that_was_begun(engines):
    states = {name: engines[name].prefill(prompts(30), 1.0) for name in ("peft", "static")}
    for scale in (1.0, 0.0, 0.0):
        states = {
            name: engines[name].step(state, torch.tensor([likeliest(logits)]), scale)
            for name, (state, logits) in states.items()
        }
        torch.testing.assert_close(states["static"][1], states["peft"][1], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_what_is_kept_of_a_sequence_does_not_know_the_step_that_was_begun(engines):
    llm = Counted(engines["peft"])
    state, logits = llm.prefill(prompts(30), 1.0)
    state, logits = llm.step(state, torch.tensor([likeliest(logits)]), 1.0)
    assert llm.appended == [30, 31]
    parts = [llm.standing(state, 31), state.copy()]  # the copy lets go of the slot
    assert [part.mask.shape[1] for part in parts] == [31, 31]
    assert [part.cache.get_seq_length() for part in parts] == [31, 31]
    taken = [llm.step(part, torch.tensor([7]), 1.0)[1] for part in (*parts, state)]
    reference, _ = engines["peft"].prefill(prompts(30), 1.0)
    for token in (likeliest(llm.prefill(prompts(30), 1.0)[1]), 7):
        reference, wanted = engines["peft"].step(reference, torch.tensor([token]), 1.0)
    for mine in taken:
        torch.testing.assert_close(mine, wanted, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_nothing_is_begun_where_there_is_no_room(engines, monkeypatch):
    monkeypatch.setattr("salmonn_core.static.ROOM", 8)
    llm = Counted(engines["peft"])
    after_steps(llm, prompts(30)[0], [likeliest] * 4)
    assert llm.appended == [30, 31, 32, 33, 34]  # at 32 the buffers are full, so nothing was begun until they grew
    monkeypatch.setattr(llm.model.config, "max_position_embeddings", 33)
    llm = Counted(engines["peft"])
    after_steps(llm, prompts(30)[0], [likeliest] * 3)
    assert llm.appended == [30, 31, 32]


@torch.inference_mode()
@pytest.mark.parametrize("scale", [1.0, 0.5, 0.0])
def test_int8_says_nearly_what_the_reference_says(engines, scale):
    (prompt,) = prompts(30)
    _, wanted = engines["peft"].prefill([prompt], scale)
    state, mine = engines["int8"].prefill([prompt], scale)
    assert torch.corrcoef(torch.stack((wanted[0], mine[0])))[0, 1] > 0.99
    after, wanted = engines["peft"].step(engines["peft"].prefill([prompt], scale)[0], torch.tensor([7]), scale)
    _, mine = engines["int8"].step(state, torch.tensor([7]), scale)
    assert torch.corrcoef(torch.stack((wanted[0], mine[0])))[0, 1] > 0.99
    assert after.mask.shape == (1, 31)


@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
def test_a_step_is_the_same_as_reading_the_token_with_the_prompt(engines, engine):
    llm = engines[engine]
    (prompt,) = prompts(12)
    with torch.inference_mode():
        state, _ = llm.prefill([prompt], 1.0)
        _, stepped = llm.step(state, torch.tensor([5]), 1.0)
        _, read = llm.prefill([torch.cat((prompt, llm.embed(torch.tensor([5]))))], 1.0)
    assert torch.corrcoef(torch.stack((stepped[0], read[0])))[0, 1] > (0.99 if engine == "int8" else 0.9999)


@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
def test_a_cached_prefix_changes_no_answer_and_is_not_used_up(engines, engine):
    llm = engines[engine]
    first, rest = prompts(9, 21)
    with torch.inference_mode():
        prefix, _ = llm.prefill([first], 1.0)
        _, whole = llm.prefill([torch.cat((first, rest))], 1.0)
        for _ in range(2):
            _, split = llm.prefill([rest], 1.0, [prefix])
            assert torch.corrcoef(torch.stack((whole[0], split[0])))[0, 1] > (0.995 if engine == "int8" else 0.9999)
            assert len(alone(llm, rest, prefix=prefix)) == 20


@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
def test_a_batch_of_different_lengths_says_what_each_says_alone(engines, engine):
    llm = engines[engine]
    many = prompts(30, 7, 18, 25)
    with torch.inference_mode():
        prefix, _ = llm.prefill(prompts(5), 1.0)
    together = generate_batch(llm, many, [choice()] * 4, prefixes=[prefix] * 4)
    assert together == [alone(llm, prompt, prefix=prefix) for prompt in many]


@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
def test_answers_that_end_leave_the_batch_and_the_rest_goes_on(engines, engine):
    llm, many = engines[engine], prompts(10, 20, 15)
    whole = [alone(llm, prompt) for prompt in many]

    class EndsEarly(Codes):
        eos_token_id = whole[1][3]

    answers = generate_batch(llm, many, [choice(EndsEarly())] * 3)
    ends = [ids.index(EndsEarly.eos_token_id) if EndsEarly.eos_token_id in ids else 20 for ids in whole]
    assert answers == [ids[:end] for ids, end in zip(whole, ends, strict=True)]


@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
@pytest.mark.parametrize("count", [1, 2])
@torch.inference_mode()
def test_beginnings_that_branch_and_end_say_what_each_says_alone(engines, engine, count):
    """Of an answer several beginnings are followed: they double, fall away and move to other rows."""
    llm, random = engines[engine], torch.Generator().manual_seed(4)
    many = prompts(21, 62)[:count]
    state, logits = llm.prefill(many, 1.0)
    fed = [(row, ()) for row in range(count)]  # of each row the prompt and the tokens that it was fed
    for rows in ([0, 0, 0][: 4 - count], [1, 0, 1, 1, 0, 1, 0], [6, 1], [0, 1, 1, 0], [3, 3, 0, 1, 2, 2], [5]):
        state = llm.pick(state, [row % len(fed) for row in rows])
        tokens = torch.randint(256, (len(rows),), generator=random)
        sources = [fed[row % len(fed)] for row in rows]
        fed = [(prompt, (*said, token)) for (prompt, said), token in zip(sources, tokens.tolist(), strict=True)]
        state, logits = llm.step(state, tokens, 1.0)
    for row, (prompt, tokens) in enumerate(fed):
        one, _ = llm.prefill([many[prompt]], 1.0)
        for token in tokens:
            one, expected = llm.step(one, torch.tensor([token]), 1.0)
        assert torch.allclose(logits[row], expected[0], atol=0.0 if engine == "int8" else 1e-4)


def test_a_cache_grows_past_its_room(engines):
    (prompt,) = prompts(250)
    assert len(alone(engines["int8"], prompt)) == 20  # 256 positions are made at first


def test_the_lora_scale_changes_the_answer_of_each_engine(engines):
    (prompt,) = prompts(30)
    for llm in engines.values():
        assert alone(llm, prompt, 1.0) != alone(llm, prompt, 0.0)
        assert alone(llm, prompt, 1.0) == alone(llm, prompt, 1.0)


def test_int8_is_for_plain_llamas_only():
    from transformers import GPT2Config

    assert supports(LlamaConfig())
    assert not supports(LlamaConfig(attention_bias=True))
    assert not supports(LlamaConfig(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 10_000.0}))
    assert not supports(GPT2Config())


@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
def test_a_state_cut_after_the_audio_answers_the_next_question_alike(engines, engine):
    llm = engines[engine]
    audio, question, other = prompts(20, 9, 6)
    with torch.inference_mode():
        state, _ = llm.prefill([torch.cat((audio, question))], 1.0)
        heard = state.cut(20)
        _, wanted = llm.prefill([torch.cat((audio, other))], 1.0)
        _, mine = llm.prefill([other], 1.0, [heard])
    assert torch.corrcoef(torch.stack((wanted[0], mine[0])))[0, 1] > 0.9999
    assert alone(llm, other, prefix=heard) == alone(llm, torch.cat((audio, other)))


@torch.inference_mode()
@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
def test_a_prompt_may_follow_what_was_read_only_just_before(engines, engine):
    llm = engines[engine]
    first, rest = prompts(20, 9)
    _, wanted = llm.prefill([torch.cat((first, rest))], 1.0)
    begun, _ = llm.prefill([first], 1.0)
    _, mine = llm.prefill([rest], 1.0, [begun])
    assert torch.corrcoef(torch.stack((wanted[0], mine[0])))[0, 1] > 0.9999


@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
def test_prompts_after_different_beginnings_are_read_together_and_say_what_each_says_alone(engines, engine):
    llm = engines[engine]
    begun, many = prompts(20, 9, 33), prompts(6, 14, 3, 8)
    with torch.inference_mode():
        prefixes = [llm.prefill([first], 1.0)[0].cut(len(first)) for first in begun] + [None]
    together = generate_batch(llm, many, [choice()] * 4, prefixes=prefixes)
    assert together == [alone(llm, p, prefix=before) for p, before in zip(many, prefixes, strict=True)]


@pytest.mark.parametrize("engine", ["peft", "int8", "static"])
def test_what_is_kept_of_a_sequence_that_was_read_with_others_answers_the_next_question_alike(engines, engine):
    llm, kept = engines[engine], []
    heard, other = prompts(20, 33, 9), prompts(6)[0]
    keep = lambda state: kept.extend(state.one(row).cut(len(clip)) for row, clip in enumerate(heard))  # noqa: E731
    generate_batch(llm, heard, [choice()] * 3, after_prompts=keep)
    for clip, state in zip(heard, kept, strict=True):
        assert alone(llm, other, prefix=state) == alone(llm, torch.cat((clip, other)))
