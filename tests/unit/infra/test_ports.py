"""Ports of the embedded services."""

import socket

import pytest

from infra.embedded import ports
from pipeline.model.errors import ConfigurationError


def listener() -> socket.socket:
    """Another program's server."""
    server = socket.create_server((ports.HOST, 0))
    server.listen()
    return server


def test_free_ports_differ() -> None:
    """Ports asked for together are all different and all free."""
    found = ports.free(10)
    assert len(set(found)) == 10
    assert all(ports.is_free(port) for port in found)


def test_the_last_port_is_kept() -> None:
    """A service comes back on the port of the last time, so that clients find it again."""
    last, spare = ports.free(2)
    assert ports.choose("Kafka", None, last, spare, root=False) == last
    assert ports.choose("Kafka", None, None, spare, root=False) == spare


def test_the_last_port_is_left_when_taken() -> None:
    """When another program has the last port meanwhile, a free one is taken."""
    with listener() as other:
        (spare,) = ports.free(1)
        assert ports.choose("Kafka", None, other.getsockname()[1], spare, root=False) == spare


def test_a_taken_port_is_an_error() -> None:
    """A port that was asked for and is taken is named, with what to do."""
    with listener() as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} for Kafka is taken on 127.0.0.1: end the"):
            ports.choose("Kafka", port, None, 1, root=False)


def test_a_port_that_was_just_left_is_free() -> None:
    """Connections of an ended server that linger in TIME_WAIT do not make its port taken."""
    with listener() as server:
        port = server.getsockname()[1]
        with socket.create_connection((ports.HOST, port)):
            server.accept()[0].close()  # the server's side closes first: its port lingers
    assert ports.is_free(port)


def test_a_port_of_roots_is_refused_in_words() -> None:
    """Who does not run as root hears it from us, not from the server's log; root may have it."""
    first = ports.least(root=False)
    with pytest.raises(ConfigurationError, match=f"port 80 for PostgreSQL is root's, as all below {first}"):
        ports.choose("PostgreSQL", 80, None, 1, root=False)
    assert ports.least(root=True) == 1
