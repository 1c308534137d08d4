"""The nodes' contract with ComfyUI, without ComfyUI. tests/comfyui/run.py runs the workflows in a real one."""

import importlib.util
import json
import os
import shutil
import sys
import tomllib
import types
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from encoders.internvl_checkpoint_factory import save_internvl
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import save_file
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from tests.comfyui.workflows import FOLDER, PAGE_ONLY, WIDGETS, as_workflow, graphs
from x2i_app import __version__, load_pipeline
from x2i_app.cli import main
from x2i_app.comfyui import host
from x2i_app.comfyui.flux import original_names
from x2i_app.comfyui.nodes import (
    NODE_CLASS_MAPPINGS,
    NODE_DISPLAY_NAME_MAPPINGS,
    Encode,
    FollowImage,
    LoadAlignNet,
    LoadMLLM,
    ReadImage,
    RewritePrompt,
)
from x2i_app.errors import CheckpointError, InvalidRequestError, UnsupportedModalityError, X2IError
from x2i_app.loading import load_transformer
from x2i_app.models import AlignNet
from x2i_app.presets import PRESETS
from x2i_app.request import Turn
from x2i_app.settings import ASSETS

EXAMPLES = ASSETS / "examples"
PROMPT = "a red house on snow at night"


@pytest.fixture(scope="module")
def mllm():
    return LoadMLLM().load("x2i-tiny", "full", "default")[0]


@pytest.fixture(scope="module")
def alignnet():
    return LoadAlignNet().load("x2i-tiny")[0]


@pytest.fixture(scope="module")
def pipeline():
    return load_pipeline("x2i-tiny", device="cpu")


def imported(folder: Path):
    """A folder of custom_nodes, as ComfyUI imports it."""
    spec = importlib.util.spec_from_file_location("custom_nodes_x2i", folder / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def as_image(*files: Path) -> torch.Tensor:
    """As ComfyUI's Load Image."""
    pixels = [np.asarray(Image.open(file).convert("RGB")).astype(np.float32) / 255 for file in files]
    return torch.from_numpy(np.stack(pixels))


def as_audio(samples: np.ndarray) -> dict:
    """As ComfyUI's Load Audio, for the input of this name."""
    return {"audio": {"waveform": torch.from_numpy(samples)[None, None], "sample_rate": 16_000}}


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_a_node_describes_itself(name):
    node = NODE_CLASS_MAPPINGS[name]
    inputs = node.INPUT_TYPES()
    assert NODE_DISPLAY_NAME_MAPPINGS[name].startswith("X2I ")
    assert (node.CATEGORY, bool(node.DESCRIPTION), callable(getattr(node, node.FUNCTION))) == ("X2I", True, True)
    assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES) == len(node.OUTPUT_TOOLTIPS)
    assert node.SEARCH_ALIASES
    for kind, options in [*inputs["required"].values(), *inputs.get("optional", {}).values()]:
        choices = isinstance(kind, list) and (kind or name == "X2ILoadImage")  # without ComfyUI there are no images
        assert choices or (isinstance(kind, str) and kind.isupper()), kind
        assert options["tooltip"]
    values = [  # ComfyUI's page saves them by position
        key
        for part in ("required", "optional")
        for key, (kind, *_) in inputs.get(part, {}).items()
        if isinstance(kind, list) or kind in ("INT", "FLOAT", "STRING", "BOOLEAN")
    ]
    assert name not in WIDGETS or values == [key for key in WIDGETS[name] if key not in PAGE_ONLY]


