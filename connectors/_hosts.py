"""Where an endpoint may lead that came from a user: of a Web Push subscription, of a webhook.

The guard against server-side request forgery: a list of hosts when the endpoint is read, a look at the
address when it is dialled, so that a name that changes its address in between gains nothing.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import ThreadedResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

_HOST = re.compile(r"[a-z0-9.:_-]+")  # a name, or an address without brackets
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class BadHosts(ValueError):
    """An entry is no host; the message names it."""


class PrivateOnly(OSError):
    """A name has private addresses only, and is not one that may have them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """An entry of the list."""

    name: str  # lower case; with `wild` what follows the star, its dot included
    port: int = 443
    wild: bool = False
    private: bool = False  # it may have an address of a private network

    def fits(self, host: str, port: int) -> bool:
        """Whether an endpoint at this host and port is meant. What a star matches is a name, no address."""
        if self.wild:
            named = host.endswith(self.name) and host != self.name and not _is_address(host)
        else:
            named = host == self.name
        return named and port == self.port


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """The hosts that may be dialled."""

    entries: tuple[Host, ...]

    @staticmethod
    def parse(text: str) -> "Hosts":
        """The hosts of a comma-separated list. Raises BadHosts.

        A host that the operator names in full may lie in his own network. What a star matches may not:
        those names belong to somebody else.
        """
        return Hosts(entries=tuple(_entry(item.strip(), trusted=True) for item in text.split(",")))

    @staticmethod
    def public(*names: str) -> "Hosts":
        """These hosts, as `parse` takes them, none of which may lie in the operator's network."""
        return Hosts(entries=tuple(_entry(name, trusted=False) for name in names))

    @staticmethod
    def anywhere() -> "Hosts":
        """Every name of the open Internet, at port 443."""
        return Hosts(entries=(Host(name="", wild=True),))

    def allow(self, url: URL) -> bool:
        """Whether this endpoint's host and port are on the list."""
        host, port = (url.host or "").lower(), url.port or 0
        return any(entry.fits(host, port) for entry in self.entries)

    def resolver(self) -> AbstractResolver:
        """Names to addresses, without private ones but for the hosts that may have them."""
        return _Resolver(frozenset(entry.name for entry in self.entries if entry.private))


def _entry(item: str, *, trusted: bool) -> Host:
    wild = item.startswith("*.")
    try:
        url = URL(f"https://{item[2:] if wild else item}")
        plain = url.host is not None and str(url.origin()) == str(url).rstrip("/")
    except ValueError:
        plain, url = False, URL()
    if not plain or url.host is None or url.port is None or not _HOST.fullmatch(url.host.lower()):
        raise BadHosts(f"{item!r} is neither `host`, `host:port` nor `*.host`")
    name = url.host.lower()
    return Host(name=f".{name}" if wild else name, port=url.port, wild=wild, private=trusted and not wild)


def _is_address(host: str) -> bool:
    """Whether a dialler takes it for an IP address, also in forms such as 2130706433, and asks no resolver."""
    return ":" in host or host.replace(".", "").isdigit()


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the open Internet (no loopback, private, link-local, CGNAT...)."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = (
            ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        )
        ip = inner or ip
    return ip.is_global and not ip.is_multicast


def _public_only(found: Iterable[ResolveResult]) -> list[ResolveResult]:
    return [result for result in found if is_public(result["host"])]


class _Resolver(AbstractResolver):
    """aiohttp asks it for names only; an address in the endpoint must be on the list itself."""

    def __init__(self, trusted: frozenset[str]) -> None:
        self._trusted = trusted
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses that may be dialled. Raises PrivateOnly when there is none, or the resolver's OSError."""
        found = await self._inner.resolve(host, port, family)
        if host.lower() not in self._trusted:
            found = _public_only(found)
        if not found:
            raise PrivateOnly("the host resolves to private addresses only")
        return found

    async def close(self) -> None:
        """Nothing is held."""
