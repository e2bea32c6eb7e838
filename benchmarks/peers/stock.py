"""`python -m benchmarks.peers.stock PROVIDER DIR N`: a provider's own client library alone, in a loop.

As its documentation shows it, with connections kept and with as many requests at once as suit it. The
words are always the same and nothing is read, asked, retried or written down: only the sends.
"""

import asyncio
import json
import os
import ssl
import sys
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.message import EmailMessage
from email.utils import localtime, make_msgid
from pathlib import Path

import aiohttp
import aiosmtplib
from aioapns import APNs, NotificationRequest, PushType
from aioapns.connection import APNsTLSClientProtocol
from py_vapid import Vapid02
from pyfcm import FCMNotification
from pywebpush import webpush_async
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.rest import Client
from vonage import Auth, HttpClientOptions, Vonage
from vonage_sms import SmsMessage

from benchmarks.deliveries import CONTESTS, Sandbox, addresses
from benchmarks.loop import Figures, timed

THREADS = 32
TITLE = "UA 1018 is cancelled"
TEXT = "EWR → IAH, 05:25. Tap to rebook."
LINK = "https://example.com/flights/UA%201018"
SMS = "United: flight UA 1018 EWR-IAH, 05:25, is cancelled. You can rebook free of charge."
_MAIL = """Hello,

your United flight UA 1018 from EWR to IAH, scheduled for 05:25, is cancelled.

You can rebook free of charge.
"""

Options = Mapping[str, str]
Send = Callable[[str], Awaitable[object]]  # of one message, to an address


@asynccontextmanager
async def apns(options: Options) -> AsyncGenerator[tuple[Send, int]]:
    """With aioapns 4.0 and four connections."""
    context = ssl.create_default_context(cafile=options["ca_file"])
    client = APNs(
        key=await asyncio.to_thread(Path(options["key_path"]).read_text),
        key_id=options["key_id"],
        team_id=options["team_id"],
        topic=options["topic"],
        ssl_context=context,
        max_connections=4,
    )
    endpoint = {"APNS_SERVER": options["host"], "APNS_PORT": int(options["port"])}
    client.pool.protocol_class = type("Local", (APNsTLSClientProtocol,), endpoint)

    async def send(address: str) -> None:
        message = {"aps": {"alert": {"title": TITLE, "body": TEXT}, "sound": "default"}, "link": LINK}
        request = NotificationRequest(address, message, push_type=PushType.ALERT)
        assert (await client.send_notification(request)).is_successful

    yield send, 200
    client.pool.close()


@asynccontextmanager
async def fcm(options: Options) -> AsyncGenerator[tuple[Send, int]]:
    """With pyfcm 2.1.1, a client for each thread: one for all loses its credentials at the start."""
    os.environ["REQUESTS_CA_BUNDLE"] = options["ca_file"]
    local = threading.local()
    endpoint = {"FCM_END_POINT_BASE": f"{options['endpoint']}/v1/projects"}
    made = type("Local", (FCMNotification,), endpoint)

    def send(address: str) -> None:
        if not hasattr(local, "client"):
            account, project = options["service_account_path"], options["project_id"]
            local.client = made(service_account_file=account, project_id=project)
        local.client.notify(
            fcm_token=address, notification_title=TITLE, notification_body=TEXT, data_payload={"link": LINK}
        )

    with ThreadPoolExecutor(THREADS) as threads:
        yield _in(threads, send), THREADS


@asynccontextmanager
async def webpush(options: Options) -> AsyncGenerator[tuple[Send, int]]:
    """With pywebpush 2.5 on one session of aiohttp, with its key read once."""
    vapid = Vapid02.from_file(options["vapid_key"])
    payload = json.dumps({"title": TITLE, "body": TEXT, "link": LINK})
    context = ssl.create_default_context(cafile=options["ca_file"])
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session:

        async def send(address: str) -> None:
            await webpush_async(
                json.loads(address),
                payload,
                vapid_private_key=vapid,
                vapid_claims={"sub": options["subject"]},
                ttl=3600,
                timeout=30,
                aiohttp_session=session,
            )

        yield send, 100


