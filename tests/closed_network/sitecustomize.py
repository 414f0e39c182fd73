"""Closes the network for every Python process that has this folder on PYTHONPATH: the tests, and the kernels they start.

Python imports a module of this name by itself at start-up. Only loopback addresses and Unix sockets stay open, so that a
notebook's kernel can be talked to. Libraries that ask the hub are told beforehand that it is not there.
"""
import os
import socket

HERE = os.path.dirname(os.path.abspath(__file__))
LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")
MESSAGE = "The network is closed during tests, and something asked for {}. Use what is in the repository, or a stand-in."

for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ[name] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([HERE, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]))


class NetworkIsClosed(OSError):
    """Raised instead of leaving the machine."""


def allowed(address):
    """Is this a Unix socket path, or a (host, port, ...) on this machine?"""
    if not isinstance(address, tuple):
        return True
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    return host in (None, "") or str(host).startswith(LOOPBACK)


def _guard(call, position):
    def guarded(*arguments, **options):
        address = arguments[position] if len(arguments) > position else None
        address = address if call is not _getaddrinfo else (address or options.get("host"), 0)
        if not allowed(address):
            raise NetworkIsClosed(MESSAGE.format(address))
        return call(*arguments, **options)
    return guarded


if not hasattr(socket, "network_is_closed"):
    _getaddrinfo = socket.getaddrinfo
    socket.socket.connect = _guard(socket.socket.connect, 1)
    socket.socket.connect_ex = _guard(socket.socket.connect_ex, 1)
    socket.getaddrinfo = _guard(_getaddrinfo, 0)
    socket.gethostbyname = _guard(socket.gethostbyname, 0)
    socket.network_is_closed = True
