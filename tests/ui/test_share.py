"""--share without a tunnel: the app says so, and the page is served all the same."""

import urllib.request

from conftest import run_app

NOWHERE = "http://127.0.0.1:9"  # a proxy that does not answer: nothing outside can be reached


def test_no_tunnel(tmp_path):
    """It says what to do instead."""
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), NOWHERE)
    local = "127.0.0.1,localhost"
    with run_app(tmp_path, "--share", "--share-openly", **proxies, NO_PROXY=local, no_proxy=local) as app:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{app.url}/health", timeout=60) as answer:
            assert answer.status == 200
        output = app.log.read_text()
    assert output.count("there is no share link") == 1
    assert "--root-path" in output
    assert "Traceback" not in output
