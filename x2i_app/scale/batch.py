"""A batch on Ray Data: actors with one model each draw rows and write their images to a shared disk."""

import json
import logging
import pickle
from collections.abc import Iterable, Iterator
from typing import Any

from tqdm import tqdm

from x2i_app.batch import Batch, Draw, Record, write_row
from x2i_app.errors import EngineError, explain_failure
from x2i_app.rows import Row
from x2i_app.scale.cluster import Cluster, enter_folder, own_message, working_folder
from x2i_app.serving.engine import Engine
from x2i_app.serving.protocol import EngineState


def draw_on(address: str, replicas: str, gpus: float | None) -> Draw:
    """The `draw` argument of `run_batch` for the cluster that the flags describe.

    Input and output must have the same paths on every machine. An actor that is lost is replaced, and its row is drawn
    again. Raises InvalidRequestError for a flag.
    """
    cluster = Cluster.parse(address, replicas, gpus)

    def draw(batch: Batch, rows: Iterable[Row], bar: tqdm) -> Iterator[Record]:
        items = [{"row": pickle.dumps(row)} for row in rows]
        if not items:
            return
        cluster.join()
        import ray
        from ray.data import ActorPoolStrategy, DataContext

        context = DataContext.get_current()
        context.enable_progress_bars = False  # the batch shows its own
        context.target_max_block_size = 1  # each record is delivered as soon as it is there
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        most = min(cluster.most, len(items))
        pool = ActorPoolStrategy(min_size=min(cluster.least, most), max_size=most, max_tasks_in_flight_per_actor=2)
        records = ray.data.from_items(items, override_num_blocks=len(items)).map(
            RowActor,
            fn_constructor_args=(batch, working_folder()),
            compute=pool,
            **cluster.share(),
        )
        try:
            for item in records.iter_rows():
                yield json.loads(item["record"])
        except ray.exceptions.RayError as error:
            raise EngineError(f"The Ray cluster has failed: {own_message(str(error))}") from error
        finally:
            ray.shutdown()

    return draw


class RowActor:
    """One model in one process of a cluster; Ray Data calls it with rows."""

    def __init__(self, batch: Batch, folder: str):
        """Load the model in the background. folder: where relative paths start."""
        enter_folder(folder)
        self.batch = batch
        self.engine = Engine(batch.settings)
        self.engine.start()

    def __call__(self, item: dict[str, Any]) -> dict[str, str]:
        """Draw one pickled row and write its images. Raises EngineError if there is no model."""
        row: Row = pickle.loads(item["row"])  # noqa: S301 - pickled by `draw_on`, in this cluster
        try:
            result = self.engine.submit(row.request()).wait()
        except Exception as error:  # no row may stop the others
            if self.engine.status.state is EngineState.FAILED:
                raise
            result = explain_failure(error, "This row could not be read")
        return {"record": json.dumps(write_row(self.batch, row, result), ensure_ascii=False)}
