"""Constrained decoding and the transformers backend on random planners: whatever the weights say, it is a plan."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from planner_models import make_request, save_other, save_tiny, tiny_tokenizer

from bridge.planning import PlanAnswer, PlanError
from planner.backends.transformers_backend import ModelError, TransformersBackend
from planner.decoding import DecodingError, Grammar, decode
from planner.frames import GRID_THW
from planner.grammar import answer_regex, parse_answer
from planner.prompt import render_prompt


class Oracle:
    """A model without weights: logits from a rule; remembers how often it was asked."""

    def __init__(self, vocab: int, rule):
        self.vocab, self.rule, self.calls = vocab, rule, 0

    def __call__(self, input_ids=None, attention_mask=None, past_key_values=None, **_):
        self.calls += 1
        return SimpleNamespace(logits=self.rule(self.calls, input_ids.shape[0])[:, None], past_key_values=None)


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def backend(folder):
    return TransformersBackend(folder, threads=1)


def _start(rows):
    return {"input_ids": torch.zeros((rows, 1), dtype=torch.long), "attention_mask": torch.ones((rows, 1)).long()}


@pytest.mark.parametrize("free", [False, True])
def test_any_scores_give_a_plan(tokenizer, free):
    grammar = Grammar(tokenizer, answer_regex(free=free), len(tokenizer) + 50)
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        oracle = Oracle(
            len(tokenizer) + 50, lambda n, rows, g=generator: torch.randn(rows, len(tokenizer) + 50, generator=g)
        )
        for tokens in decode(oracle, _start(4), grammar, 1200):
            parse_answer(tokenizer.decode(tokens), make_request().profile)


def test_fixed_words_cost_no_forward_pass(tokenizer):
    """A model that knows the answer is followed to the letter, in the tokens that it was trained on."""
    text = (
        "2 lanes, I am in lane 0, centre. Road bends gently left. Car in lane 0 at 2.5 m. "
        "Left lane is free, overtaking."
        "\nintent overtake_left accepted\npath 3 5 8 12 15 18 20 -22\nspeed 1.6 1.4"
    )
    wanted = tokenizer(text, add_special_tokens=False)["input_ids"]
    grammar = Grammar(tokenizer, answer_regex(), len(tokenizer))
    fed = 0

    class Follower(Oracle):
        def __call__(self, input_ids=None, **kwargs):
            nonlocal fed
            fed += input_ids.shape[1] if self.calls else 0
            return super().__call__(input_ids=input_ids, **kwargs)

    def rule(calls, rows):
        return torch.nn.functional.one_hot(
            torch.tensor([(wanted + [grammar.eos_id])[fed]] * rows), len(tokenizer)
        ).float()

    model = Follower(len(tokenizer), rule)
    assert decode(model, _start(1), grammar, 100) == [wanted]
    assert model.calls < 0.6 * len(wanted)


def test_an_answer_without_end_is_given_up(tokenizer):
    grammar = Grammar(tokenizer, "a+", len(tokenizer))
    scores = torch.zeros(len(tokenizer))
    scores[tokenizer.convert_tokens_to_ids("a")] = 1.0
    assert decode(Oracle(len(tokenizer), lambda n, rows: scores.repeat(rows, 1)), _start(2), grammar, 20) == [
        None,
        None,
    ]


def test_a_broken_grammar_is_named(tokenizer):
    with pytest.raises(DecodingError, match="grammar"):
        Grammar(tokenizer, "(", len(tokenizer))


def test_random_weights_answer_with_plans(backend):
    answers = backend.plan(
        [make_request(seed, command) for seed, command in enumerate([None, "stop", "从左边超车", "🚗" * 50])]
    )
    for answer in answers:
        assert isinstance(answer, PlanAnswer)
        assert answer.extra["facts"] and answer.raw.endswith(answer.raw.split("\n")[-1])
        assert answer.model_s > 0.0


def test_a_batch_answers_as_each_request_alone(backend):
    requests = [make_request(0), make_request(1, None), make_request(2, "please go a little faster now", frames=1)]
    together = backend.plan(requests)
    for request, answer in zip(requests, together, strict=True):
        assert answer.raw == backend.plan([request])[0].raw
        assert answer.prompt == render_prompt(request)


def test_decoding_agrees_with_transformers_generate(backend, tokenizer):
    """The greedy continuation under no constraint is that of the model's own `generate`."""
    inputs = backend._inputs([make_request(3)], [render_prompt(make_request(3))])
    anything = Grammar(tokenizer, r"(?s:.{20,400})", backend.model.config.text_config.vocab_size)
    theirs = backend.model.generate(**inputs, max_new_tokens=12, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    shown = []

    class Spy:
        model = backend.model.model

        def __call__(self, **kwargs):
            shown.append(kwargs.get("input_ids"))
            return backend.model(**kwargs)

    decode(Spy(), inputs, anything, 12)
    ours = torch.cat([ids[0] for ids in shown[1:]]).tolist()
    assert ours[:8] == theirs.tolist()[:8]


def test_a_bad_frame_costs_only_its_own_plan(backend):
    good = make_request(0)
    bad = [make_request(0, frames=0), make_request(1, frames=0)]
    object.__setattr__(bad[1], "images", (np.zeros((120, 160), np.uint8),))
    answers = backend.plan([bad[0], good, bad[1]])
    assert isinstance(answers[0], PlanError) and isinstance(answers[2], PlanError)
    assert answers[1].raw == backend.plan([good])[0].raw
    assert isinstance(backend.plan(bad)[0], PlanError)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "llava"])
