"""The network card by which processes on several machines reach each other."""

import os
import socket
import struct
import sys

SIOCGIFADDR = 0x8915  # asks Linux for the IPv4 address of a card


def choose_card() -> None:
    """Have gloo take the card that leads to the first machine, if it would take the loopback.

    gloo tells the others the address that this machine's own name stands for. In the /etc/hosts of
    Debian and Ubuntu that is 127.0.1.1, at which no other machine finds it. ``GLOO_SOCKET_IFNAME``
    that the user has set stays.
    """
    first = os.environ.get("MASTER_ADDR")
    if not first or os.environ.get("GLOO_SOCKET_IFNAME") or not _named_loopback():
        return
    if card := card_to(first):
        os.environ["GLOO_SOCKET_IFNAME"] = card


def card_to(machine: str) -> str | None:
    """The name of the card that leads to another machine; None for this one, or if unknown."""
    if sys.platform != "linux":
        return None
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((machine, 9))  # sends nothing
        except OSError:
            return None
        own = probe.getsockname()[0]
        if own.startswith("127."):
            return None
        for _, card in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", card.encode()))
            except OSError:  # a card without an address
                continue
            if socket.inet_ntoa(answer[20:24]) == own:
                return card
    return None


def _named_loopback() -> bool:
    """Whether the machine's own name stands for the loopback, or for nothing."""
    try:
        return socket.gethostbyname(socket.gethostname()).startswith("127.")
    except OSError:
        return True
