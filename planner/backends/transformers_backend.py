"""Plans from any image-text-to-text model in a Hugging Face folder (or a LoRA adapter on one), in this process.

Greedy, constrained to the plan grammar, batched. On a CPU in float32, which is the fastest there for small models.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from bridge.messages import Doing, EgoState, VehicleProfile
from bridge.planning import CommandInForce, PlanAnswer, PlanError, PlanRequest
from planner.backends.adapters import AdapterError, base_and_adapter
from planner.backends.model_inputs import PAIR_MODELS, PairInputs, ProcessorInputs
from planner.decoding import DecodingError, Grammar, decode
from planner.grammar import GrammarError, answer_regex, parse_answer
from planner.lean import LeanQwen2VL
from planner.prompt import SYSTEM, SYSTEM_STOCK, render_prompt
from planner.scale import parse_at_full_scale, request_at_model_scale

SMALL_PARAMETERS = 50_000_000


class ModelError(RuntimeError):
    """The model folder or adapter cannot serve as a planner; the message says what is wrong."""


class TransformersBackend:
    """`bridge.planning.PlannerBackend` on a local model.

    Args: `model`: folder (or a name known to the hub's cache) of the model, or of a LoRA adapter whose settings name
    its base; an adapter is merged into the weights. `base`: the model to put the adapter on instead. `trained`: the
    model was trained on our grammar (short system text, only our phrases); otherwise it is told the format and may use
    its own words. A trained one thinks at the scale of the default car: speeds and distances of another are converted
    on the way in and out (`planner.scale`). `threads`: for torch; None: one for a small model on a CPU, whose steps are
    too short to share. `rate_hz`: the most plans per second that a car is given; fixed, so that an evaluation does not
    depend on the machine. Raises ModelError.
    """

    wants_truth = False

    def __init__(
        self,
        model: str | Path,
        *,
        base: str | Path | None = None,
        trained: bool = True,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        threads: int | None = None,
        max_tokens: int = 256,
        rate_hz: float = 4.0,
        name: str | None = None,
    ):
        self._device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self._max_tokens, self._trained = max_tokens, trained
        self.name = (name or Path(model).name)[:64]
        try:
            base, adapter = base_and_adapter(model, base)
        except AdapterError as error:
            raise ModelError(str(error)) from error
        dtype = dtype or (torch.float32 if self._device.type == "cpu" else torch.bfloat16)
        self._tokenizer, self._inputs = _load_inputs(base, SYSTEM if trained else SYSTEM_STOCK)
        self.model = _load_model(base, dtype).to(self._device).eval()
        small = self._device.type == "cpu" and self.model.num_parameters() < SMALL_PARAMETERS
        if threads or small:
            torch.set_num_threads(threads or 1)
        vocab = self.model.get_output_embeddings().weight.shape[0]
        self._grammar = Grammar(self._tokenizer, answer_regex(free=not trained), vocab)
        if adapter:
            self._adapt(adapter)
        lean = small and self.model.config.model_type == "qwen2_vl" and self.model.dtype == torch.float32
        self._decoder = LeanQwen2VL(self.model) if lean else self.model
        self.rate_hz = rate_hz
        self.plan([_probe()])  # the first answer is slow

    def plan(self, requests: Sequence[PlanRequest]) -> list[PlanAnswer | PlanError]:
        """One answer per request, in order; `model_s` is the time of the whole batch. A frame that cannot be used or an
        answer that does not end in time yields a PlanError in its place."""
        begin = time.perf_counter()
        real = requests
        if self._trained:
            requests = [request_at_model_scale(request) for request in real]
        prompts = [render_prompt(request) for request in requests]
        usable = [i for i, request in enumerate(requests) if _has_frames(request)]
        answers: list[PlanAnswer | PlanError] = [
            PlanError("frames: one or two RGB uint8 (h, w, 3) are needed") for _ in requests
        ]
        if not usable:
            return answers
        inputs = self._to_device(self._inputs([requests[i] for i in usable], [prompts[i] for i in usable]))
        try:
            rows = decode(self._decoder, inputs, self._grammar, self._max_tokens)
        except DecodingError as error:
            rows, answers = [], [PlanError(str(error)) for _ in requests]
        model_s = time.perf_counter() - begin
        for i, tokens in zip(usable, rows, strict=False):
            answers[i] = self._read(tokens, real[i].profile, prompts[i], model_s)
        return answers

    def _read(self, tokens, profile: VehicleProfile, prompt: str, model_s: float) -> PlanAnswer | PlanError:
        if tokens is None:
            return PlanError(f"the answer did not end within {self._max_tokens} tokens")
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        try:
            answer = parse_at_full_scale(text, profile) if self._trained else parse_answer(text, profile)
        except GrammarError as error:
            return PlanError(str(error))
        return replace(answer, prompt=prompt, model_s=model_s)

    def _to_device(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        dtype = self.model.dtype
        return {k: v.to(self._device, dtype if v.is_floating_point() else None) for k, v in inputs.items()}

    def _adapt(self, folder: Path) -> None:
        """Put the adapter on. An adapter that reaches no layer, or changes nothing, is refused: peft would load both
        without a word."""
        from peft import PeftModel
        from peft.tuners.tuners_utils import BaseTunerLayer

        probe = self._to_device(self._inputs([_probe()], [render_prompt(_probe())]))
        before = self._logits(probe)
        adapted = PeftModel.from_pretrained(self.model, str(folder))
        reached = sum(isinstance(module, BaseTunerLayer) for module in adapted.modules())
        if not reached:
            raise ModelError(f"adapter {folder}: none of its target modules exist in the base model")
        self.model = adapted.merge_and_unload().eval()
        if torch.equal(before, self._logits(probe)):
            raise ModelError(f"adapter {folder}: {reached} layers reached, but the answers are those of the base model")

    @torch.inference_mode()
    def _logits(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.model(**inputs, logits_to_keep=1).logits


def _has_frames(request: PlanRequest) -> bool:
    return bool(request.images) and all(
        i.ndim == 3 and i.shape[2] == 3 and i.dtype == np.uint8 and min(i.shape[:2]) >= 16 for i in request.images
    )


def _probe() -> PlanRequest:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    command = CommandInForce("probe", "overtake on the left", 1.0, 0)
    return PlanRequest((image,), EgoState(speed_mps=1.0), Doing(), VehicleProfile(), 1.2, command)


def _load_inputs(base: str, system: str):
    """(tokenizer, maker of inputs)."""
    try:
        kind = AutoConfig.from_pretrained(base).model_type
        if kind in PAIR_MODELS:
            tokenizer = AutoTokenizer.from_pretrained(base)
            return tokenizer, PairInputs(base, tokenizer, system)
        processor = AutoProcessor.from_pretrained(base)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"model {base}: cannot load its processor: {error}") from error
    return processor.tokenizer, ProcessorInputs(processor, system)


def _load_model(base: str, dtype: torch.dtype):
    try:
        return AutoModelForImageTextToText.from_pretrained(base, dtype=dtype, attn_implementation="sdpa")
    except (OSError, ValueError) as error:
        raise ModelError(f"model {base}: cannot be loaded: {error}") from error
