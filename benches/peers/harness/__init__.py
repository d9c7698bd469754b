"""Starts proxies and backends, checks or loads them, and tells what came out. Python's standard library alone, and wrk."""
