"""Make the app's example inputs: python -m x2i_app.miniature.examples --output assets/examples

Writes images, a screenshot, videos with audio, audios, and prompts for them; about 1 MB. The same command always writes
the same images, audios and texts; the bytes of a video depend on the version of ffmpeg.
"""

import argparse
import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np

from x2i_app.miniature.world import (
    LANGUAGES,
    Edit,
    Scene,
    Thing,
    audio,
    describe,
    draw_scene,
    imagined,
    screenshot,
    sounding,
    video,
)

_SNOW_AT_NIGHT = Scene("night", "snow", (Thing("house", "red", "left"), Thing("tree", "green", "right")))
_CAT_IN_RAIN = Scene(
    "rain", "street", (Thing("cat", "orange", "left", "small"), Thing("umbrella", "blue", "middle", "large"))
)
_EVENING_SEA = Scene("sunset", "sea", (Thing("boat", "red", "left"), Thing("fish", "yellow", "right", "small")))
_MEADOW = Scene(
    "day",
    "grass",
    (Thing("flower", "pink", "left", "small"), Thing("balloon", "purple", "middle"), Thing("car", "yellow", "right")),
)
_ROCKET = Scene("night", "sand", (Thing("rocket", "white", "middle"), Thing("star", "yellow", "right", "small")))
_ONLY_RAIN_AT_SEA = Scene("rain", "sea", (Thing("umbrella", "red", "middle"),))
_STREET = Scene("day", "street", (Thing("car", "blue", "left"), Thing("cat", "black", "right", "small")))

DRAWINGS = {
    "house-and-tree-on-snow": _SNOW_AT_NIGHT,
    "cat-and-umbrella": _CAT_IN_RAIN,
    "boat-at-sunset": _EVENING_SEA,
    "balloon-over-meadow": _MEADOW,
}
VIDEOS = {"house-and-tree-on-snow": _SNOW_AT_NIGHT, "rocket-at-night": _ROCKET}
AUDIOS = {"house-and-tree-on-snow": _SNOW_AT_NIGHT, "car-and-cat": _STREET, "rain-at-sea": _ONLY_RAIN_AT_SEA}

# Each shows another scene; the page shows those of its own language first.
PROMPTS = (
    ("en", "a red house and a green tree on snow at night"),
    ("en", "a small orange cat and a large blue umbrella on the street in the rain"),
    ("en", "a white rocket and a yellow star on sand at night"),
    ("en", "a red boat and a small yellow fish on the sea at sunset"),
    ("en", "a purple balloon and a pink flower on grass by day"),
    ("en", "a yellow car on the street in falling snow"),
    ("zh", "夜晚的雪地上，有一座红色的房子和一棵绿色的树"),
    ("zh", "雨中的街道上，左边有一只橙色的小猫，右边有一把蓝色的大雨伞"),
    ("zh", "请画：夜里的沙滩上，中间有一枚白色的大火箭"),
    ("zh", "日落时的海上，有一艘红色的船和一条黄色的小鱼"),
    ("zh", "白天的草地上，有一个紫色的热气球和一朵粉色的花"),
    ("zh", "下雪的街道上，有一辆黄色的汽车"),
    ("de", "Bei Sonnenuntergang auf dem Meer sieht man ein rotes Boot."),
    ("fr", "Dessine une grande montgolfière violette au milieu, sur l'herbe, en plein jour."),
    ("ja", "雪の降る道の上、左に小さな黒い猫、右に大きな黄色い車"),
    ("vi", "Tuyết đang rơi, có một quả bóng nhỏ màu đỏ và một ngôi sao lớn màu vàng trên cỏ."),
)
_PAGE_LANGUAGES = ("en", "zh")
_EDITS_OF_THE_PAGE = (
    ("house-and-tree-on-snow", Edit("sky", "day")),
    ("cat-and-umbrella", Edit("add", addition=Thing("ball", "red", "right", "small"))),
    ("balloon-over-meadow", Edit("colour", "red", Thing("car", "yellow", "right"))),
    ("boat-at-sunset", Edit("remove", target=Thing("fish", "yellow", "right", "small"))),
)
EDITS = (
    *((name, language, edit) for language in _PAGE_LANGUAGES for name, edit in _EDITS_OF_THE_PAGE),
    ("house-and-tree-on-snow", "de", Edit("colour", "blue", Thing("tree", "green", "right"))),
    ("boat-at-sunset", "ja", Edit("sky", "rain")),
    ("cat-and-umbrella", "fr", Edit("sky", "night")),
    ("balloon-over-meadow", "vi", Edit("ground", "snow")),
)
_README = """# Examples

The command `python -m x2i_app.miniature.examples --output assets/examples` makes all of these files from the cartoon
world in `x2i_app/miniature`; they have the licence of the code. The command
`python -m x2i_app train lora --config configs/miniature-lora.yaml` makes the LoRA.
"""