def test_the_conditioning_is_that_of_the_pipeline(mllm, alignnet, pipeline):
    boat = EXAMPLES / "images/boat-at-sunset.png"
    frames = (np.arange(3 * 32 * 32 * 3) % 256).astype(np.uint8).reshape(3, 32, 32, 3)
    tone = np.sin(np.arange(16_000) / 9).astype(np.float32)
    given = {"images": [boat], "videos": [(frames, 1.0)], "audios": [(tone, 16_000)]}
    expected = pipeline.encode(PROMPT, **given)
    conditioning, answer, notes, history = Encode().encode(
        mllm, alignnet, PROMPT, 2.5, False,
        images=as_image(boat), video_frames=torch.from_numpy(frames) / 255, video_fps=1.0,
        **as_audio(tone),
    )  # fmt: skip
    ((embeds, values),) = conditioning
    assert torch.equal(embeds, expected.prompt_embeds)
    assert torch.equal(values["pooled_output"], expected.pooled_prompt_embeds)
    assert values.keys() == {"pooled_output", "guidance"}
    assert (values["guidance"], answer, notes) == (2.5, expected.answer or "", "\n".join(expected.notes))
    assert [turn.prompt for turn in history] == [PROMPT]


def test_a_history_is_read(mllm, alignnet, pipeline):
    *_, history = Encode().encode(mllm, alignnet, PROMPT, 3.5, True)
    assert history[0].answer
    conditioning, *_ = Encode().encode(mllm, alignnet, "make it day", 3.5, False, history=history)
    expected = pipeline.encode("make it day", history=history)
    assert torch.equal(conditioning[0][0], expected.prompt_embeds)
    without, *_ = Encode().encode(mllm, alignnet, "make it day", 3.5, False)
    assert without[0][0].shape != conditioning[0][0].shape or not torch.equal(without[0][0], conditioning[0][0])


def test_a_prompt_is_rewritten(mllm):
    (text,) = RewritePrompt().rewrite(mllm, "ein rotes Haus", "Rewrite: ")
    assert "house" in text


def test_a_modality_that_the_mllm_lacks_is_one_sentence(tmp_path):
    """A real InternVL, which hears nothing: Whisper would write down speech, but there is no file of it here.

    All known families see videos, so this one is loaded as one that does not.
    """
    (tmp_path / "internvl").mkdir()
    folder = save_internvl(tmp_path / "internvl")
    mllm = LoadMLLM().load("x2i-tiny", "full", "cpu", path=str(folder))[0]
    mllm.encoder.spec = replace(mllm.encoder.spec, modalities=("text", "image"))
    net = AlignNet(mllm.encoder.num_states, mllm.encoder.hidden_size, joint_dim=128, pooled_dim=128)
    net.save_pretrained(tmp_path / "net")
    alignnet = LoadAlignNet().load("x2i-tiny", path=str(tmp_path / "net"))[0]
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000).astype(np.float32)
    frames = torch.zeros(3, 32, 32, 3)
    for error, sentence, given in (
        (UnsupportedModalityError, "internvl2.5 does not support video, only text, image; presets that do: x2i-tiny",
            {"video_frames": frames}),
        (CheckpointError, "Whisper's base model is not in the cache and cannot be downloaded", as_audio(noise)),
        (UnsupportedModalityError, "No speech was found in the audio, and internvl2.5 can only", as_audio(0 * noise)),
    ):  # fmt: skip
        with pytest.raises(error, match=sentence):
            Encode().encode(mllm, alignnet, PROMPT, 3.5, False, **given)
    *_, history = Encode().encode(mllm, alignnet, PROMPT, 3.5, False)
    heard = (*history, Turn("and this", videos=[(np.zeros((2, 32, 32, 3), np.uint8), 1.0)]))
    with pytest.raises(UnsupportedModalityError, match="does not support video"):
        Encode().encode(mllm, alignnet, PROMPT, 3.5, False, history=heard)
    assert Encode().encode(mllm, alignnet, PROMPT, 3.5, False)[0][0][0].isfinite().all()  # the next workflow runs


