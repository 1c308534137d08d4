"""The error that ends a request before Gradio sees it."""


class Refusal(Exception):
    """A request that is not served: the HTTP status, one sentence for the client, and extra response headers."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None):
        super().__init__(sentence)
        self.status, self.sentence, self.headers = status, sentence, headers or {}
