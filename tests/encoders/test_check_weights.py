"""`check_weights` finds what loading would find, for every family, and reads no values."""

import pytest
import torch
from encoders.test_reserved import SAVE
from safetensors.torch import load_file, save_file

from x2i_app.encoders import encoder_class, load_encoder
from x2i_app.errors import CheckpointError
from x2i_app.presets import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weight_of_another_shape(tmp_path, family):
    directory, cls = SAVE[family](tmp_path), encoder_class(family)
    cls.check_weights(directory)
    file = sorted(directory.glob("*.safetensors"))[-1]
    weights = load_file(file)
    key = max(key for key, value in weights.items() if value.ndim == 2 and "layers." in key and "talker" not in key)
    # NaN is found when the values are read; this check reads only names and shapes.
    save_file(weights | {key: torch.full_like(weights[key], torch.nan)}, file, metadata={"format": "pt"})
    cls.check_weights(directory)
    save_file(weights | {key: weights[key][:-1].clone()}, file, metadata={"format": "pt"})
    for find in (cls.check_weights, lambda directory: load_encoder(family, directory)):
        with pytest.raises(CheckpointError, match="shape"):
            find(directory)
