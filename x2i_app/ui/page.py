"""Gradio's blocks as this app needs them: values arrive unconverted, and every error becomes one sentence."""

import errno
import html
import logging
from collections.abc import Sequence
from copy import copy
from itertools import takewhile
from typing import Any

import gradio as gr
from gradio.blocks import BlocksConfig

from x2i_app.errors import InvalidRequestError, X2IError
from x2i_app.media.budget import InputBudget, InputLimits
from x2i_app.request import show_value
from x2i_app.ui.http.clients import client_of
from x2i_app.ui.http.session_states import SessionStates
from x2i_app.ui.i18n import DEFAULT, PageError, Text, error_text, in_english, language_of

logger = logging.getLogger(__name__)

TITLE = "X2I Studio"
# How a component takes and shows a value; this app sets them on single components.
_OWN = {"preprocess", "postprocess", "data_model"}


class Page(gr.Blocks):
    """The whole page. Its description for programs has the English text of each label."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.default_config = _Components(self)
        self.sessions = SessionStates(self)

    def get_api_info(self, *args: Any, **kwargs: Any) -> dict:
        """As Gradio's."""
        info = super().get_api_info(*args, **kwargs)
        for endpoint in (*info["named_endpoints"].values(), *info["unnamed_endpoints"].values()):
            for value in (*endpoint["parameters"], *endpoint["returns"]):
                value["label"] = in_english(value["label"])
        return info

    async def preprocess_data(self, block_fn: Any, inputs: list, state: Any, explicit_call: bool = False) -> list:
        """As Gradio's, with our own _OWN where a component has it. Raises X2IError."""
        _keep_own(block_fn.inputs, state)
        missing = len(block_fn.inputs) - len(inputs)
        if 0 < missing <= optional_inputs(block_fn.inputs):
            inputs = [*inputs, *[None] * missing]
        try:
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)
        except gr.Error as error:
            raise InvalidRequestError(error.message) from error
        except Exception as error:  # Gradio's conversions raise anything for a value that they did not expect
            if isinstance(error.__cause__, X2IError):  # one of our own
                raise error.__cause__ from None
            logger.info("refused a value for %s: %s", block_fn.name, show_value(str(error)))
            raise PageError("error.strange_value") from error

    async def postprocess_data(self, block_fn: Any, predictions: Any, state: Any) -> list[Any]:
        """As Gradio's, which would build and describe again each component whose value is only gr.skip()."""
        _keep_own(block_fn.outputs, state)
        # With one output, a list is its value, also a list of one.
        many = isinstance(predictions, list | tuple) and 1 < len(block_fn.outputs) == len(predictions)
        if not many or block_fn.batch:
            return await super().postprocess_data(block_fn, predictions, state)
        results = [gr.skip()] * len(predictions)
        changed = [i for i, block in enumerate(block_fn.outputs) if block.stateful or not _is_skip(predictions[i])]
        if changed:
            part = copy(block_fn)
            part.outputs = [block_fn.outputs[i] for i in changed]
            values = [predictions[i] for i in changed]
            values = await super().postprocess_data(part, values if len(changed) > 1 else values[0], state)
            for i, value in zip(changed, values, strict=True):
                results[i] = value
        return results

    async def process_api(self, *args: Any, request: Any = None, **kwargs: Any) -> dict[str, Any]:
        """As Gradio's. Every error becomes a gr.Error with one sentence; an unexpected one is logged too."""
        language = language_of(request) if isinstance(request, gr.Request) else DEFAULT
        client = client_of(request)
        self.sessions.note(kwargs.get("session_hash"), client.address)
        try:
            with InputBudget(InputLimits(), client.owner, is_job=False).spending():
                return await super().process_api(*args, request=request, **kwargs)
        except gr.Error:
            raise
        except X2IError as error:
            raise as_gradio_error(error, language) from error
        except Exception as error:
            cause = error.__cause__ or error
            if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
                logger.error("The disk is full: %s", cause)
                raise as_gradio_error(PageError("error.disk_full"), language) from error
            logger.error("An event of the page failed: %s", cause, exc_info=error)
            raise as_gradio_error(PageError("error.internal"), language) from error


def optional_inputs(inputs: Sequence[Any]) -> int:
    """How many of the last inputs a call by position may leave out, as they came after the endpoint was published."""
    return len(list(takewhile(lambda block: getattr(block, "may_be_left_out", False), reversed(inputs))))


def as_gradio_error(error: X2IError, language: str = DEFAULT) -> gr.Error:
    """The error as the page shows it."""
    sentence = error_text(error, language)
    # Gradio renders the message as HTML, and file names and prompts may be in it. browser.py closes it at the next try.
    return gr.Error(html.escape(sentence), duration=None, title=Text("failed").to(language), print_exception=False)


class _Components(BlocksConfig):
    """Gradio's list of components, which it describes again for each session; here each is described only once.

    Describing all of them takes longer than everything else in a small request, and blocks the event loop meanwhile.
    """

    def __init__(self, page: Page):
        super().__init__(page)
        self._descriptions: dict[int, dict[str, Any]] = {}

    def __copy__(self):
        """The list of a session, which holds the session's changes."""
        own = _Components(self.root_block)
        vars(own).update(vars(super().__copy__()), _descriptions=self._descriptions)
        return own

    def config_for_block(self, number: int, rendered_ids: list[int], block: Any, renderable: Any = None) -> dict:
        """As Gradio's. Only components that a session shares with the finished page are described once."""
        page = self.root_block
        if self is page.default_config or block is not page.blocks.get(number) or renderable:
            return super().config_for_block(number, rendered_ids, block, renderable)
        if number not in self._descriptions:
            self._descriptions[number] = super().config_for_block(number, rendered_ids, block)
        known = self._descriptions[number]
        return known | {"props": known["props"].copy()}


def _keep_own(blocks: list[Any], state: Any) -> None:
    """After an update Gradio builds the session's component again from its class, without what we set on ours."""
    for block in blocks:
        if state is not None and not block.stateful and block._id in state:
            for name in _OWN & vars(block).keys():
                setattr(state[block._id], name, getattr(block, name))


def _is_skip(value: Any) -> bool:
    return isinstance(value, dict) and value == gr.skip()
