"""planner-nano's tokenizer, size and folder, and the prompt around it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planner_models import TEXTS, save_tiny, tiny_tokenizer

from bridge.messages import Doing, EgoState, Intent, VehicleProfile
from bridge.planning import CommandInForce, PlanRequest
from planner import nano
from planner.frames import IMAGE_TOKENS
from planner.grammar import ACTIONS, REASONS
from planner.prompt import SYSTEM, chat_text, clean_command, messages, render_prompt

ANSWER = (
    "2 lanes, I am in lane 0, centre. Road bends gently left. Car in lane 0 at 2.5 m, cone in lane 1 at 3.5 m. "
    "Left lane is free, overtaking.\nintent overtake_left accepted\npath 3 5 8 12 15 18 20 -22\nspeed 1.6 1.6"
)
TOKENIZER = tiny_tokenizer()


def _ids(text):
    return TOKENIZER(text, add_special_tokens=False)["input_ids"]


@given(st.text(max_size=80))
@settings(max_examples=200)
def test_any_text_can_be_encoded_and_comes_back(text):
    import unicodedata

    folded = unicodedata.normalize("NFC", text)
    if not any(special in folded for special in nano.SPECIALS):
        assert TOKENIZER.decode(_ids(text)) == folded


def test_an_answer_is_short():
    assert len(_ids(ANSWER)) <= 60


@pytest.mark.parametrize(
    "word", [" -180", " -5", " 0", " 22", " 180", " 0.0", " 1.6", " 9.9", " overtake_left", "\npath"]
)
def test_numbers_and_common_words_are_one_token(word):
    assert len(_ids(word)) == 1


@pytest.mark.parametrize("phrase", [*ACTIONS, *REASONS])
def test_no_word_of_our_phrases_falls_apart(phrase):
    assert len(_ids(f" {phrase}")) == len(phrase.replace(",", " ,").split())


def test_chinese_characters_of_commands_are_one_token():
    assert len(_ids("左边超车")) == 4


def test_unknown_words_fall_into_pieces_not_away():
    assert TOKENIZER.decode(_ids("Überhole 龘 🚗")) == "Überhole 龘 🚗"


def test_the_same_texts_make_the_same_tokenizer():
    assert nano.build_tokenizer(iter(TEXTS)).get_vocab() == TOKENIZER.get_vocab()


def test_the_vocabulary_is_bounded():
    many = (f"word{''.join(chr(97 + (k // 26**i) % 26) for i in range(4))}" for k in range(4000))
    assert len(nano.build_tokenizer(many)) <= nano.MAX_VOCAB


def test_the_full_model_is_small():
    model = nano.build_model(nano.build_config(TOKENIZER))
    assert sum(p.numel() for p in model.parameters()) <= 7.3e6


def test_weights_follow_from_the_seed():
    config = nano.build_config(TOKENIZER, text_layers=1, vision_depth=1)
    a, b, c = (nano.build_model(config, seed).lm_head.weight for seed in (1, 1, 2))
    assert (a == b).all() and (a != c).any()


def test_the_folder_is_a_standard_one(tmp_path):
    from transformers import AutoModelForImageTextToText, AutoTokenizer, Qwen2VLForConditionalGeneration

    folder = save_tiny(tmp_path / "nano")
    assert type(AutoModelForImageTextToText.from_pretrained(folder)) is Qwen2VLForConditionalGeneration
    again = AutoTokenizer.from_pretrained(folder)
    assert again(ANSWER)["input_ids"] == _ids(ANSWER)
    assert again.eos_token == "<|im_end|>"
    assert all(path.stat().st_size < 15e6 for path in folder.glob("*.safetensors"))
    assert "Stills" not in "".join(p.read_text() for p in folder.glob("*config.json"))


def test_our_chat_text_is_what_the_processor_makes():
    processor = nano.build_processor(TOKENIZER)
    prompt = TEXTS[0]
    text = processor.apply_chat_template(messages(prompt), add_generation_prompt=True)
    image = np.zeros((120, 160, 3), np.uint8)
    theirs = processor(text=[text], images=[image])["input_ids"][0]
    assert list(theirs) == _ids(chat_text(prompt, IMAGE_TOKENS))
    assert len(_ids(SYSTEM)) <= 20


def _request(**changes):
    plain = {"images": (), "ego": EgoState(speed_mps=1.234), "doing": Doing(), "profile": VehicleProfile()}
    return PlanRequest(**(plain | {"cruise_mps": 1.2} | changes))


def test_the_prompt_says_speed_doing_and_command():
    doing = Doing(intent=Intent.KEEP_LEFT, since_s=73.9)
    assert render_prompt(_request(doing=doing)) == "Speed 1.2, cruise 1.2, doing keep_left 9 s. Command: none"
    command = CommandInForce("c", "Overtake on the LEFT!", 2.9, 1)
    assert render_prompt(_request(command=command)).endswith("Command 2 s ago from lane 1: overtake on the left")
    command = CommandInForce("c", "从左边超车。", 0.0)
    assert render_prompt(_request(command=command)).endswith("Command 0 s ago: 从左边超车")


@given(st.text(max_size=600))
def test_a_command_cannot_break_out_of_its_line(text):
    cleaned = clean_command(text)
    assert cleaned and "\n" not in cleaned and len(cleaned) <= 200
    assert "<|" not in cleaned and "|>" not in cleaned
