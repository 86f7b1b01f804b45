"""How much it costs to take a SignalR message from the socket to an event, beside other clients, on loopback.

A sender in a process of its own writes WebSocket frames that were encoded beforehand, as fast as they are taken; it
also answers negotiation and handshake, so that every client can connect. Variants take turns within a round; what is
printed are medians over the rounds, from the first message to the last: the client's CPU time per message, messages
per second, and both as ratios to pysignalr (above 1 is better than it). Quote the ratios: the figures move with the
machine, and the sender shares its cores.

    python benchmarks/signalr.py                        all variants that are installed, plain and TLS
    python benchmarks/signalr.py --memory 10000000      resident memory while so many messages pass
    python benchmarks/signalr.py --slow-handler         a consumer of 10 ms a message against a burst of 200,000

Other clients are used if they can be imported, and otherwise named as missing. project-x-py wants a newer Python than
ours, so it runs in an environment of its own, which is made in a temporary folder with --project-x-py PYTHON.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import gc
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import random
import socket
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio
import trio.testing

from flatguard.gateway.everyday import read_call
from flatguard.gateway.wire import events_in
from flatguard.model.events import EventSetAside, Hub
from flatguard.signalr import Connection, HandshakeRequest, Invocation, Role
from flatguard.signalr_client.hub import open_hub
from flatguard.signalr_client.socket import Dial, Transport, dial_tcp, open_socket, over_trio_websocket, over_websockets

# --- The messages ---

ORDER = (
    '{"type":1,"target":"GatewayUserOrder","arguments":[{"action":1,"data":{"id":%(id)d,"accountId":25700001,'
    '"contractId":"CON.F.US.MNQ.Z26","symbolId":"F.US.MNQ","creationTimestamp":"2026-11-20T14:30:00.1234567+00:00",'
    '"updateTimestamp":"2026-11-20T14:30:01.1234567+00:00","status":2,"type":1,"side":0,"size":1,'
    '"limitPrice":%(price).2f,"fillVolume":1,"filledPrice":%(price).2f,"customTag":"x"}}]}\x1e'
)
QUOTE = (
    '{"type":1,"target":"GatewayQuote","arguments":["CON.F.US.MNQ.Z26",{"symbol":"F.US.MNQ","bestBid":%(price).2f,'
    '"lastUpdated":"2026-11-20T14:30:01.4347534+00:00","timestamp":"2026-11-20T14:30:01.348+00:00",'
    '"contract":"CON.F.US.MNQ.Z26"}]}\x1e'
)
SHAPES = {"order": (ORDER, "GatewayUserOrder", Hub.USER), "quote": (QUOTE, "GatewayQuote", Hub.MARKET)}
CYCLE = 200  # different messages, in turn


def messages(shape: str, count: int = CYCLE) -> list[bytes]:
    """The first ``count`` messages, each with its own number."""
    text = SHAPES[shape][0]
    return [(text % {"id": 3408995735 + number, "price": 21000 + number / 4}).encode() for number in range(count)]


def frame(payload: bytes) -> bytes:
    """One text frame, as a server writes it."""
    if len(payload) < 126:
        return bytes([0x81, len(payload)]) + payload
    return b"\x81\x7e" + struct.pack("!H", len(payload)) + payload


def frames(shape: str, per_frame: int) -> bytes:
    """All messages of the cycle, so many in each frame."""
    cycle = messages(shape)
    return b"".join(frame(b"".join(cycle[start : start + per_frame])) for start in range(0, CYCLE, per_frame))


HANDSHAKE_ANSWER = frame(b"{}\x1e")


# --- The sender: a process of its own ---


def serve(certificate: str) -> None:
    """Serve for ever, plain and with TLS; print the two ports. A path says what is wanted: /shape/per frame/count."""
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    plain, secure = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
    for listener, wrap in ((plain, None), (secure, context)):
        threading.Thread(target=_accept, args=(listener, wrap), daemon=True).start()
    print(json.dumps([plain.getsockname()[1], secure.getsockname()[1]]), flush=True)
    sys.stdin.read()


def _accept(listener: socket.socket, context: ssl.SSLContext | None) -> None:
    while True:
        line, _ = listener.accept()
        threading.Thread(target=_attend, args=(line, context), daemon=True).start()


def _attend(line: socket.socket, context: ssl.SSLContext | None) -> None:
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with contextlib.suppress(OSError), context.wrap_socket(line, server_side=True) if context else line as line:
        request = b""
        while b"\r\n\r\n" not in request:
            request += line.recv(65536)
        start, *fields = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ")
        if method == "POST":
            line.sendall(_negotiated())
            return
        key = next(field.partition(": ")[2] for field in fields if field.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        line.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        line.recv(65536)  # the client's handshake
        line.sendall(HANDSHAKE_ANSWER)
        _, shape, per_frame, count = target.partition("?")[0].split("/")
        _blast(line, frames(shape, int(per_frame)), int(count))
        while (said := line.recv(65536)) and said[0] != 0x88:
            pass


def _negotiated() -> bytes:
    body = json.dumps(
        {
            "negotiateVersion": 1,
            "connectionId": "1",
            "connectionToken": "1",
            "availableTransports": [{"transport": "WebSockets", "transferFormats": ["Text", "Binary"]}],
        }
    ).encode()
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body)
    ) + body


def _blast(line: socket.socket, cycle: bytes, count: int) -> None:
    for _ in range(count // CYCLE):
        line.sendall(cycle)


@contextmanager
def sender(certificate: str) -> Iterator[tuple[int, int]]:
    """Start the sender; give its plain port and its port with TLS."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", certificate], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        plain, secure = json.loads(process.stdout.readline())
        yield plain, secure
    finally:
        process.kill()
        process.wait()


