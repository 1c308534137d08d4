"""A check for every refusal: one exception with one sentence."""

import pytest


def refuse(error: type[Exception], function, *arguments, contains: str | tuple[str, ...] = (), **options) -> str:
    """Call a function that must raise `error` with one printable sentence that contains each of `contains`."""
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert message.endswith(".")
    assert ". " not in message
    assert message.isprintable()
    assert len(message) < 400
    for part in [contains] if isinstance(contains, str) else contains:
        assert part in message
    return message
