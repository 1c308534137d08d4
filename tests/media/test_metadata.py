"""Settings in PNG files: written, read back, and read from hostile files."""

import base64
import io
import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from x2i_app.errors import InvalidRequestError, MediaError
from x2i_app.media import Prepared, Recipe, VideoPart, describe, file_hash, read_recipe, save_image
from x2i_app.presets import FLUX_MODELS
from x2i_app.request import GenerationRequest, GenerationResult, Turn
from x2i_app.settings import ASSETS, Settings

BOAT, CAT = (ASSETS / f"examples/images/{name}.png" for name in ("boat-at-sunset", "cat-and-umbrella"))
ROCKET = ASSETS / "examples/videos/rocket-at-night.mp4"
RAIN = ASSETS / "examples/audios/rain-at-sea.wav"
SETTINGS = Settings()


def result_of(**fields) -> GenerationResult:
    numbers = {"width": 64, "height": 96, "num_inference_steps": 4, "guidance_scale": 3.5, "seed": 7}
    request = GenerationRequest(**numbers | fields)
    seeds = tuple(request.seed + i for i in range(request.num_images_per_prompt))
    images = tuple(Image.new("RGB", (64, 96), (seed, 0, 0)) for seed in seeds)
    inputs = Prepared.of(request, FLUX_MODELS["x2i-tiny"], seed=0).record
    return GenerationResult(images, seeds, request, answer="a boat", inputs=inputs)


def write(path, result, index=0, settings=SETTINGS):
    save_image(result.images[index], path, describe(result, settings)[index])
    return path


def with_text(path, text, key="x2i"):
    chunks = PngInfo()
    chunks.add_text(key, text)
    Image.new("RGB", (4, 4)).save(path, pnginfo=chunks)
    return path


def test_settings_are_stored_and_read(tmp_path):
    made = result_of(prompt="雪地上的红房子", num_images_per_prompt=3, reason=True)
    recipe = read_recipe(write(tmp_path / "second.png", made, 1))
    assert recipe.request == replace(made.request, seed=8, num_images_per_prompt=1)
    assert (recipe.preset, recipe.flux) == ("x2i-tiny", "x2i-tiny")
    request = recipe.request
    assert (request.prompt, request.width, request.height, request.reason) == ("雪地上的红房子", 64, 96, True)
    assert (request.num_inference_steps, request.guidance_scale, request.control_strength) == (4, 3.5, 0)


def test_a_part_of_a_video(tmp_path):
    """Is stored and read; the MLLM gets only that part, and of earlier turns whole videos."""
    made = result_of(videos=(ROCKET,), history=(Turn("before", videos=(ROCKET,)),), video_start=0.5, video_end=2.0)
    assert read_recipe(write(tmp_path / "a.png", made)).request.video_part == (0.5, 2.0)
    prepared = Prepared.of(made.request, FLUX_MODELS["x2i-tiny"], seed=0)
    assert [turn.videos for turn in prepared.turns] == [(ROCKET,), (VideoPart(ROCKET, 0.5, 2.0),)]
    whole = Prepared.of(made.request.with_values(video_start=None, video_end=None), FLUX_MODELS["x2i-tiny"], seed=0)
    assert whole.turns[-1].videos == (ROCKET,)


def test_parameters_in_the_format_of_a1111(tmp_path):
    path = write(tmp_path / "a.png", result_of(prompt="a red house\non snow"))
    with Image.open(path) as image:
        rows = image.info["parameters"].split("\n")
    assert rows[:2] == ["a red house", "on snow"]
    assert "Steps: 4, Sampler: Euler, Distilled CFG Scale: 3.5, Seed: 7, Size: 64x96, Model: x2i-tiny" in rows[2]


