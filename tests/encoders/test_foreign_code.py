"""A model's folder can name its own code, and the user may confirm every question: the code is not run."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from encoders.internvl_checkpoint_factory import save_internvl
from encoders.minicpm_o_factory import save_minicpm_o
from factories import save_qwen_omni, save_qwen_vl

ROOT = Path(__file__).resolve().parents[2]
SAVE = {
    "qwen2.5-vl": save_qwen_vl,
    "qwen2.5-omni": save_qwen_omni,
    "internvl2.5": save_internvl,
    "minicpm-o": save_minicpm_o,
}
EVIL = """
from pathlib import Path
Path({canary!r}).write_text("run")
class Evil:
    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        return cls()
generate = Evil
"""
AUTO = ("Config", "Model", "ModelForCausalLM", "Processor", "ImageProcessor", "VideoProcessor", "FeatureExtractor")
NAMES = {
    "auto_map": {f"Auto{kind}": "evil.Evil" for kind in AUTO} | {"AutoTokenizer": ["evil.Evil", "evil.Evil"]},
    "processor_class": "Evil",
}
# Classes of parts; without these fields, transformers uses the known classes of the model type.
TYPES = {"image_processor_type": "Evil", "feature_extractor_type": "Evil", "video_processor_type": "Evil"}
FILES = {
    "config.json": {},
    "processor_config.json": {},
    "preprocessor_config.json": TYPES,
    "video_preprocessor_config.json": TYPES,
    "tokenizer_config.json": {"tokenizer_class": "Evil"},
}
ENCODE = """
import sys
from dataclasses import replace
from x2i_app.encoders import load_encoder
from x2i_app.errors import X2IError
from x2i_app.presets import get_family
for family, directory in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        spec = replace(get_family(family), max_new_tokens=2)
        load_encoder(family, directory, spec=spec).encode(prompt="a red house", reason=True)
        print(directory, "encoded")
    except X2IError as error:
        print(directory, "refused:", error)
"""


def poison(directory: Path, canary: Path, files: Iterable[str], parts: bool) -> None:
    """Make these files of a folder name code in the same folder. parts: also as the class of their part."""
    for code in (directory / "evil.py", directory / "custom_generate" / "generate.py"):
        code.parent.mkdir(exist_ok=True)
        code.write_text(EVIL.format(canary=str(canary)))
    for name in files:
        path = directory / name
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        path.write_text(json.dumps(content | NAMES | (FILES[name] if parts else {})), encoding="utf-8")


CASES = [([name], False) for name in FILES] + [([name], True) for name in FILES if FILES[name]]
CASES += [(list(FILES), False), (list(FILES), True)]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess]:
    """A folder with those of all families and cases, and a process that has encoded with each of them."""
    folder, models = tmp_path_factory.mktemp("foreign"), []
    for family, save in SAVE.items():
        whole = folder / family / "whole"
        whole.mkdir(parents=True)
        save(whole)
        for number, (files, parts) in enumerate(CASES):
            directory = shutil.copytree(whole, folder / family / f"model{number}")
            poison(directory, folder / family / "canary", files, parts)
            models += [family, str(directory)]
    command = [sys.executable, "-c", ENCODE, *models]
    agreed = "y\n" * 50 * len(SAVE)
    run = subprocess.run(command, cwd=ROOT, input=agreed, capture_output=True, text=True, timeout=400, check=False)
    return folder, run


@pytest.mark.parametrize("family", SAVE)
def test_code_in_the_folder_is_not_run(encoded, family):
    folder, run = encoded
    assert not (folder / family / "canary").exists()
    begins = tuple(f"{folder / family / f'model{number}'} " for number in range(len(CASES)))
    said = [row.split(" ", 1)[1] for row in run.stdout.splitlines() if row.startswith(begins)]
    assert len(said) == len(CASES), run.stdout + run.stderr[-2000:]
    assert all(row.startswith(("encoded", "refused:")) for row in said), run.stdout
