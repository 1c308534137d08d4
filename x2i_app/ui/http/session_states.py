"""Which sessions Gradio keeps the state of, when there are too many.

Gradio forgets the session that was used least recently. So a stranger could open a few hundred sessions, and everybody
else would lose the images of their history. Here the sessions without images go first.
"""

from collections import Counter, OrderedDict
from typing import Any

from x2i_app.ui.http.limits import HTTP_LIMITS


class SessionStates:
    """The sessions of a page by their use, each with its client's address. Use it only in the event loop.

    page: Gradio's blocks, which have a state holder once they are launched.
    """

    def __init__(self, page: Any, most: int = HTTP_LIMITS.sessions):
        self._page, self._most = page, most
        self._addresses: OrderedDict[str, str] = OrderedDict()

    def note(self, session: str | None, address: str) -> None:
        """A session is used now. If there are too many, one of the others is forgotten."""
        if not session:
            return
        self._addresses[session] = address
        self._addresses.move_to_end(session)
        while len(self._addresses) > self._most:
            self._forget(self._next_to_go(session))

    def _next_to_go(self, current: str) -> str:
        """The oldest session without images, or else the oldest of the address with most sessions."""
        others = [each for each in self._addresses if each != current]
        for session in others:
            if not self._has_images(session):
                return session
        most = Counter(self._addresses[each] for each in others).most_common(1)[0][0]
        return next(each for each in others if self._addresses[each] == most)

    def _has_images(self, session: str) -> bool:
        state = self._page.state_holder.session_data.get(session)
        return state is not None and any(isinstance(value, list) and _is_history(value) for value in _values(state))

    def _forget(self, session: str) -> None:
        del self._addresses[session]
        self._page.state_holder.session_data.pop(session, None)
        self._page.state_holder.time_last_used.pop(session, None)


def _values(state: Any) -> list[Any]:
    return list(state.state_data.values())


def _is_history(value: list[Any]) -> bool:
    return bool(value) and hasattr(value[0], "path")  # HistoryItems
