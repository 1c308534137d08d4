"""The tabs as values: what each fills of a request, and a request put back into its tab."""

from pathlib import Path

import pytest
from PIL import Image

from x2i_app.errors import InvalidRequestError
from x2i_app.media import Recipe
from x2i_app.request import SETTINGS, GenerationRequest, Turn
from x2i_app.settings import ASSETS
from x2i_app.ui.i18n import TEXTS, PageError
from x2i_app.ui.mask_editor import INPAINT, MARGINS, MASK_OPTIONS, inpaint_fields, inpaint_values, mask_values
from x2i_app.ui.restore import files_in, restored_text, tab_of, values_of
from x2i_app.ui.tabs import AUDIO, FUSION, IMAGE, IMAGE_TEXT, TABS, TEXT, VIDEO, check_input
from x2i_app.ui.turns import as_file, as_json

EXAMPLES = ASSETS / "examples"
BOAT = str(EXAMPLES / "images/boat-at-sunset.png")
ROCKET = str(EXAMPLES / "videos/rocket-at-night.mp4")
RAIN = str(EXAMPLES / "audios/rain-at-sea.wav")
HASH = "sha256:" + "0" * 64
NO_INPAINTING = (None, 1, 0, 0, 0, 0)
BY_NAME = {tab.name: tab for tab in TABS}


class TestFill:
    def test_missing_values(self):
        """A program may leave out everything."""
        assert TEXT.fill(None) == {"prompt": ""}
        assert IMAGE.fill(None) == {"images": []}
        assert VIDEO.fill(None, None) == {"videos": [], "prompt": ""}
        assert AUDIO.fill(None, None) == {"audios": [], "prompt": ""}
        assert FUSION.fill(None) == {"prompt": "", "images": [], "videos": [], "audios": []}

    def test_image_text(self):
        fields = IMAGE_TEXT.fill("a.png", "on", 0.5, None, *NO_INPAINTING)
        assert (fields["images"], fields["control_strength"], fields["history"]) == (["a.png"], 0.5, [])
        assert "source_image" not in fields

    def test_too_many_turns(self):
        turns = [{"prompt": "a"}]
        assert len(IMAGE_TEXT.fill(None, "on", 1, turns * 16, *NO_INPAINTING)["history"]) == 16
        with pytest.raises(PageError, match="17 turns and 16 are allowed"):
            IMAGE_TEXT.fill(None, "on", 1, turns * 17, *NO_INPAINTING)

    @pytest.mark.parametrize(
        "turn", [{"images": ["/etc/passwd"]}, {"result": "/etc/passwd"}, {"videos": [{"path": 5}]}]
    )
    def test_only_uploads_in_turns(self, turn):
        """A plain path may be any file of this machine."""
        with pytest.raises(InvalidRequestError, match="upload it, and send the path"):
            IMAGE_TEXT.fill(None, "on", 1, [turn], *NO_INPAINTING)

    def test_fusion_by_content(self, tmp_path):
        """The content says what a file is, not its name."""
        renamed = tmp_path / "video.png"
        renamed.write_bytes(Path(ROCKET).read_bytes())
        frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green")]
        animation = tmp_path / "animation.gif"
        frames[0].save(animation, save_all=True, append_images=frames[1:], duration=500)
        fields = FUSION.fill({"text": "all", "files": [str(renamed), BOAT, RAIN, str(animation)]})
        assert fields == {
            "prompt": "all",
            "images": [BOAT],
            "videos": [str(renamed), str(animation)],
            "audios": [RAIN],
        }


class TestEmpty:
    @pytest.mark.parametrize("tab", TABS, ids=lambda tab: tab.name)
    def test_each_tab_has_its_sentence(self, tab):
        for fields in ({}, {"prompt": "  \n", "images": [], "videos": [], "audios": []}):
            with pytest.raises(PageError) as raised:
                check_input(tab, fields)
            assert str(raised.value) == TEXTS["en"][f"empty.{tab.name}"]

    @pytest.mark.parametrize(
        "fields",
        [
            {"prompt": "a"},
            {"prompt": 5},  # the request says what is wrong with it
            {"images": ["a"]},
            {"videos": ["a"]},
            {"audios": ["a"]},
            {"source_image": "a"},
            {"mask": "a"},
        ],
    )
    def test_any_input_is_enough(self, fields):
        check_input(TEXT, fields)