def test_files_are_stored_as_hashes(tmp_path):
    """A file is recognized by its hash under any name."""
    made = result_of(
        images=(BOAT,), audios=(RAIN,), history=(Turn(prompt="a cat", images=(CAT,), answer="yes"),), prompt="all"
    )
    path = write(tmp_path / "a.png", made)
    assert b"boat-at-sunset" not in path.read_bytes()
    recipe = read_recipe(path)
    assert recipe.request.images == (f"sha256:{file_hash(BOAT)}",)
    assert recipe.missing([]) == {"images": 2, "audios": 1}
    renamed = tmp_path / "other.png"
    renamed.write_bytes(BOAT.read_bytes())
    assert recipe.missing([RAIN, renamed]) == {"images": 1}
    again = recipe.with_files(images=(CAT, renamed), audios=(RAIN,))
    assert again.images == (renamed,)
    assert again.history[0].images == (CAT,)
    with pytest.raises(InvalidRequestError, match="made with: 1 image, 1 audio; add them"):
        recipe.with_files(images=(BOAT,))


def test_the_source_image_is_required(tmp_path):
    turn = Turn(prompt="a boat", answer="a boat by day")
    made = result_of(prompt="make it night", history=(turn,), source_image=BOAT, control_strength=1)
    recipe = read_recipe(write(tmp_path / "a.png", made))
    assert recipe.missing([]) == {"source_images": 1}
    with pytest.raises(InvalidRequestError, match="made with: 1 source_image; add them"):
        recipe.with_files()
    again = recipe.with_known([CAT, BOAT])
    assert (again.source_image, Recipe(again).missing([])) == (BOAT, {})
    own = read_recipe(write(tmp_path / "b.png", result_of(images=(BOAT,), source_image=BOAT, prompt="on")))
    assert own.missing([]) == {"images": 1}, "one file is asked for once"


def test_a_mask_is_stored_unless_it_is_too_large(tmp_path):
    rng = np.random.default_rng(0)
    coarse, fine = rng.integers(0, 256, (20, 30), np.uint8), rng.integers(0, 256, (800, 800), np.uint8)
    for number, levels in enumerate((coarse, fine)):
        Image.fromarray(levels).save(tmp_path / f"mask-{number}.png")
        made = result_of(prompt="a cat", images=(BOAT,), mask=tmp_path / f"mask-{number}.png")
        recipe = read_recipe(write(tmp_path / "a.png", made))
        if number == 0:
            assert (np.asarray(recipe.request.mask) == 255 * (levels > 127)).all()
            assert recipe.missing([BOAT]) == {}
            again = recipe.with_files(images=(BOAT,))
            assert written(replace(made, request=again))["mask_png"] == written(made)["mask_png"]
        else:
            assert recipe.missing([BOAT]) == {"masks": 1}
            with pytest.raises(InvalidRequestError, match="made with: 1 mask; add them"):
                recipe.with_files(images=(BOAT,))


def written(result):
    return json.loads(describe(result, SETTINGS)[0]["x2i"])


def test_another_file_replaces_an_unknown_one(tmp_path):
    recipe = read_recipe(write(tmp_path / "a.png", result_of(images=(BOAT,), control_strength=0.5)))
    again = recipe.with_files(images=(CAT,))
    assert (again.images, again.control_strength) == ((CAT,), 0.5)


def test_loras_keep_their_weights(tmp_path):
    lora = tmp_path / "style.safetensors"
    lora.write_bytes(b"weights")
    made = result_of(prompt="a house", loras=((lora, 0.8),))
    recipe = read_recipe(write(tmp_path / "a.png", made))
    assert recipe.missing([]) == {"loras": 1}
    assert recipe.with_files(loras=((lora, 1.0),)).loras == ((lora, 0.8),)


def test_a_models_folder_is_not_stored(tmp_path, monkeypatch):
    """Of a model on this machine only the last component of its path is stored, also if the folder is gone."""
    folder = tmp_path / "home" / "my-flux"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for flux in (str(folder), "home/my-flux", "./home/my-flux"):
        texts = describe(result_of(prompt="a house"), Settings(flux=flux))[0]
        assert json.loads(texts["x2i"])["flux"] == "my-flux"
        assert "home" not in "".join(texts.values())
    folder.rmdir()
    for flux in (str(folder), "./home/my-flux", "~/home/my-flux", "C:\\home\\my-flux", "a/home/my-flux"):
        assert "home" not in "".join(describe(result_of(prompt="a house"), Settings(flux=flux))[0].values())
    texts = describe(result_of(prompt="a house"), Settings(flux="owner/model"))[0]
    assert json.loads(texts["x2i"])["flux"] == "owner/model"


