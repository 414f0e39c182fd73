"""Closes the network for every Python process that has this folder on PYTHONPATH: the tests, and
the kernels they start.

Python imports a module of this name by itself at start-up. Only loopback addresses and Unix sockets
stay open, so that a notebook's kernel can be talked to. Libraries that ask the hub are told
beforehand that it is not there.
"""

import os
import socket
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
MESSAGE = (
    "The network is closed during tests, and something asked for {}. "
    "Use what is in the repository, or a stand-in."
)

for name in (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_DATASETS_OFFLINE",
    "HF_HUB_DISABLE_TELEMETRY",
    "DO_NOT_TRACK",
):
    os.environ[name] = "1"
ROOT = os.path.abspath(os.path.join(HERE, "..", ".."))
# Nor what was fetched earlier; a checkout that cannot be written to has its cache elsewhere.
PLACE = os.path.join(ROOT, "build") if os.access(ROOT, os.W_OK) else tempfile.gettempdir()
os.environ["HF_HOME"] = os.path.join(PLACE, "empty-hub-cache")
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([HERE, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
)


class NetworkIsClosed(OSError):
    """Raised instead of leaving the machine."""


def allowed(host):
    """Is this host on this machine? None and "" mean any of its own addresses."""
    host = host.decode() if isinstance(host, bytes) else host
    return not host or str(host).startswith(LOOPBACK)


def guard(call, host_of):
    """`call`, refusing when `host_of(its arguments)` is not on this machine."""

    def guarded(*arguments, **options):
        host = host_of(*arguments, **options)
        if not allowed(host):
            raise NetworkIsClosed(MESSAGE.format(host))
        return call(*arguments, **options)

    return guarded


if not hasattr(socket, "network_is_closed"):

    def of_address(_, address):
        return (
            address[0] if isinstance(address, tuple) else None
        )  # a Unix socket's address is a path

    def of_name(host, *_, **__):
        return host

    socket.socket.connect = guard(socket.socket.connect, of_address)
    socket.socket.connect_ex = guard(socket.socket.connect_ex, of_address)
    socket.getaddrinfo = guard(socket.getaddrinfo, of_name)
    socket.gethostbyname = guard(socket.gethostbyname, of_name)
    socket.network_is_closed = True