class TestInpaint:
    def test_no_inpainting(self):
        """Full strength without a mask or margins is an ordinary request."""
        assert inpaint_fields(*NO_INPAINTING) == {"mask": None, "strength": None, "outpaint": (0, 0, 0, 0)}
        assert inpaint_fields(None, None, None, None, None, None)["outpaint"] == (0, 0, 0, 0)

    @pytest.mark.parametrize(
        "values", [("m.png", 1, 0, 0, 0, 0), (None, 0.5, 0, 0, 0, 0), (None, 1, 0, 16, 0, 0), (None, True, 0, 0, 0, 0)]
    )
    def test_inpainting(self, values):
        """A truth value is no strength, and is left for the request to refuse."""
        fields = inpaint_fields(*values)
        assert (fields["mask"], fields["strength"], fields["outpaint"]) == (values[0], values[1], values[2:])

    def test_inverse(self):
        request = GenerationRequest("x", images=[BOAT], strength=0.5, outpaint=(1, 2, 3, 4))
        values = inpaint_values(request)
        assert list(values) == list(INPAINT)
        assert values == {"mask": None, "strength": 0.5, "left": 1, "top": 2, "right": 3, "bottom": 4}
        assert inpaint_values(GenerationRequest("x"))["strength"] == 1

    def test_mask_options(self):
        """They wait for a mask or margins; "only masked" that is off leaves the choice open."""
        options = (True, 3, 5, True)
        assert inpaint_fields(*NO_INPAINTING, *options) == inpaint_fields(*NO_INPAINTING)
        fields = inpaint_fields("m.png", 1, 0, 0, 0, 0, *options)
        assert [fields[name] for name in MASK_OPTIONS] == [True, 3, 5, True]
        assert "only_masked" not in inpaint_fields("m.png", 1, 0, 0, 0, 0, False, 0, None, False)
        request = GenerationRequest("x", images=[BOAT], **fields)
        assert mask_values(request) == dict(zip(MASK_OPTIONS, options, strict=True))

    def test_edit(self):
        """With "Edit this image", the image is the reference; without one, the last result; a given one always."""
        history = as_json([(Turn("a"), "last.png")])
        given = (*NO_INPAINTING, False, 0, None, False)
        assert IMAGE_TEXT.fill("a.png", "on", 0, None, *given, None, True)["reference"] == "a.png"
        fields = IMAGE_TEXT.fill(None, "on", 0, history, *given, None, True)
        assert (fields["reference"], fields.get("source_image")) == ("last.png", None)
        assert IMAGE_TEXT.fill("a.png", "on", 0, None, *given, "b.png", False)["reference"] == "b.png"
        assert "reference" not in IMAGE_TEXT.fill("a.png", "on", 0, history, *given, None, False)
        assert "reference" not in IMAGE_TEXT.fill(None, "on", 0, None, *given, None, True)
        assert MARGINS == ("left", "top", "right", "bottom")


REQUESTS = {
    "text": [{"prompt": "a house"}],
    "image": [{"images": [BOAT]}, {"images": [BOAT, BOAT]}],
    "image_text": [
        {"images": [BOAT], "prompt": "make it night"},
        {"images": [BOAT], "control_strength": 0.5},
        {"images": [BOAT], "outpaint": (16, 0, 0, 0)},
        {"images": [BOAT], "history": [Turn("a house")]},
        {"prompt": "on", "history": [Turn("a house")]},
    ],
    "video": [{"videos": [ROCKET]}, {"videos": [ROCKET], "prompt": "with a boat"}],
    "audio": [{"audios": [RAIN]}],
    "fusion": [
        {"images": [BOAT, BOAT], "prompt": "both"},
        {"images": [BOAT], "audios": [RAIN]},
        {"audios": [RAIN, RAIN]},
        {"videos": [ROCKET, ROCKET]},
    ],
}


class TestRestore:
    @pytest.mark.parametrize(("name", "fields"), [(name, each) for name, some in REQUESTS.items() for each in some])
    def test_values(self, name, fields):
        """A request goes to its tab, and that tab's values make the same request again."""
        request = GenerationRequest(**fields, seed=5, width=64)
        assert tab_of(request) == name
        values, tab = values_of(request), BY_NAME[name]
        history = [(turn, None) for turn in request.history]
        given = dict(zip(tab.parameters, values[name], strict=True))
        if "images" in given:
            given["images"] = [(path, None) for path in given["images"]]
        filled = GenerationRequest(**tab.fill(*given.values()), seed=5, width=64)
        assert (filled.prompt, filled.images, filled.videos, filled.audios, filled.history, filled.outpaint) == (
            request.prompt,
            request.images,
            request.videos,
            request.audios,
            request.history,
            request.outpaint,
        ), history
        others = [value for other in TABS if other is not tab for value in values[other.name]]
        assert all(value == {"__type__": "update"} for value in others), "other tabs stay as they are"

    def test_settings(self):
        """Settings that the request does not have stay, except for the seed, which becomes random."""
        settings = dict(zip(SETTINGS, values_of(GenerationRequest("a", width=64))["settings"], strict=True))
        assert (settings["width"], settings["seed"]) == (64, None)
        assert settings["height"] == {"__type__": "update"}

    def test_unknown_files(self):
        """Files of which only the hash is known are left out, and the mask with them."""
        request = GenerationRequest("x", images=[HASH], mask=HASH, source_image=HASH, history=[Turn("a", (HASH,))])
        values = dict(zip(IMAGE_TEXT.parameters, values_of(request)["image_text"], strict=True))
        assert (values["image"], values["mask"]) == (None, None)
        assert values["history"] == [
            {"prompt": "a", "answer": "", "result": None, "images": [], "videos": [], "audios": []}
        ]

    def test_files_in(self, tmp_path):
        """Only those that exist; of values that are no request, none."""
        assert files_in(IMAGE, [[(BOAT, None), (str(tmp_path / "gone.png"), None)]]) == [BOAT]
        assert files_in(FUSION, [{"text": "", "files": [BOAT, RAIN]}]) == [BOAT, RAIN]
        bad = tmp_path / "a.pdf"
        bad.write_bytes(b"%PDF-1.7")
        assert files_in(FUSION, [{"text": "", "files": [BOAT, str(bad)]}]) == []
        turn = {"prompt": "a", "result": as_file(BOAT)}
        assert files_in(IMAGE_TEXT, [None, "on", 1, [turn], *NO_INPAINTING]) == []

    def test_text(self):
        assert restored_text({}) == "Prompt and settings restored."
        assert restored_text({"images": 2, "audios": 1, "loras": 1}) == (
            "Prompt and settings restored. Add the same files again: 2 images, 1 audio file, 1 LoRA."
        )
        assert restored_text({"masks": 1, "source_images": 1, "videos": 3}, "zh").endswith("3 段视频。")
        missing = Recipe(GenerationRequest("x", images=[HASH], videos=[HASH])).missing([])
        assert restored_text(missing).endswith("1 image, 1 video.")
