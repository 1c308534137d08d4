"""How much one request may send, and for how long. `x2i_app.limits` says what a generation request may ask for."""

from dataclasses import dataclass

from x2i_app.media import CAPS


@dataclass(frozen=True)
class HttpLimits:
    """Sizes are in bytes, times in seconds. A client is an address; `clients` says which.

    headers, header_bytes: of a request. connections: of all clients. head_seconds: until a request's headers are there.
    idle_seconds: between two requests. write_seconds: for a client that reads nothing of its response.
    path_length: of the address of a request. file_path_length: of a file named in a body.
    json_values: numbers, texts, lists and objects in one body. json_files: files named in it.
    short_bytes: of a body that needs only a few values, such as a login.
    functions: how many functions of the page run at once, jobs not counted; others wait `function_wait` for a place.
    unheard_seconds: how long a job or a result waits for a client that listens.
    uploads: how many the app receives at once. upload_rate: bytes a second, after `upload_grace`.
    stored_bytes: of all uploads of a client; the oldest go. Only strangers have this limit.
    watchers: how many clients follow the progress of an upload at once. watch_seconds: how long they wait for it to
    start. logins: how many wrong passwords are allowed in `login_seconds`, counted over all clients; and how many
    wrong keys of the OpenAI API, counted for each address. sessions: how many sessions are remembered.
    links: addresses of images that the OpenAI API has given out; each is valid for `link_seconds`.
    """

    headers: int = 100
    header_bytes: int = 32 * 1024
    connections: int = 1000
    connections_per_address: int = 200
    head_seconds: float = 15
    idle_seconds: float = 5
    write_seconds: float = 60
    path_length: int = 2000
    file_path_length: int = 1000
    json_bytes: int = 2**20
    json_depth: int = 32
    json_values: int = 20_000
    json_files: int = 300
    json_seconds: float = 30
    short_bytes: int = 4096
    functions: int = 96
    functions_per_address: int = 48
    functions_per_session: int = 16
    function_wait: float = 20
    unheard_seconds: float = 30
    upload_bytes: int = CAPS.file_bytes
    upload_files: int = 32
    upload_seconds: float = 600
    upload_rate: int = 4096
    upload_grace: float = 10
    uploads: int = 8
    uploads_per_address: int = 4
    stored_bytes: int = 10**9
    watchers: int = 32
    watch_seconds: float = 3
    logins: int = 10
    login_seconds: float = 60
    links: int = 2000
    link_seconds: float = 3600
    sessions: int = 400
    sessions_per_address: int = 100


HTTP_LIMITS = HttpLimits()
