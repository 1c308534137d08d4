"""The images of a run: the student's by `x2i_app.batch`, and the teacher's, which reads T5 and CLIP."""

import json
import shutil
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from x2i_app.batch import RESULTS, run_batch
from x2i_app.devices import best_device, return_unused_memory
from x2i_app.evaluation.media import drawn
from x2i_app.evaluation.outcome import (
    STUDENT,
    TEACHER,
    Options,
    Outcome,
    image_name,
    noise_seed,
    phase,
    read_records,
    write_whole,
)
from x2i_app.evaluation.prompts import Problem
from x2i_app.loading import load_pipeline
from x2i_app.pipeline import Conditioning
from x2i_app.presets import PRESETS
from x2i_app.settings import MODEL_SETTINGS
from x2i_app.training.frozen import load_teacher

TEXT_ENCODERS = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
_TEXT_TOKENS = 512  # the most that FLUX.1 reads


def draw_student(outcome: Outcome, options: Options) -> None:
    """What is not done yet, by `x2i_app.batch`."""
    folder = outcome.folder / STUDENT
    wanted = {image_name(row, seed): (row, seed) for row in outcome.rows for seed in outcome.seeds}
    done = {each for each, record in _records_of(folder, wanted).items() if "error" not in record}
    todo = [
        {"id": name, "seed": noise_seed(row, seed)} | drawn(row.request, options.output / "media")
        for name, (row, seed) in wanted.items()
        if name not in done
    ]
    if todo:
        source = outcome.folder / "rows.jsonl"
        write_whole(source, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in todo))
        sizes = {"width": options.size, "height": options.size} if options.size else {}
        defaults = sizes | ({"steps": options.steps} if options.steps else {})
        run_batch(options.settings, source, folder, defaults, options.draw)
    for name, record in _records_of(folder, wanted).items():
        if "error" in record:
            outcome.problems.append(Problem(wanted[name][0].place, record["error"]))
        else:
            outcome.records[name] = record


def _records_of(folder: Path, names: Container[str]) -> dict[str, dict[str, Any]]:
    """The last record of each image that is there, or that could not be drawn."""
    found = {each["id"]: each for each in read_records(folder / RESULTS) if each.get("id") in names}
    return {name: record for name, record in found.items() if "error" in record or (folder / f"{name}.png").is_file()}


def has_text_encoders(folder: Path) -> bool:
    """Whether a FLUX model's folder has T5 and CLIP."""
    return all((folder / name).is_dir() for name in TEXT_ENCODERS)


def draw_teacher(outcome: Outcome, options: Options) -> None:
    """The same images with T5 and CLIP, which are loaded, used and given back before FLUX comes."""
    folder = outcome.folder / TEACHER
    folder.mkdir(exist_ok=True)
    names = {image_name(row, seed): row for row in outcome.rows for seed in outcome.seeds if row.text}
    todo = {
        name: row for name, row in names.items() if name in outcome.records and not (folder / f"{name}.png").is_file()
    }
    embeds = folder / "embeds"  # 4 MB for each prompt of a FLUX.1 model; removed as its images are done
    if not todo:
        shutil.rmtree(embeds, ignore_errors=True)  # of a run that was killed at its end
        return
    device = torch.device(options.settings.device or ("cpu" if options.settings.profile == "cpu" else best_device()))
    with phase(outcome, "teacher: T5 and CLIP"):
        _encode_texts(options, {row.name: row.text for row in todo.values()}, embeds, device)
    with phase(outcome, "teacher: images"):
        return_unused_memory()
        pipeline = load_pipeline(**{name: getattr(options.settings, name) for name in MODEL_SETTINGS})
        pipeline.set_progress_bar_config(disable=True)
        with pipeline.kept_parts():
            for name, row in tqdm(todo.items(), desc="teacher", unit="image", disable=None):
                image = _draw_one(pipeline, embeds / f"{row.name}.safetensors", outcome.records[name])
                fresh = folder / f"new-{name}.png"
                image.save(fresh)
                fresh.replace(folder / f"{name}.png")
        del pipeline
    shutil.rmtree(embeds, ignore_errors=True)


def _encode_texts(options: Options, texts: Mapping[str, str], folder: Path, device: torch.device) -> None:
    folder.mkdir(exist_ok=True)
    todo = {name: text for name, text in texts.items() if not (folder / f"{name}.safetensors").is_file()}
    if not todo:
        return
    flux = options.settings.flux or PRESETS[options.settings.preset].flux
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    return_unused_memory()
    teacher = load_teacher(flux, dtype).to(device)
    length = min(_TEXT_TOKENS, teacher.max_tokens)
    for name, text in tqdm(todo.items(), desc="teacher: texts", unit="text", disable=None):
        prompt_embeds, pooled = teacher.encode([text], length)
        fresh = folder / f"new-{name}"
        save_file({"prompt_embeds": prompt_embeds.cpu(), "pooled_prompt_embeds": pooled.cpu()}, fresh)
        fresh.replace(folder / f"{name}.safetensors")


def _draw_one(pipeline: Any, embeds: Path, record: Mapping[str, Any]) -> Image.Image:
    """The image of a record, with the teacher's embeddings in place of the student's."""
    dtype, device = pipeline.transformer.dtype, pipeline._execution_device
    found = {name: value.to(device, dtype) for name, value in load_file(embeds).items()}
    return pipeline(
        conditioning=Conditioning(**found),
        width=record["width"],
        height=record["height"],
        num_inference_steps=record["steps"],
        guidance_scale=record["guidance"],
        generator=torch.Generator("cpu").manual_seed(record["seeds"][0]),
    ).images[0]
