"""Training: one loop, and the tasks that use it. Each task is one file that shows the whole run."""

from x2i_app.quiet import quiet_import

with quiet_import():  # diffusers imports bitsandbytes
    from x2i_app.training.captions import CaptionsJob
    from x2i_app.training.distill import DistillJob, DistillOptions
    from x2i_app.training.frozen import TeacherText
    from x2i_app.training.job import Job
    from x2i_app.training.light_control import LightControlJob
    from x2i_app.training.loop import LoopOptions, train
    from x2i_app.training.lora import LoRAJob
    from x2i_app.training.losses import attention_kl

# By the names that `python -m x2i_app train` gives them.
JOBS: dict[str, type[Job]] = {
    "captions": CaptionsJob,
    "distill": DistillJob,
    "light-control": LightControlJob,
    "lora": LoRAJob,
}

__all__ = [
    "JOBS",
    "CaptionsJob",
    "DistillJob",
    "DistillOptions",
    "LightControlJob",
    "LoRAJob",
    "LoopOptions",
    "TeacherText",
    "attention_kl",
    "train",
]