def test_an_image_is_loaded_as_everywhere(tmp_path, monkeypatch):
    """tests/ui/test_image_pixels.py compares the pixels of hard images."""
    folder = tmp_path / "input"
    (folder / "clipspace").mkdir(parents=True)
    monkeypatch.setattr(host, "input_folder", lambda: folder)
    Image.new("RGBA", (8, 4), (255, 0, 0, 0)).save(folder / "clear.webp", lossless=True)
    Image.new("RGB", (8194, 2), "red").save(folder / "clipspace/wide.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "outside.png")
    (folder / "notes.txt").touch()
    names = ReadImage.INPUT_TYPES()["required"]["image"][0]
    assert names == ["clear.webp"]
    image, notes, mask = ReadImage().load("clear.webp")
    assert (image.dtype, image.shape, image.min(), notes) == (torch.float32, (1, 4, 8, 3), 1, "")
    assert (mask.dtype, mask.shape, mask.min()) == (torch.float32, (1, 4, 8), 1)
    pasted, notes, mask = ReadImage().load("clipspace/wide.png [input]")
    assert pasted.shape[2] == mask.shape[2] == 8192
    assert "scaled down" in notes
    assert mask.max() == 0
    for name in ("gone.png", "../outside.png", str(tmp_path / "outside.png")):
        assert f"There is no {name!r} in {folder}; choose or upload" in ReadImage.VALIDATE_INPUTS(name)
        with pytest.raises(InvalidRequestError, match="choose or upload another image"):
            ReadImage().load(name)
    assert ReadImage.VALIDATE_INPUTS("clear.webp") is True
    assert ReadImage.VALIDATE_INPUTS(None) is True  # another node makes the name
    before = ReadImage.IS_CHANGED("clear.webp")
    Image.new("RGB", (8, 4)).save(folder / "clear.webp")
    assert ReadImage.IS_CHANGED("clear.webp") != before


def test_what_was_painted_in_the_mask_editor_keeps_its_colors(tmp_path, monkeypatch):
    """ComfyUI's mask editor saves its mask as transparency. In another image, transparent pixels are white."""
    monkeypatch.setattr(host, "input_folder", lambda: tmp_path)
    (tmp_path / "clipspace").mkdir()
    painted = Image.new("RGBA", (8, 4), (255, 0, 0, 255))
    painted.putpixel((2, 1), (255, 0, 0, 0))
    painted.putpixel((3, 1), (255, 0, 0, 51))
    for name, color in (("clipspace/clipspace-painted-masked-1.png", [1, 0, 0]), ("a.png", [1, 1, 1])):
        painted.save(tmp_path / name)
        image, _, mask = ReadImage().load(name)
        assert image[0, 1, 2].tolist() == color
        assert image[0, 0, 0].tolist() == [1, 0, 0]
        assert mask[0, 1, 1:4].tolist() == pytest.approx([0, 1, 0.8])


def test_images_of_other_forms_are_read(mllm, alignnet, pipeline):
    """Of other sizes, which one batch cannot hold; with transparency, and gray ones with one channel."""
    given = torch.rand(3, 24, 32, 3), torch.rand(1, 40, 16, 4), torch.rand(1, 20, 20, 1)
    first, second, third = ((255 * images).round().to(torch.uint8).numpy() for images in given)
    conditioning, *_ = Encode().encode(
        mllm, alignnet, PROMPT, 3.5, False, images=given[0], images_2=given[1], images_3=given[2]
    )
    expected = pipeline.encode(PROMPT, images=[*first, *second, *third[..., 0]])
    assert torch.equal(conditioning[0][0], expected.prompt_embeds)
    conditioning, *_ = Encode().encode(mllm, alignnet, PROMPT, 3.5, False, video_frames=torch.rand(3, 24, 32, 4))
    assert conditioning[0][0].isfinite().all()


def test_an_empty_batch_is_not_passed_over(mllm, alignnet):
    nothing = torch.zeros(0, 32, 32, 3)
    silence = {"waveform": torch.zeros(0, 1, 100), "sample_rate": 16_000}
    for given in ({"images": nothing}, {"images_3": nothing}, {"video_frames": nothing}, {"audio": silence}):
        with pytest.raises(InvalidRequestError, match=r"An empty batch of (images|audio) came"):
            Encode().encode(mllm, alignnet, PROMPT, 3.5, False, **given)
    with pytest.raises(InvalidRequestError, match="An empty batch of images came"):
        RewritePrompt().rewrite(mllm, PROMPT, "", images=nothing)


class VideoFromFile:
    """As ComfyUI's, which run.py uses. seconds: of a video that was trimmed."""

    def __init__(self, path, seconds=2.0):
        self.path, self.seconds, self.was_decoded = path, seconds, False

    def get_stream_source(self):
        return self.path

    def get_duration(self):
        return self.seconds

    def get_dimensions(self):
        return 128, 128

    def get_components(self):
        self.was_decoded = True
        return types.SimpleNamespace(images=torch.ones(4, 16, 16, 3), frame_rate=4, audio=None)


def test_a_video_file_is_read_as_everywhere(mllm, alignnet, pipeline):
    """ComfyUI would keep all of its frames in memory; but only it knows which part of a trimmed video is meant."""
    path = str(EXAMPLES / "videos/rocket-at-night.mp4")
    whole, trimmed = VideoFromFile(path), VideoFromFile(path, 1.0)
    conditioning, _, notes, _ = Encode().encode(mllm, alignnet, PROMPT, 3.5, False, video=whole)
    expected = pipeline.encode(PROMPT, videos=[path])
    assert torch.equal(conditioning[0][0], expected.prompt_embeds)
    assert notes == "\n".join(expected.notes)
    conditioning, *_ = Encode().encode(mllm, alignnet, PROMPT, 3.5, False, video=trimmed)
    frames = np.full((4, 16, 16, 3), 255, np.uint8)
    assert torch.equal(conditioning[0][0], pipeline.encode(PROMPT, videos=[(frames, 4)]).prompt_embeds)
    assert (whole.was_decoded, trimmed.was_decoded) == (False, True)


def test_bad_input_is_one_sentence(mllm, alignnet, tmp_path, qwen_vl_directory):
    other = LoadMLLM().load("x2i-tiny", "full", "cpu", path=str(qwen_vl_directory))[0]
    with pytest.raises(CheckpointError, match="This AlignNet expects 9 states of width 192, but the MLLM has"):
        Encode().encode(other, alignnet, PROMPT, 3.5, False)
    net = AlignNet(other.encoder.num_states, other.encoder.hidden_size, joint_dim=128, pooled_dim=128)
    net.save_pretrained(tmp_path)
    fitting = LoadAlignNet().load("x2i-tiny", path=str(tmp_path))[0]
    with pytest.raises(UnsupportedModalityError, match="No speech was found in the audio"):
        Encode().encode(other, fitting, PROMPT, 3.5, False, **as_audio(np.zeros(800, np.float32)))
    for load, name in ((LoadMLLM().load, "gone"), (LoadMLLM().load, "/nowhere")):
        with pytest.raises(InvalidRequestError, match="is not there any more; ComfyUI looks in"):
            load(name, "full", "cpu")
    with pytest.raises(InvalidRequestError, match="The request is empty"):
        Encode().encode(mllm, alignnet, " ", 3.5, False)


def test_files_are_found_in_comfyuis_folders(tmp_path, monkeypatch, qwen_vl_directory):
    """tests/comfyui/run.py does the same with a real extra_model_paths.yaml."""
    base = tmp_path / "x2i"
    monkeypatch.setattr(host, "model_folders", lambda: [base])
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    folder = shutil.copytree(qwen_vl_directory, base / "others/tiny-vl")
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    content = {"config": model.config, "state_dict": model.state_dict()}
    packed = content | {"processor": Qwen2_5_VLProcessor.from_pretrained(folder)}
    file = base / "qwen2.5-vl-3b-instruct.pt"
    torch.save(packed, file)
    torch.save({"config": {}, "state_dict": AlignNet(4, 32).state_dict()}, base / "tiny_proj.pt")
    names = LoadMLLM.INPUT_TYPES()["required"]["mllm"][0]
    assert names == [*PRESETS, "others/tiny-vl", file.name]
    assert LoadAlignNet.INPUT_TYPES()["required"]["alignnet"][0] == [*PRESETS, "tiny_proj.pt"]
    before = LoadMLLM.IS_CHANGED(file.name)
    assert LoadMLLM.IS_CHANGED("qwen2.5-vl-3b") == before  # the preset's own file, in the form of the reference's nodes
    assert not (tmp_path / "home").exists()  # nothing is unpacked before it is loaded
    with pytest.raises(CheckpointError, match="has 3 layers of width 32; expected 36 of width 2048"):
        LoadMLLM().load("qwen2.5-vl-3b", "full", "cpu")
    alignnet = LoadAlignNet().load("tiny_proj.pt")[0]
    found = [LoadMLLM().load(name, "full", "cpu")[0] for name in names[-2:]]
    first, second = (Encode().encode(each, alignnet, PROMPT, 3.5, False)[0][0][0] for each in found)
    assert torch.equal(first, second)
    file.touch()
    assert LoadMLLM.IS_CHANGED(file.name) != before


def test_memory_that_runs_out_is_one_sentence(mllm, alignnet):
    """torch really refuses the 200 TB that these frames need as whole numbers."""
    frames = torch.zeros(1, 1, 1, 1).expand(2**20, 4096, 4096, 3)
    with pytest.raises(
        torch.OutOfMemoryError, match="There is not enough memory; choose 4 bit in X2I Load MLLM"
    ) as error:
        Encode().encode(mllm, alignnet, PROMPT, 3.5, False, video_frames=frames)
    assert isinstance(error.value, X2IError)
    assert (error.value.__cause__, error.value.__context__) == (None, None)  # they would keep the node's tensors
    assert Encode().encode(mllm, alignnet, PROMPT, 3.5, False)[0][0][0].isfinite().all()


def test_an_image_that_is_not_needed_is_not_made():
    node, unchanged = FollowImage(), object()
    assert node.check_lazy_status(strength=0.5, image=None) == ["image"]
    assert node.check_lazy_status(strength=0.0, image=None) == []
    assert node.apply(unchanged, "x2i-tiny", None, 0.0, 0.0, 1.0) == (unchanged,)


def test_a_changed_file_is_loaded_again(tmp_path):
    AlignNet(9, 192, joint_dim=128, pooled_dim=128).save_pretrained(tmp_path)
    before = LoadAlignNet.IS_CHANGED("x2i-tiny", path=str(tmp_path))
    assert LoadAlignNet.IS_CHANGED("x2i-tiny", path=str(tmp_path)) == before
    AlignNet(9, 192, joint_dim=64, pooled_dim=128).save_pretrained(tmp_path)
    assert LoadAlignNet.IS_CHANGED("x2i-tiny", path=str(tmp_path)) != before
    assert LoadMLLM.IS_CHANGED("x2i-tiny", precision="full", device="cpu", family="auto")


@pytest.mark.parametrize("name", NODE_CLASS_MAPPINGS)
def test_an_input_from_another_node_does_not_run_the_node_again(name):
    """ComfyUI gives None for it. Its value is that of the other node, which ComfyUI compares itself."""
    node = NODE_CLASS_MAPPINGS[name]
    if hasattr(node, "IS_CHANGED"):
        inputs = [key for values in node.INPUT_TYPES().values() for key in values]
        assert node.IS_CHANGED(**dict.fromkeys(inputs)) == ""


def test_a_folder_that_must_not_be_read_does_not_take_the_nodes_away(monkeypatch):
    """Such as lost+found, if the models have a disk of their own."""
    with TemporaryDirectory() as directory:
        base = Path(directory) / "x2i"
        (base / "lost+found").mkdir(parents=True)
        base.parent.chmod(0o755)
        save_file({"a": torch.ones(1)}, base / "mine.safetensors")
        (base / "lost+found").chmod(0o700 if os.geteuid() == 0 else 0)
        monkeypatch.setattr(host, "model_folders", lambda: [base])
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # nobody; root may read all folders
            mllms = LoadMLLM.INPUT_TYPES()["required"]["mllm"][0]
            files = LoadAlignNet.INPUT_TYPES()["required"]["alignnet"][0]
        finally:
            os.seteuid(user)
    assert mllms == [*PRESETS]
    assert files == [*PRESETS, "mine.safetensors"]


def test_the_original_names_load_back(tmp_path):
    """Under Black Forest Labs' names, our own loader of single files reads the same weights."""
    folder = ASSETS / PRESETS["x2i-tiny"].directory
    transformer = load_transformer(folder, torch.float32)
    weights = original_names(transformer.state_dict())
    assert len(weights) > 50
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "flux.safetensors")
    again = load_transformer(tmp_path / "flux.safetensors", torch.float32, base=str(folder))
    for name, value in transformer.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_the_example_workflows_are_up_to_date():
    found = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.json")}
    assert found == {name: as_workflow(nodes) for name, nodes in graphs().items()}, "run tests/comfyui/workflows.py"
    assert {file.stem for file in FOLDER.glob("*.png")} == found.keys()


