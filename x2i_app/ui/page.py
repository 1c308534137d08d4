"""Gradio's blocks as this app needs them: values are taken as they came, what goes wrong is told in a sentence."""

import errno
import logging
from copy import copy
from typing import Any

import gradio as gr
from gradio.blocks import BlocksConfig

from x2i_app.errors import EngineError, InvalidRequestError, X2IError
from x2i_app.request import show_value
from x2i_app.ui.i18n.languages import in_english
from x2i_app.ui.progress import as_gradio_error

logger = logging.getLogger(__name__)

_OWN = {"preprocess", "data_model"}  # how a value is taken and what form it has, set on components one by one
_STRANGE = "A value came that this page does not send; reload the page, and try again."
INTERNAL = "That did not work because of an internal error; the log says more."
DISK_FULL = "The disk is full, and no file can be written; try again later, or tell whoever runs this app."


class Page(gr.Blocks):
    """The whole page. Its description for programs has the English words of each label."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.default_config = _Components(self)

    def get_api_info(self, *args: Any, **kwargs: Any) -> dict:
        """As Gradio's."""
        info = super().get_api_info(*args, **kwargs)
        for endpoint in (*info["named_endpoints"].values(), *info["unnamed_endpoints"].values()):
            for value in (*endpoint["parameters"], *endpoint["returns"]):
                value["label"] = in_english(value["label"])
        return info

    async def preprocess_data(self, block_fn: Any, inputs: list, state: Any, explicit_call: bool = False) -> list:
        """As Gradio's, with our own _OWN where a component has it. Raises gr.Error with one sentence."""
        for block in block_fn.inputs:
            # An update makes the session's component anew from its class, and what was set on ours alone is lost.
            if state is not None and not block.stateful and block._id in state:
                for name in _OWN & vars(block).keys():
                    setattr(state[block._id], name, getattr(block, name))
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error as error:
            raise as_gradio_error(InvalidRequestError(error.message)) from error
        except Exception as error:  # Gradio's conversions raise anything for what they did not expect
            logger.info("refused what came for %s: %s", block_fn.name, show_value(str(error)))
            raise as_gradio_error(InvalidRequestError(_STRANGE)) from error

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """As Gradio's, which would make anew, and describe, each component of which nothing is told but gr.skip()."""
        # A list that is told to one component is its value, also a list of one.
        many = isinstance(predictions, list | tuple) and 1 < len(block_fn.outputs) == len(predictions)
        if not many or block_fn.batch:
            return await super().postprocess_data(block_fn, predictions, state)
        told = [gr.skip()] * len(predictions)
        news = [i for i, block in enumerate(block_fn.outputs) if block.stateful or not _is_skip(predictions[i])]
        if news:
            part = copy(block_fn)
            part.outputs = [block_fn.outputs[i] for i in news]
            values = [predictions[i] for i in news]
            values = await super().postprocess_data(part, values if len(news) > 1 else values[0], state)
            for i, value in zip(news, values, strict=True):
                told[i] = value
        return told

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Gradio's. Raises gr.Error with one sentence, whatever happens; what should not happen goes to the log."""
        try:
            return await super().process_api(*args, **kwargs)
        except gr.Error:
            raise
        except X2IError as error:
            raise as_gradio_error(error) from error
        except Exception as error:
            cause = error.__cause__ or error
            is_full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
            logger.error("An event of the page failed: %s", cause, exc_info=None if is_full else error)
            raise as_gradio_error(EngineError(DISK_FULL if is_full else INTERNAL)) from error


class _Components(BlocksConfig):
    """Gradio's list of components, which it describes anew for each session; here once, for sessions are many.

    That would take longer than all else that is done for a small request, and nothing is answered meanwhile.
    """

    def __init__(self, page: Page):
        super().__init__(page)
        self._descriptions: dict[int, dict[str, Any]] = {}

    def __copy__(self):
        """The list of a session, in which it puts what it changes."""
        own = _Components(self.root_block)
        vars(own).update(vars(super().__copy__()), _descriptions=self._descriptions)
        return own

    def config_for_block(self, number: int, rendered_ids: list[int], block: Any, renderable: Any = None) -> dict:
        """As Gradio's; the page itself may still be built, a session's components that are the page's stay."""
        page = self.root_block
        if self is page.default_config or block is not page.blocks.get(number) or renderable:
            return super().config_for_block(number, rendered_ids, block, renderable)
        if number not in self._descriptions:
            self._descriptions[number] = super().config_for_block(number, rendered_ids, block)
        known = self._descriptions[number]
        return known | {"props": known["props"].copy()}


def _is_skip(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()
