"""Training: one loop, and the tasks that use it."""

from x2i_app.training.distill import distill
from x2i_app.training.distill_options import DistillOptions
from x2i_app.training.loop import train
from x2i_app.training.loop_options import LoopOptions
from x2i_app.training.losses import attention_kl
from x2i_app.training.teacher import TeacherText

__all__ = ["DistillOptions", "LoopOptions", "TeacherText", "attention_kl", "distill", "train"]
