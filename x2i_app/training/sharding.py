"""A frozen model in parts over several processes, for cards that cannot hold it whole."""

from collections.abc import Sequence

import torch
from accelerate import PartialState
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from x2i_app.errors import InvalidRequestError
from x2i_app.specs import Precision


def check_sharding(precision: Precision) -> None:
    """Raises InvalidRequestError in a single process, and for weights that are quantised."""
    if PartialState().num_processes == 1:
        raise InvalidRequestError(
            "shard is true, but there is one process alone; start several with `accelerate launch`."
        )
    if precision != "full":
        raise InvalidRequestError(f"shard is true, but quantised weights ({precision}) stay whole; choose one of both.")


def shard_frozen(model: nn.Module, blocks: Sequence[nn.Module], device: torch.device) -> None:
    """Keep a share of the model's weights in every process; a block is whole only while it runs (torch's FSDP2).

    model: without gradients, of one dtype, equal in all processes. What it computes stays the same.
    """
    mesh = init_device_mesh(device.type, (PartialState().num_processes,))
    for block in blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
