"""The network card that leads to the first machine."""

import os
import socket

import pytest

from fcn_plugin.system import network

VARIABLE = "GLOO_SOCKET_IFNAME"


def own_address() -> str:
    """The machine's address on the way to others, of an address that is nobody's."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return probe.getsockname()[0]


def test_card_to_another_machine():
    card = network.card_to("192.0.2.1")
    assert network.card_to(own_address()) == card
    assert card in [name for _, name in socket.if_nameindex()] and card != "lo"


@pytest.mark.parametrize("machine", ["127.0.0.1", "localhost", "no.such.machine.invalid"])
def test_no_card_to_this_machine_or_none(machine):
    assert network.card_to(machine) is None


# The address of the machine's own name, what is set before; the card that is set then.
CHOICES = {
    "Debian's hosts": ("127.0.1.1", {"MASTER_ADDR": "10.0.0.1"}, "eth7"),
    "a name of no address": (None, {"MASTER_ADDR": "10.0.0.1"}, "eth7"),
    "a name that others find": ("10.0.0.2", {"MASTER_ADDR": "10.0.0.1"}, None),
    "one machine": ("127.0.1.1", {}, None),
    "the user's choice": (
        "127.0.1.1",
        {"MASTER_ADDR": "10.0.0.1", "GLOO_SOCKET_IFNAME": "ib0"},
        "ib0",
    ),
}


@pytest.mark.parametrize(("address", "before", "card"), CHOICES.values(), ids=CHOICES)
def test_gloo_gets_a_card_only_where_it_would_take_the_loopback(monkeypatch, address, before, card):
    def gethostbyname(name: str) -> str:
        if address is None:
            raise socket.gaierror
        return address

    environment = {k: v for k, v in os.environ.items() if k not in ("MASTER_ADDR", VARIABLE)}
    monkeypatch.setattr(os, "environ", environment | before)
    monkeypatch.setattr(network, "card_to", lambda machine: "eth7")
    monkeypatch.setattr(network.socket, "gethostbyname", gethostbyname)
    network.choose_card()
    assert os.environ.get(VARIABLE) == card
