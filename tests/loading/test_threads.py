"""Models that are loaded by several threads at once, as two engines of one process do."""

from concurrent.futures import ThreadPoolExecutor

import torch
from torch import nn

from x2i_app import load_pipeline
from x2i_app.loading.checkpoints import load_alignnet
from x2i_app.loading.quantization import quantize
from x2i_app.settings import ASSETS


def all_values(pipeline) -> dict[str, torch.Tensor]:
    parts = ("mllm", "align_net", "transformer", "vae")
    return {f"{part}.{name}": value for part in parts for name, value in getattr(pipeline, part).state_dict().items()}


def build_and_read(_) -> bool:
    """What is built beside: a small model from its file, and layers of 4 bit. Whether all of it has values."""
    align_net = load_alignnet(ASSETS / "x2i-tiny" / "align_net")
    quantize(align_net, "nf4", torch.device("cpu"))
    return not any(value.is_meta for value in align_net.state_dict().values())


def test_several_threads_load_at_once_and_each_has_all_of_its_model():
    register, default = nn.Module.register_parameter, torch.get_default_dtype()
    with ThreadPoolExecutor(6) as pool:
        dtypes = (torch.float32, torch.bfloat16, torch.float32)
        loading = [pool.submit(load_pipeline, "x2i-tiny", "cpu", dtype=dtype) for dtype in dtypes]
        assert all(pool.map(build_and_read, range(10)))
        loaded = [future.result() for future in loading]
    # Nor has one left behind for good what another one had only changed for a while.
    assert (nn.Module.register_parameter, torch.get_default_dtype()) == (register, default)
    assert not any(value.is_meta for pipeline in loaded for value in all_values(pipeline).values())
    for dtype, pipeline in zip(dtypes, loaded, strict=True):
        assert pipeline.transformer.dtype == pipeline.mllm.dtype == dtype
    first, _, second = map(all_values, loaded)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
