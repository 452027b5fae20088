"""What the model is told: one short line of text about speed, doing and command, and the chat around it.

Numbers are rounded so that a small model meets few different tokens. Knows nothing of any tokenizer but the fixed chat
form of the Qwen2-VL family (`chat_text`), which small models get without a template engine.
"""

from __future__ import annotations

import unicodedata

from bridge.planning import PlanRequest
from planner.grammar import SEGMENTS

MAX_COMMAND_CHARS = 200
SYSTEM = "Describe the road, then plan the drive."
SYSTEM_STOCK = (
    "You drive a small car and see through its front camera (fisheye). Lanes are numbered from the right, 0 first. "
    "First say in one line what you see: '<n> lanes, I am in lane <k> <left|centre|right>. Road <is straight|bends "
    "gently left|bends sharply left|bends gently right|bends sharply right>. <Nothing ahead|Car in lane <k> at <d> m>. "
    "<What you do>.' Then exactly three lines:\n"
    "intent <follow_lane|change_left|change_right|overtake_left|overtake_right|follow_vehicle|keep_left|keep_right|"
    "avoid_obstacle|pull_over|stop> <none|accepted|waiting|refused|done>[: reason]\n"
    f"path <{SEGMENTS} whole numbers: heading in degrees of each next piece of path, two wheelbases long, 0 ahead, "
    "positive left>\n"
    "speed <m/s at the first point> <m/s at the last point>\n"
    "The word after the intent is your verdict on the command in force (none without a command); refuse or wait, with "
    "a reason, when it is impossible or unsafe. Slow down in bends, keep distance, stay on the road."
)
CHAT = (
    "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n<|vision_start|>{image}<|vision_end|>{prompt}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def render_prompt(request: PlanRequest) -> str:
    """One line, e.g. "Speed 1.2, cruise 1.2, doing follow_lane 3 s. Command 2 s ago from lane 0: overtake on the left"
    or "... Command: none". Speeds in m/s to 0.1, ages in whole seconds, at most 9."""
    text = (
        f"Speed {_speed(request.ego.speed_mps)}, cruise {_speed(request.cruise_mps)}, "
        f"doing {request.doing.intent} {_seconds(request.doing.since_s)} s. "
    )
    command = request.command
    if command is None:
        return text + "Command: none"
    lane = f" from lane {min(max(command.start_lane, 0), 9)}" if command.start_lane is not None else ""
    return text + f"Command {_seconds(command.age_s)} s ago{lane}: {clean_command(command.text)}"


def clean_command(text: str) -> str:
    """A command as the model reads it: one line, lower case, full-width forms folded, no chat markup, at most
    MAX_COMMAND_CHARS characters."""
    folded = unicodedata.normalize("NFKC", text).lower().replace("<|", "< ").replace("|>", " >")
    printable = "".join(c if c.isprintable() else " " for c in folded)
    return " ".join(printable.split())[:MAX_COMMAND_CHARS].rstrip(" .!。") or "none"


def chat_text(prompt: str, image_tokens: int, system: str = SYSTEM) -> str:
    """The whole text before the answer in Qwen2-VL's chat form, with the image placeholder repeated `image_tokens`
    times: what the processor makes of `messages`."""
    return CHAT.format(system=system, image="<|image_pad|>" * image_tokens, prompt=prompt)


def messages(prompt: str, system: str = SYSTEM) -> list[dict]:
    """Chat messages for `processor.apply_chat_template`: system text, then image and prompt."""
    return [
        {"role": "system", "content": [{"type": "text", "text": system}]},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]},
    ]


def _speed(speed_mps: float) -> str:
    return f"{min(max(speed_mps, 0.0), 99.9):.1f}"


def _seconds(age_s: float) -> int:
    return int(min(max(age_s, 0.0), 9.0))
