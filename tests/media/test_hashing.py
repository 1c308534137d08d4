"""Hashes of files and of conversations: what changes them, and what does not."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from x2i_app.errors import MediaError
from x2i_app.media.hashing import conversation_hash, file_hash, hash_inputs
from x2i_app.request import GenerationRequest, Turn


@pytest.fixture
def images(tmp_path):
    """Two different images, and a copy of the first under another name."""
    paths = [tmp_path / f"{name}.png" for name in ("red", "blue", "copy")]
    for path, color in zip(paths, ("red", "blue", "red"), strict=True):
        Image.new("RGB", (4, 4), color).save(path)
    return paths


def hash_of(**fields):
    request = GenerationRequest(**fields)
    return conversation_hash(request, hash_inputs(request))


def test_file_hash(images):
    red, blue, copy = map(file_hash, images)
    assert red == hashlib.sha256(images[0].read_bytes()).hexdigest()
    assert (red == copy, red == blue) == (True, False)


def test_files_of_a_request(images, tmp_path):
    """Each file by its path, of earlier turns too; LoRA files need not be media."""
    red, blue, copy = images
    lora = tmp_path / "lora.safetensors"
    lora.write_bytes(b"weights")
    request = GenerationRequest(
        images=(red,),
        history=(Turn("x", images=(blue,)),),
        source_image=red,
        mask=copy,
        loras=((lora, 1.0), ("no", 1.0)),
    )
    hashes = hash_inputs(request)
    assert hashes == {str(path): file_hash(path) for path in images} | {
        str(lora): hashlib.sha256(b"weights").hexdigest()
    }
    with pytest.raises(MediaError, match="no file"):
        hash_inputs(GenerationRequest(images=(tmp_path / "gone.png",)))


def test_what_changes_the_hash_of_a_conversation(images):
    red, blue, copy = images
    turn = {"prompt": "a house", "images": (red,), "answer": "a red house"}
    base = {"prompt": "at night", "images": (red,), "history": (Turn(**turn),)}
    same = [base, base | {"images": (copy,)}, base | {"seed": 5, "width": 64}]
    changes = [
        {"prompt": "at day"},
        {"images": (blue,)},
        {"images": (red, red)},
        {"reason": True},
        {"video_start": 1.0},
        {"video_end": 1.0},
        {"history": ()},
        {"history": (Turn(**turn | {"answer": "a house"}),)},
        {"history": (Turn(**turn | {"images": (blue,)}),)},
    ]
    assert len({hash_of(**fields) for fields in same}) == 1
    assert len({hash_of(**base | change) for change in ({}, *changes)}) == 1 + len(changes)


def test_values_have_no_hash():
    assert hash_of(images=(np.zeros((4, 4, 3), np.uint8),)) is None
