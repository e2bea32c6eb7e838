"""Where an endpoint may lead that came from a user."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from connectors._hosts import BadHosts, Hosts, PrivateOnly, is_public
from connectors.webpush import PUSH_SERVICES

PUBLIC = Hosts.public(*PUSH_SERVICES)
ANYWHERE = Hosts.anywhere()


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com/fcm/send/abc",
        "https://updates.push.services.mozilla.com/wpush/v2/abc",
        "https://web.push.apple.com/abc",
        "https://db5p.notify.windows.com/w/?token=abc",
        "https://FCM.googleapis.com/x",
    ],
)
def test_the_public_services_are_allowed(endpoint: str) -> None:
    """Without an option the services of the browsers may be dialled."""
    assert PUBLIC.allow(URL(endpoint))


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://fcm.googleapis.com:8443/x",  # another port
        "https://fcm.googleapis.com.evil.example/x",
        "https://evilfcm.googleapis.com/x",
        "https://push.apple.com/x",  # the star stands for at least one label
        "https://evilpush.apple.com/x",
        "https://notify.windows.com.evil.example/x",
        "https://127.0.0.1/x",
        "https://2130706433/x",  # 127.0.0.1 as a number
        "https://[::1]/x",
        "https://localhost/x",
        "https://fcm.googleapis.com./x",
    ],
)
def test_everything_else_is_not(endpoint: str) -> None:
    """A host that only looks like one of them is refused."""
    assert not PUBLIC.allow(URL(endpoint))


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://example.com:8443/x",
        "https://127.0.0.1/x",
        "https://8.8.8.8/x",  # an address proves nothing of whose it is; a name is looked up and checked
        "https://2130706433/x",
        "https://127.1/x",
        "https://[::1]/x",
    ],
)
def test_anywhere_means_names_at_the_usual_port(endpoint: str) -> None:
    """An address would be dialled without being looked up, and so without being checked."""
    assert ANYWHERE.allow(URL("https://example.com/x"))
    assert not ANYWHERE.allow(URL(endpoint))


async def test_anywhere_does_not_mean_private() -> None:
    """A name of the open list that leads into the operator's own network is refused when it is dialled."""
    assert ANYWHERE.allow(URL("https://localhost/x"))
    for name in ("localhost", "0x7f000001"):
        with pytest.raises(PrivateOnly):
            await ANYWHERE.resolver().resolve(name, 443)


def test_listed_hosts_replace_the_public_ones() -> None:
    """The operator's list is the whole list."""
    hosts = Hosts.parse("127.0.0.1:8443, *.push.example.org, [::1]:9")
    assert hosts.allow(URL("https://127.0.0.1:8443/x"))
    assert hosts.allow(URL("https://a.push.example.org/x"))
    assert hosts.allow(URL("https://[::1]:9/x"))
    assert not hosts.allow(URL("https://127.0.0.1/x"))
    assert not hosts.allow(URL("https://fcm.googleapis.com/x"))


@pytest.mark.parametrize(
    "entry", ["", "a b", "user@host", "host/path", "*", "*.*", "host:0x50", ",", "https://host"]
)
def test_a_malformed_entry_is_named(entry: str) -> None:
    """A typo in the list stops the start."""
    with pytest.raises(BadHosts):
        Hosts.parse(entry)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1%eth0", "fd00::1", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::",
    ],
)  # fmt: skip
def test_private_addresses_are_not_dialled(address: str) -> None:
    """Loopback, private, link-local, carrier and multicast networks, also behind IPv6 mappings."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2a00:1450:4001::1", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses_are(address: str) -> None:
    """What belongs to the open Internet may be dialled."""
    assert is_public(address)


async def test_a_listed_name_may_be_private_and_a_matched_one_may_not() -> None:
    """A name that the operator spells out may lie in his network; what a star matches may not."""
    assert await Hosts.parse("localhost:1").resolver().resolve("localhost", 1)
    with pytest.raises(PrivateOnly, match="private"):
        await PUBLIC.resolver().resolve("localhost", 1)


@given(st.text(max_size=40))
def test_only_bad_hosts_is_raised(text: str) -> None:
    """Whatever the option says, it is a list or it is refused."""
    with contextlib.suppress(BadHosts):
        Hosts.parse(text)
