"""Ports on the loopback address: the one that was asked for, or one that is free."""

import socket
from pathlib import Path

from pipeline.model.errors import ConfigurationError

HOST = "127.0.0.1"
_PRIVILEGED = Path(
    "/proc/sys/net/ipv4/ip_unprivileged_port_start"
)  # the first that is not root's (ip-sysctl)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: TIME_WAIT is no obstacle
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free(count: int) -> list[int]:
    """So many different ports that are free now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def least(*, root: bool) -> int:
    """The lowest port that a program may listen on, which runs as root or not."""
    if root:
        return 1
    return int(_PRIVILEGED.read_text(encoding="ascii")) if _PRIVILEGED.exists() else 1024


def choose(service: str, asked: int | None, last: int | None, free: int, *, root: bool) -> int:
    """The port for a service: the one asked for, else the last one if it is still free, else `free`.

    `root` says whether the service will run as root. Raises ConfigurationError when the one asked for is
    taken, or is not the service's to take.
    """
    if asked is None:
        return last if last is not None and is_free(last) else free
    if not 1 <= asked <= 65_535:
        raise ConfigurationError(
            f"{asked} is no port for {service}: choose one from 1 to 65535, or name none"
        )
    if asked < (first := least(root=root)):
        raise ConfigurationError(
            f"port {asked} for {service} is root's, as all below {first}, and {service} does not run as root: "
            f"choose one from {first} to 65535, or name none and get a free one"
        )
    if not is_free(asked):
        raise ConfigurationError(
            f"port {asked} for {service} is taken on {HOST}: end the program that listens there "
            f"(ss -ltnp 'sport = :{asked}' names it), choose another port, or name none and get a free one"
        )
    return asked
