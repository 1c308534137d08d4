"""--share where the tunnel cannot be had: it says so, and the page is up all the same."""

import urllib.request

from conftest import run_app

NOWHERE = "http://127.0.0.1:9"  # a proxy that does not answer: nothing outside can be reached


def test_without_a_tunnel_it_says_what_to_do_instead(tmp_path):
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), NOWHERE)
    local = "127.0.0.1,localhost"
    with run_app(tmp_path, "--share", "--share-openly", **proxies, NO_PROXY=local, no_proxy=local) as app:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{app.url}/health", timeout=60) as answer:
            assert answer.status == 200
        said = app.log.read_text()
    assert said.count("there is no share link") == 1
    assert "--root-path" in said
    assert "Traceback" not in said
