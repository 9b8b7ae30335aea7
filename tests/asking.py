"""Requests over HTTP, each on a connection of its own, so that any of the workers may answer."""

import httpx

APART = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=60)
"""As `httpx.get` asks, but that reads all certificates anew each time, which takes 23 ms."""