@asynccontextmanager
async def vonage(options: Options) -> AsyncGenerator[tuple[Send, int]]:
    """With vonage 4.9.1, a client for each thread, which is what its session is safe for."""
    os.environ["REQUESTS_CA_BUNDLE"] = options["ca_file"]
    local = threading.local()

    def send(address: str) -> None:
        if not hasattr(local, "client"):
            auth = Auth(api_key=options["api_key"], api_secret=options["api_secret"])
            host = HttpClientOptions(rest_host=f"{options['host']}:{options['port']}")
            local.client = Vonage(auth, host)
        sms = {"to": address[1:], "from_": options["sender"], "text": SMS}
        local.client.sms.send(SmsMessage.model_validate(sms))

    with ThreadPoolExecutor(THREADS) as threads:
        yield _in(threads, send), THREADS


@asynccontextmanager
async def twilio(options: Options) -> AsyncGenerator[tuple[Send, int]]:
    """With twilio 9.13 on its asynchronous client, which is cheaper than the other one."""
    http = AsyncTwilioHttpClient()
    assert http.session is not None, "it keeps connections unless told otherwise"
    await http.session.close()
    context = ssl.create_default_context(cafile=options["ca_file"])
    http.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context))
    client = Client(options["account_sid"], options["auth_token"], http_client=http)
    client.api.base_url = f"https://{options['host']}:{options['port']}"

    async def send(address: str) -> None:
        await client.messages.create_async(to=address, from_=options["sender"], body=SMS)

    yield send, 50
    await http.close()


@asynccontextmanager
async def smtp(options: Options) -> AsyncGenerator[tuple[Send, int]]:
    """With aiosmtplib 5.1 on connections that are kept: every mail has its own recipient and Message-ID."""
    idle = [await _connection(options) for _ in range(20)]

    async def send(address: str) -> None:
        client = idle.pop()
        await client.send_message(_mail(options["sender"], address))
        idle.append(client)

    yield send, len(idle)
    for client in idle:
        await client.quit()


def _mail(sender: str, address: str) -> EmailMessage:
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = sender, address, TITLE
    mail["Message-ID"], mail["Date"] = make_msgid(domain="everpost.example"), localtime()
    mail.set_content(_MAIL)
    mail.add_alternative(f"<html><body><p>{_MAIL}</p></body></html>", subtype="html")
    return mail


async def _connection(options: Options) -> aiosmtplib.SMTP:
    client = aiosmtplib.SMTP(
        hostname=options["host"],
        port=int(options["port"]),
        start_tls=True,
        tls_context=ssl.create_default_context(cafile=options["ca_file"]),
        username=options["username"],
        password=options["password"],
        local_hostname="everpost.example",
    )
    await client.connect()
    return client


def _in(threads: ThreadPoolExecutor, send: Callable[[str], object]) -> Send:
    loop = asyncio.get_running_loop()
    return lambda address: loop.run_in_executor(threads, send, address)


PEERS: Mapping[str, Callable[[Options], AbstractAsyncContextManager[tuple[Send, int]]]] = {
    "apns": apns,
    "fcm": fcm,
    "webpush": webpush,
    "vonage": vonage,
    "twilio": twilio,
    "smtp": smtp,
}


async def run(sandbox: Sandbox, provider: str, messages: int) -> Figures:
    """Send so many messages."""
    (contest,) = (one for one in CONTESTS if one.provider == provider)
    options = sandbox.options_of(provider)
    async with PEERS[provider](options) as (send, at_once):
        return await timed(send, addresses(contest, sandbox), messages, at_once)


if __name__ == "__main__":
    print(asyncio.run(run(Sandbox.at(Path(sys.argv[2])), sys.argv[1], int(sys.argv[3]))).to_json())
