"""How an AlignNet is distilled."""

from dataclasses import dataclass
from typing import Literal

from x2i_app.errors import InvalidRequestError
from x2i_app.limits import Range, validate_integer, validate_number

_ALLOWED = {
    "batch_size": Range(1, 65536),
    "resolution": Range(16, 8192, 16),
    "num_inference_steps": Range(1, 1000),
    "max_sequence_length": Range(1, 512),
    "samples": Range(1, 64),
}
_SHARE = Range(0, 1)
_POSITIVE = Range(1e-6, 1e6)
_WEIGHT = Range(0, 1e6)
_NOISE = Range(0, 10)


@dataclass(frozen=True)
class DistillOptions:
    """What teacher and student are compared on. The defaults are the public training code's, but for `match_text`.

    Raises InvalidRequestError for a value that is not allowed.
    """

    batch_size: int = 1
    """captions a step; fewer come where fewer have states of one length"""
    resolution: int = 1024
    """side in pixels of the picture that is never painted"""
    max_sequence_length: int = 512
    """T5's tokens"""
    temperature: float = 3.0
    """of the distributions that are compared, as in attention_kl"""
    sigmas: Literal["first", "path", "logit_normal"] = "first"
    """noise: pure, or along the teacher's own way, or that of flow matching over pictures"""
    path_share: float = 1.0
    """share of the captions that go some steps of that way; the others stay at noise"""
    num_inference_steps: int = 4
    """steps of that way"""
    samples: int = 4
    """captions that are drawn, by teacher and student, at every evaluation"""
    guidance_scale: float = 3.5
    """for transformers that take one"""
    output_weight: float = 0.0
    """of the mean squared difference of the velocities, added to the loss"""
    state_noise: float = 0.0
    """noise added to the MLLM's states, as a share of their size; what no caption says then fares better"""
    match_text: bool = False
    """compare text rows too; AlignNet's and T5's must then be equally many"""

    def __post_init__(self):
        for name, allowed in _ALLOWED.items():
            validate_integer(name, getattr(self, name), allowed)
        validate_number("path_share", self.path_share, _SHARE)
        if self.path_share != 1 and self.sigmas != "path":
            raise InvalidRequestError(f"path_share is {self.path_share}, which only counts with sigmas: path.")
        validate_number("temperature", self.temperature, _POSITIVE)
        validate_number("output_weight", self.output_weight, _WEIGHT)
        validate_number("state_noise", self.state_noise, _NOISE)