def test_long_settings_are_refused(tmp_path):
    """Valid settings, but longer than X2I writes them."""
    path = with_text(tmp_path / "long.png", json.dumps(GOOD | {"notes": ["x" * 600_000]}))
    with pytest.raises(MediaError, match="characters; up to 524,288 are allowed"):
        read_recipe(path)


def test_commits_of_the_model_are_stored(tmp_path):
    """The file tells which weights have drawn the image. A FLUX model's revision stays in its name."""
    commits = {"mllm": f"Qwen/Qwen2.5-VL-3B-Instruct@{'a' * 40}", "alignnet": f"OPPOer/X2I@{'b' * 40}/net.bin"}
    made = replace(result_of(prompt="a house"), commits=commits)
    path = write(tmp_path / "a.png", made, settings=Settings(flux=f"owner/name@{'c' * 40}"))
    with Image.open(path) as image:
        stored = json.loads(image.text["x2i"])
    assert stored["commits"] == made.report()["commits"] == commits
    assert stored["flux"] == f"owner/name@{'c' * 40}"
    assert read_recipe(path).request.prompt == "a house"
    assert "commits" not in result_of(prompt="a house").report()


def test_metadata_can_be_turned_off(tmp_path):
    path = write(tmp_path / "a.png", result_of(prompt="secret"), settings=Settings(metadata=False))
    assert b"secret" not in path.read_bytes()
    with pytest.raises(MediaError, match="contains no settings"):
        read_recipe(path)


def png_of(size):
    buffer = io.BytesIO()
    Image.new("1", size).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


HUGE = png_of((66_000, 4))
GOOD = json.loads(describe(result_of(prompt="a house"), SETTINGS)[0]["x2i"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 40}, "width is 40; it must be 64 to 2048"),
        ({"width": 10**5000}, "damaged or not from X2I"),  # Python itself refuses to read it
        ({"seed": True}, "seed is True"),
        ({"prompt": "a\x00b"}, "control character"),
        ({"prompt": ["a"]}, "must be text"),
        ({"images": ["/etc/passwd"]}, "is not a SHA-256"),
        ({"images": ["0" * 64] * 9}, "9 images were given; at most 8 are allowed"),
        ({"images": {"a": 1}}, "is not a SHA-256"),
        ({"history": [{"prompt": "x"}]}, "damaged or not from X2I"),
        ({"loras": [5]}, "damaged or not from X2I"),
        ({"loras": [{"sha256": None, "weight": "1"}]}, "must be a number"),
        ({"format": 2}, "from another version"),
        ({"mask_png": 5}, "their mask is not a text"),
        ({"mask_png": "a" * 70_000}, "their mask is not a text"),
        ({"mask_png": "!"}, "damaged or not from X2I"),
        ({"mask_png": "AAAA"}, "their mask is not a valid PNG"),
        ({"mask_png": HUGE}, "is 66,000 x 4 pixels"),
        ({"preset": {}}, None),
    ],
)
def test_invalid_settings_are_refused(tmp_path, changes, said):
    text = json.dumps(GOOD, default=str)[:-1] + ", " + _dump(changes)[1:]
    path = with_text(tmp_path / "bad.png", text)
    if said is None:
        assert read_recipe(path).preset is None
        return
    with pytest.raises(MediaError) as raised:
        read_recipe(path)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def _dump(changes):
    return json.dumps(changes) if changes.get("width") != 10**5000 else '{"width": 1' + "0" * 5000 + "}"


@pytest.mark.parametrize("text", ["[]", "null", "{", '"x2i"', "[" * 100_000, '{"format": 1}', "x" * 600_000])
def test_other_texts_are_refused(tmp_path, text):
    with pytest.raises(MediaError, match=r"The settings in 'bad\.png'"):
        read_recipe(with_text(tmp_path / "bad.png", text))


def test_a_text_bomb_is_refused(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "bomb.png")
    whole = (tmp_path / "bomb.png").read_bytes()
    bomb = b"x2i\x00\x00" + zlib.compress(b"0" * 100_000_000)
    chunk = b"zTXt" + bomb
    data = len(bomb).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    (tmp_path / "bomb.png").write_bytes(whole[:33] + data + whole[33:])
    with pytest.raises(MediaError):
        read_recipe(tmp_path / "bomb.png")
