"""Generation on a tiny random Llama: greedy, sampled, constrained, cancelled, streamed."""

import pytest
import regex
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from salmonn_core.decode import Choice, GenerationOptions, generate, only_match, pieces
from salmonn_core.errors import UserError
from salmonn_core.llm import PeftLlm


class Bytes:
    """A byte tokenizer: id is the byte; 0 ends."""

    eos_token_id = 0

    def decode(self, ids, **_):
        return bytes(i for i in ids if i).decode("utf-8", "replace")


@pytest.fixture(scope="module")
def llm():
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=256, num_key_value_heads=2, **sizes)).eval()


PROMPT = torch.randn(5, 32, generator=torch.Generator().manual_seed(1))


def run(llm, **options):
    return list(generate(PeftLlm(llm, 1.0), Bytes(), PROMPT, GenerationOptions(max_new_tokens=24, **options)))


def test_greedy_over_the_cache_is_the_same_as_without_a_cache(llm):
    ids = run(llm)
    embeds = PROMPT
    for chosen in ids:
        with torch.inference_mode():
            assert int(llm(inputs_embeds=embeds[None]).logits[0, -1].argmax()) == chosen
        embeds = torch.cat((embeds, llm.get_input_embeddings()(torch.tensor([chosen]))))


def test_a_seed_makes_sampling_repeatable(llm):
    assert run(llm, temperature=1.5, seed=3) == run(llm, temperature=1.5, seed=3)
    assert run(llm, temperature=1.5, seed=3) != run(llm, temperature=1.5, seed=4)


@pytest.mark.parametrize("pattern", [r"(yes|no)", r"\d{1,3}", r'\{"a": (null|"[a-z]{1,4}")\}'])
def test_an_answer_under_a_pattern_matches_it_whatever_the_model_wants(llm, pattern):
    assert regex.fullmatch(pattern, Bytes().decode(run(llm, pattern=pattern)))


@pytest.mark.parametrize(
    ("pattern", "answer"),
    [
        (r'\{"size": "large", "milk": null\}', '{"size": "large", "milk": null}'),
        (r'\{"size": "extra\ large"\}', '{"size": "extra large"}'),
        (r'\{"size": ("large"|null)\}', None),
        (r"\d", None),
        ("a+", None),
        (None, None),
    ],
)
def test_a_pattern_that_leaves_no_choice_is_known(pattern, answer):
    assert only_match(pattern) == answer


def test_a_pattern_that_no_token_can_continue_is_a_clear_error():
    with pytest.raises(UserError, match="no token can continue"):
        Choice(GenerationOptions(pattern="é"), Bytes())(torch.zeros(128), [])


def test_cancelling_stops_within_one_token(llm):
    cancelled = []
    ids = []
    for chosen in generate(PeftLlm(llm, 1.0), Bytes(), PROMPT, GenerationOptions(), lambda: bool(cancelled)):
        ids.append(chosen)
        if len(ids) == 3:
            cancelled.append(True)
    assert len(ids) == 3


def test_half_a_character_is_held_back():
    assert list(pieces(Bytes(), iter("añb".encode()))) == ["a", "ñ", "b"]