def write_examples(output: Path) -> list[Path]:
    """Write all examples to the folder `output`, which may exist. Return the paths in the order of writing."""
    folders = {name: output / name for name in ("images", "videos", "audios")}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, scene in DRAWINGS.items():
        written.append(folders["images"] / f"{name}.png")
        draw_scene(scene, 256, seed=3).save(written[-1], optimize=True)
    written.append(folders["images"] / "screenshot.png")
    screenshot(PROMPTS[0][1], 256, seed=5).save(written[-1], optimize=True)
    for name, scene in AUDIOS.items():
        written.append(folders["audios"] / f"{name}.wav")
        write_wav(written[-1], audio(scene, seed=3))
    for name, scene in VIDEOS.items():
        written.append(folders["videos"] / f"{name}.mp4")
        frames, fps = video(scene, 4, 12, 256, seed=3)
        write_mp4(written[-1], frames, fps, audio(scene, seed=3))
    for name, content in (("prompts", _prompts()), ("edits", _edits()), ("fusion", _fusion())):
        written.append(output / f"{name}.json")
        written[-1].write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    written.append(output / "README.md")
    written[-1].write_text(_README, encoding="utf-8")
    return written


def write_wav(path: Path, samples: np.ndarray, rate: int = 16000) -> None:
    """Write float samples (N,) in [-1, 1] as a mono 16-bit WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())


def write_mp4(path: Path, frames: np.ndarray, fps: float, samples: np.ndarray, rate: int = 16000) -> None:
    """Write frames (T, H, W, 3) uint8 and an audio track as H.264 (yuv420p) and AAC."""
    from imageio_ffmpeg import write_frames  # only this command needs ffmpeg

    track = path.with_suffix(".track.wav")
    write_wav(track, samples, rate)
    try:
        writer = write_frames(
            str(path),
            frames.shape[2:0:-1],
            fps=fps,
            codec="libx264",
            pix_fmt_out="yuv420p",
            quality=None,
            macro_block_size=2,
            ffmpeg_log_level="error",
            audio_path=str(track),
            audio_codec="aac",
            output_params=["-crf", "23", "-threads", "1", "-b:a", "64k", "-movflags", "+faststart"],
        )
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame))
        writer.close()
    finally:
        track.unlink()


def _prompts():
    return [{"language": language, "text": text} for language, text in PROMPTS]


def _edits():
    return [
        {
            "image": f"images/{name}.png",
            "language": language,
            "instruction": edit.instruction(language),
            "expected": describe(edit.apply(DRAWINGS[name])),
        }
        for name, language, edit in EDITS
    ]


def _fusion():
    """Mixes of inputs. Audio beside an image gives the sky and the ground for the things of the image."""
    rain = sounding(_ONLY_RAIN_AT_SEA)
    meadow_at_sea = replace(_MEADOW, sky=rain.sky, ground=rain.ground)
    paint = Edit("colour", "red", Thing("car", "yellow", "right"))
    star = Edit("add", addition=Thing("star", "yellow", "middle"))
    snow = Edit("sky", "snowfall")
    meadow, rain_at_sea = "images/balloon-over-meadow.png", "audios/rain-at-sea.wav"
    mixes = [_mix(describe(meadow_at_sea), images=[meadow], audios=[rain_at_sea])]
    for language in _PAGE_LANGUAGES:
        mixes += [
            _mix(
                describe(star.apply(_SNOW_AT_NIGHT)),
                language,
                star,
                videos=["videos/house-and-tree-on-snow.mp4"],
            ),
            _mix(describe(paint.apply(meadow_at_sea)), language, paint, images=[meadow], audios=[rain_at_sea]),
            _mix(
                describe(snow.apply(imagined(sounding(_SNOW_AT_NIGHT)))),
                language,
                snow,
                audios=["audios/house-and-tree-on-snow.wav"],
            ),
        ]
    return mixes


def _mix(expected: str, language: str = "", edit: Edit | None = None, **files: list[str]) -> dict:
    """A row of fusion.json; one without a prompt is for every language."""
    prompt = edit.instruction(language) if edit else ""
    return {
        "language": language,
        "prompt": prompt,
        "images": [],
        "videos": [],
        "audios": [],
        "expected": expected,
    } | files


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the command."""
    parser = argparse.ArgumentParser(prog="python -m x2i_app.miniature.examples", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=Path("assets/examples"), help="folder for the files")
    written = write_examples(parser.parse_args(arguments).output)
    total = sum(path.stat().st_size for path in written)
    print(f"{len(written)} files, {total / 1e6:.2f} MB, languages {', '.join(LANGUAGES)}")


if __name__ == "__main__":
    main()
