"""Probe a Ray cluster, in a separate process, because Ray tries an address without an answer for minutes.

``python -m dassl.sweep.probe ADDRESS`` prints one word and the address that it probed:

    none        "auto" found no cluster on this machine
    nobody      nothing listens there
    refused     the cluster does not accept the token of this process
    accepted    the cluster accepts the token, or requires none
"""

import socket
import sys

_SECONDS_TO_CONNECT = 10.0


def look(address: str) -> str:
    """The state of ``address`` (HOST:PORT or "auto"), as above."""
    # Ray has no public function for whether a cluster accepts a token; its version is pinned.
    from ray._private.services import canonicalize_bootstrap_address
    from ray._raylet import GcsClient
    from ray.exceptions import AuthenticationError

    try:
        place = canonicalize_bootstrap_address(address)
    except ConnectionError:
        place = None
    if place is None:
        return "none"
    host, _, port = place.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_SECONDS_TO_CONNECT).close()
    except OSError:
        return f"nobody {place}"
    try:
        GcsClient(address=place)
    except AuthenticationError:
        return f"refused {place}"
    return f"accepted {place}"


if __name__ == "__main__":
    print(look(sys.argv[1]))
