"""Backends of the tests that a browser makes."""

import threading
from http.server import ThreadingHTTPServer


def serve(handler):
    """Serves on a free port for as long as the program runs, and gives the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    # The proxy hangs up on losers.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"