def certificate_in(folder: str) -> str:
    """Make a certificate with the openssl command; empty where there is none, and then TLS is left out."""
    both = os.path.join(folder, "both.pem")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1"]
    try:
        subprocess.run([*command, "-keyout", both, "-out", f"{both}.crt"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    with open(both, "a") as file:
        file.write(Path(f"{both}.crt").read_text())
    return both


def trusting() -> ssl.SSLContext:
    """TLS as ever, but for the certificate, which is nobody's."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


PATIENCE_S = 60  # with one round of one variant

# --- The variants: each takes a URL, a number of messages and the shape, and returns what a Meter has seen ---

Figures = tuple[float, float]  # CPU microseconds a message, messages a second
Variant = Callable[[str, int, str], Figures]


class Meter:
    """Counts messages, and takes the times at the first and the last."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.seen = self.before = 0
        self.begun = self.ended = (0.0, 0.0)

    def note(self, number: int = 1) -> bool:
        """Note that so many have arrived; say whether that was the last."""
        if not self.seen:
            self.before = number
            self.begun = (time.process_time(), time.perf_counter())
        self.seen += number
        if self.seen < self.count:
            return False
        self.ended = (time.process_time(), time.perf_counter())
        return True

    @property
    def figures(self) -> Figures:
        """CPU microseconds a message, messages a second."""
        cpu, wall = (end - begin for begin, end in zip(self.begun, self.ended, strict=True))
        timed = self.seen - self.before
        return cpu / timed * 1e6, timed / wall


def dialler(url: str) -> Dial:
    """Dial as ever; with TLS, trust the sender's certificate."""
    context = trusting() if url.startswith("wss") else None

    async def dial(address: str) -> trio.abc.Stream:
        return await dial_tcp(address, ssl_context=context)

    return dial


def floor(url: str, count: int, shape: str) -> Figures:
    """A bare stream that counts separators and knows nothing."""
    meter = Meter(count)

    async def run() -> None:
        stream = await dialler(url)(url)
        path = url.partition("127.0.0.1")[2].partition("/")[2]
        await stream.send_all(f"GET /{path} HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n".encode())
        await stream.receive_some(65536)
        await stream.send_all(b"handshake")
        data = await stream.receive_some(65536)  # its answer, and what may be behind it
        done = meter.note(data.count(0x1E) - 1)
        while not done:
            done = meter.note((await stream.receive_some(65536)).count(0x1E))
        await trio.aclose_forcefully(stream)

    trio.run(run)
    return meter.figures


def ours(transport: Transport) -> Variant:
    """Socket, protocol core, and the broker's rows to events."""

    def measure(url: str, count: int, shape: str) -> Figures:
        meter = Meter(count)
        trio.run(take, url, transport, SHAPES[shape][2], meter.note)
        return meter.figures

    return measure


async def take(url: str, transport: Transport, hub: Hub, note: Callable[[int], bool]) -> None:
    """Take messages to events until ``note``, which is told of each read's events, has had enough."""
    core = Connection(Role.CLIENT, read_call=read_call)
    at = datetime.now(UTC)
    async with open_socket(url, dial=dialler(url), transport=transport) as opened:
        await opened.send(core.send(HandshakeRequest()))
        while True:
            heard = 0
            for message in core.receive(await opened.receive()):
                if type(message) is Invocation:
                    for event in events_in(hub, message.target, message.arguments, at):
                        assert type(event) is not EventSetAside
                        heard += 1
            if heard and note(heard):
                return


def pysignalr(url: str, count: int, shape: str) -> Figures:
    """pysignalr, with a handler that does nothing."""
    from pysignalr.client import SignalRClient

    logging.getLogger("pysignalr").setLevel(logging.ERROR)
    meter = Meter(count)

    async def run() -> None:
        done = asyncio.Event()

        async def handle(arguments: object) -> None:
            if meter.note():
                done.set()

        client = SignalRClient(url.replace("ws", "http", 1), ssl=trusting() if url.startswith("wss") else None)
        client.on(SHAPES[shape][1], handle)
        running = asyncio.create_task(client.run())
        await asyncio.wait_for(done.wait(), PATIENCE_S)
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    asyncio.run(run())
    return meter.figures


def signalrcore(url: str, count: int, shape: str) -> Figures:
    """signalrcore, with a handler that does nothing, in a thread of its own."""
    from signalrcore.hub_connection_builder import HubConnectionBuilder

    logging.getLogger("SignalRCoreClient").setLevel(logging.CRITICAL)
    meter = Meter(count)
    done = threading.Event()

    def handle(arguments: object) -> None:
        if meter.note():
            done.set()

    options = {"verify_ssl": False, "skip_negotiation": True}
    hub = HubConnectionBuilder().with_url(url, options=options).configure_logging(logging.CRITICAL).build()
    hub.on(SHAPES[shape][1], handle)
    hub.start()
    finished = done.wait(PATIENCE_S)
    stopping = threading.Thread(target=hub.stop, daemon=True)  # it may wait for a last word of the server's
    stopping.start()
    stopping.join(1)
    if not finished:
        raise RuntimeError(f"it stopped after {meter.seen} of {count}")
    return meter.figures


PROJECT_X_PY = """
import asyncio, json, sys, time
from project_x_py.realtime import ProjectXRealtimeClient

async def main(url, count):
    seen, begun, done = 0, None, asyncio.Event()
    loop = asyncio.get_running_loop()
    async def handle(data):
        nonlocal seen, begun
        if not seen:
            begun = (time.process_time(), time.perf_counter())
        seen += 1
        if seen == count:
            done.set()
    client = ProjectXRealtimeClient("a.b.c", "1", user_hub_url=url, market_hub_url=url)
    await client.add_callback("order_update", handle)
    await client.connect()
    await asyncio.wait_for(done.wait(), 300)
    cpu, wall = time.process_time() - begun[0], time.perf_counter() - begun[1]
    print("FIGURES", json.dumps([cpu / count * 1e6, count / wall]), flush=True)
    import os
    os._exit(0)

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"""


def project_x_py(python: str) -> Variant:
    """project-x-py, with a callback that does nothing; orders only, without TLS, and fewer of them: it is slow."""

    def measure(url: str, count: int, shape: str) -> Figures:
        few = url.rpartition("/")[0] + "/10000"
        finished = subprocess.run(
            [python, "-c", PROJECT_X_PY, few.replace("ws", "http", 1), "10000"],
            capture_output=True,
            text=True,
            check=False,
            timeout=360,
        )
        for line in finished.stdout.splitlines():
            if line.startswith("FIGURES"):
                cpu, rate = json.loads(line.removeprefix("FIGURES"))
                return cpu, rate
        raise RuntimeError(finished.stderr.strip().splitlines()[-1] if finished.stderr.strip() else "it said nothing")

    return measure


def install_project_x_py(python: str, folder: str) -> str:
    """Return an interpreter that has it: ``python``, or one in an environment that is made for it."""
    if subprocess.run([python, "-c", "import project_x_py"], check=False, capture_output=True).returncode == 0:
        return python
    print(f"project-x-py: making an environment for it with {python}; this takes a while", flush=True)
    subprocess.run([python, "-m", "venv", os.path.join(folder, "pxp")], check=True, capture_output=True)
    inside = os.path.join(folder, "pxp", "bin", "python")
    subprocess.run([inside, "-m", "pip", "install", "--quiet", "project-x-py"], check=True, capture_output=True)
    return inside


# --- Rounds ---

REFERENCE = "pysignalr"


def variants(theirs: str | None) -> dict[str, Variant]:
    """What can run here; the others are named, with the reason."""
    found: dict[str, Variant] = {
        "floor": floor,
        "ours (websockets)": ours(over_websockets),
        "ours (trio-websocket)": ours(over_trio_websocket),
    }
    for name, variant in (("pysignalr", pysignalr), ("signalrcore", signalrcore)):
        if importlib.util.find_spec(name):
            found[name] = variant
        else:
            print(f"{name}: left out, it is not installed here")
    if theirs:
        found["project-x-py"] = project_x_py(theirs)
    else:
        print("project-x-py: left out, no Python was named for it (--project-x-py PYTHON, 3.12 or newer)")
    return found


def compare(rounds: int, count: int, theirs: str | None) -> None:
    """Let the variants take turns on each kind of work, and print a table for each."""
    able = variants(theirs)
    print(f"{platform.python_implementation()} {platform.python_version()}, {os.cpu_count()} cores, {rounds} rounds of")
    print(f"{count} messages; " + ", ".join(versions()))
    with tempfile.TemporaryDirectory() as folder:
        certificate = certificate_in(folder)
        with sender(certificate) as (plain, secure):
            for security, port in (("plain", plain), ("TLS", secure)):
                if security == "TLS" and not certificate:
                    print("TLS: left out, there is no openssl command to make a certificate with")
                    continue
                for shape in SHAPES:
                    for per_frame in (1, 20):
                        scheme = "wss" if security == "TLS" else "ws"
                        url = f"{scheme}://127.0.0.1:{port}/{shape}/{per_frame}/{count}"
                        name = f"{shape}s, {per_frame} a frame, {security}"
                        fit = {
                            who: variant
                            for who, variant in able.items()
                            if who != "project-x-py" or (shape == "order" and security == "plain")
                        }
                        table(name, measure_all(fit, url, count, shape, rounds))


def measure_all(able: dict[str, Variant], url: str, count: int, shape: str, rounds: int) -> dict[str, list[Figures]]:
    """Return the figures of all rounds; whoever fails is named, and sits out the rest."""
    figures: dict[str, list[Figures]] = {name: [] for name in able}
    failed: set[str] = set()
    for number in range(rounds):
        order = list(able)
        random.Random(number).shuffle(order)
        for name in order:
            if name in failed:
                continue
            gc.collect()
            try:
                figures[name].append(able[name](url, count, shape))
            except Exception as error:  # noqa: BLE001 - another's client; the comparison goes on without it
                print(f"{name}: left out of {url.rpartition('127.0.0.1')[2]}, {type(error).__name__}: {error}"[:200])
                failed.add(name)
    return {name: values for name, values in figures.items() if values and name not in failed}


def table(name: str, figures: dict[str, list[Figures]]) -> None:
    """Print medians, and ratios to pysignalr where it ran."""
    medians = {who: tuple(map(statistics.median, zip(*values, strict=True))) for who, values in figures.items()}
    base = medians.get(REFERENCE)
    print(f"\n{name:30}{'CPU us':>10}{'msgs/s':>12}{'CPU x':>8}{'rate x':>8}")
    for who, (cpu, rate) in medians.items():
        ratios = f"{base[0] / cpu:8.2f}{rate / base[1]:8.2f}" if base else ""
        print(f"  {who:28}{cpu:10.2f}{rate:12.0f}{ratios}", flush=True)


def versions() -> list[str]:
    """What was measured."""
    found = []
    for name in ("trio", "trio-websocket", "websockets", "msgspec", "cattrs", "attrs", "pysignalr", "signalrcore"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


# --- Memory ---


def resident_kib() -> int:
    """How much of this process is in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def watch_memory(count: int) -> None:
    """Let ``count`` orders pass through our client; print the resident memory twenty times on the way."""
    samples: list[tuple[int, int]] = []
    seen = 0

    def note(number: int) -> bool:
        nonlocal seen
        if seen * 20 // count != (seen + number) * 20 // count:
            samples.append((seen + number, resident_kib()))
            print(f"{seen + number:>12} messages {samples[-1][1]:>10} KiB", flush=True)
        seen += number
        return seen >= count

    with sender("") as (plain, _):
        began = time.perf_counter()
        trio.run(take, f"ws://127.0.0.1:{plain}/order/1/{count}", over_websockets, Hub.USER, note)
        took = time.perf_counter() - began
    early, late = samples[len(samples) // 4][1], samples[-1][1]
    verdict = "flat" if late - early <= 1024 else "NOT flat"
    print(f"{seen} messages in {took:.0f} s; from {early} KiB after a quarter to {late} KiB: {verdict}")


# --- A slow handler ---


def watch_slow_handler(count: int) -> None:
    """Let a consumer take 10 ms for each message of a burst; in virtual time, with the full count."""
    trio.run(_slow_handler, count, clock=trio.testing.MockClock(autojump_threshold=0))


async def _slow_handler(count: int) -> None:
    told = Told()
    handled = most_held = 0
    in_order = True
    began = time.perf_counter()
    async with trio.open_nursery() as nursery, told.far_end(nursery, count) as dial:
        async with open_hub("ws://hub.example/hub", negotiating=False, dial=dial) as hub:
            while handled < count:
                for call in await hub.receive():
                    most_held = max(most_held, told.written - handled)
                    row: Any = call.arguments[0]
                    in_order = in_order and row["data"]["id"] == handled
                    handled += 1
                    await trio.sleep(0.01)
        virtual = trio.current_time() - told.began_at
        nursery.cancel_scope.cancel()
    print(f"a burst of {count} messages, 10 ms for each: {virtual:.0f} s of virtual time, all of the count")
    print(f"  handled {handled}, {'in order' if in_order else 'OUT OF ORDER'}, nothing lost")
    print(f"  at most {most_held} messages had been taken from the sender and not been handled")
    print(f"  {told.pings} pings of ours went out, the longest pause between two was {told.longest_pause:.0f} s")
    print(f"  {time.perf_counter() - began:.0f} s of real time, {resident_kib()} KiB resident at the end")


class Told:
    """A server in memory that takes nothing more than its reader does; it counts what it wrote and our pings."""

    def __init__(self) -> None:
        self.written = self.pings = 0
        self.began_at = self.pinged_at = 0.0
        self.longest_pause = 0.0

    @asynccontextmanager
    async def far_end(self, nursery: trio.Nursery, count: int) -> AsyncIterator[Dial]:
        """Give a dial to it, with a line that holds nothing by itself."""

        async def dial(url: str) -> trio.abc.Stream:
            near, far = trio.testing.lockstep_stream_pair()
            nursery.start_soon(self._attend, far, count)
            return near

        yield dial

    async def _attend(self, stream: trio.abc.Stream, count: int) -> None:
        request = b""
        while b"\r\n\r\n" not in request:
            request += await stream.receive_some(65536)
        key = next(line[19:] for line in request.decode().split("\r\n") if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())
        upgraded = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        await stream.send_all(upgraded + b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        await stream.receive_some(65536)
        await stream.send_all(HANDSHAKE_ANSWER)
        self.began_at = self.pinged_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, stream)
            for start in range(0, count, CYCLE):
                texts = [(ORDER % {"id": n, "price": 21000}).encode() for n in range(start, start + CYCLE)]
                await stream.send_all(b"".join(map(frame, texts)))
                self.written += CYCLE
            while True:
                await trio.sleep(10)
                await stream.send_all(frame(b'{"type":6}\x1e'))

    async def _listen(self, stream: trio.abc.Stream) -> None:
        """Every frame of ours in a burst like this is a ping, or the goodbye at its end."""
        with contextlib.suppress(trio.BrokenResourceError):
            while data := await stream.receive_some(65536):
                if data[0] == 0x81:
                    self.pings += 1
                    now = trio.current_time()
                    self.longest_pause = max(self.longest_pause, now - self.pinged_at)
                    self.pinged_at = now
                elif data[0] == 0x88:
                    await stream.send_all(b"\x88\x00")


def main() -> None:
    """Do what the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=40_000, help="messages a round")
    parser.add_argument("--project-x-py", metavar="PYTHON", help="an interpreter that can run it, 3.12 or newer")
    parser.add_argument("--memory", type=int, nargs="?", const=10_000_000, metavar="N")
    parser.add_argument("--slow-handler", type=int, nargs="?", const=200_000, metavar="N")
    parser.add_argument("--serve", metavar="CERTIFICATE", help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.serve is not None:
        serve(wanted.serve)
    elif wanted.memory:
        watch_memory(wanted.memory)
    elif wanted.slow_handler:
        watch_slow_handler(wanted.slow_handler)
    else:
        with tempfile.TemporaryDirectory() as folder:
            theirs = wanted.project_x_py and install_project_x_py(wanted.project_x_py, folder)
            compare(wanted.rounds, wanted.count // CYCLE * CYCLE, theirs)


if __name__ == "__main__":
    main()