def test_a_clone_of_the_repository_is_a_folder_of_nodes(monkeypatch):
    root = Path(__file__).resolve().parents[2]
    assert not hasattr(imported(root), "NODE_CLASS_MAPPINGS")  # other tools import it too
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "folder_paths", types.ModuleType("folder_paths"))  # ComfyUI's
    assert imported(root).NODE_CLASS_MAPPINGS is NODE_CLASS_MAPPINGS


def test_comfyuis_registry_finds_a_version():
    """As comfy-cli reads it: [project] has none, so another table says in which file it stands."""
    root = Path(__file__).resolve().parents[2]
    comfy = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["comfy"]
    assert comfy["PublisherId"]
    assert f'__version__ = "{__version__}"' in (root / comfy["version"]["path"]).read_text(encoding="utf-8")


def test_install_and_remove(tmp_path, capsys):
    home = tmp_path / "custom_nodes/x2i"
    assert main(["comfyui", str(tmp_path)]) == 2
    assert "contains no custom_nodes; give the folder" in capsys.readouterr().err
    (tmp_path / "custom_nodes").mkdir()
    assert main(["comfyui", str(tmp_path)]) == 0
    assert f"Wrote {home}" in capsys.readouterr().out
    for form in ("json", "jpg"):  # the page of templates shows the images
        assert {file.stem for file in home.glob(f"example_workflows/*.{form}")} == graphs().keys()
    assert imported(home).NODE_CLASS_MAPPINGS is NODE_CLASS_MAPPINGS
    given = [value for nodes in graphs().values() for node in nodes.values() for value in node.values.values()]
    media = {value for value in given if str(value).endswith((".png", ".mp4", ".wav"))}
    assert {file.name for file in (tmp_path / "input").iterdir()} == media  # so that they run at once
    changed, mine = sorted((tmp_path / "input").iterdir())[0], tmp_path / "input/mine.png"
    changed.write_bytes(b"the user's")
    mine.touch()
    assert main(["comfyui", str(tmp_path)]) == 0
    assert main(["comfyui", str(tmp_path / "custom_nodes"), "--remove"]) == 0
    assert not home.exists()
    assert sorted((tmp_path / "input").iterdir()) == sorted([changed, mine])
    assert changed.read_bytes() == b"the user's"
    assert "Removed" in capsys.readouterr().out
    home.mkdir()
    (home / "__init__.py").write_text("# a clone\n")
    for arguments in ([], ["--remove"]):
        assert main(["comfyui", str(tmp_path), *arguments]) == 2
    assert (home / "__init__.py").read_text() == "# a clone\n"