def test_other_models_answer_too(kind, tmp_path):
    """Random models of other makes, told the format and free in their words; alone and in a batch."""
    other = TransformersBackend(save_other(kind, tmp_path), trained=False, max_tokens=1200)
    requests = [make_request(0), make_request(1, None)]
    together = other.plan(requests)
    assert all(isinstance(answer, PlanAnswer) for answer in together)
    assert together[1].raw == other.plan(requests[1:])[0].raw


def test_a_model_of_one_picture_size_gets_that_size_from_any_camera(backend):
    wide = replace(make_request(0), images=(np.zeros((240, 320, 3), np.uint8),))
    inputs = backend._inputs([wide], ["x"])
    assert inputs["image_grid_thw"].tolist() == [list(GRID_THW)]


def test_no_model_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        TransformersBackend(tmp_path / "nowhere")


class TestAdapters:
    """LoRA adapters on the folder above."""

    def _adapter(self, folder, target, path, *, trained):
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForImageTextToText

        model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=target))
        if trained:
            with torch.no_grad():
                for name, weight in adapted.named_parameters():
                    if "lora_B" in name:
                        weight.normal_(generator=torch.Generator().manual_seed(0))
        adapted.save_pretrained(path)
        return path

    def test_an_adapter_changes_the_answers(self, folder, backend, tmp_path):
        path = self._adapter(folder, r".*language_model.*(q|v)_proj", tmp_path / "a", trained=True)
        adapted = TransformersBackend(path, threads=1)
        request = make_request(0)
        before = backend._logits(backend._inputs([request], ["x"]))
        assert not torch.allclose(before, adapted._logits(adapted._inputs([request], ["x"])))
        assert isinstance(adapted.plan([request])[0], PlanAnswer)

    def test_an_adapter_that_does_nothing_is_refused(self, folder, tmp_path):
        path = self._adapter(folder, r".*language_model.*q_proj", tmp_path / "b", trained=False)
        with pytest.raises(ModelError, match="those of the base model"):
            TransformersBackend(path)

    def test_an_adapter_without_a_base_is_refused(self, tmp_path):
        (tmp_path / "adapter_config.json").write_text("{}")
        with pytest.raises(ModelError, match="base_model_name_or_path"):
            TransformersBackend(tmp_path)
