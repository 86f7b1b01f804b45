"""Listening for ever: subscribe, photograph, hand over in order; lose the hub in every way, and come back."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import ClassVar, cast

import pytest
import trio
import trio.testing
from attrs import define, field

from flatguard.errors import GatewayUnreachable
from flatguard.gateway.listen import (
    KEEP_QUOTES_S,
    PHOTOGRAPH_S,
    PRICE_WITHIN_S,
    QUIET_MARKET_MOST_S,
    QUIET_MARKET_S,
    SUBSCRIBE_S,
    Batch,
    Listener,
    MarketHub,
    UserHub,
)
from flatguard.model.events import (
    AccountChanged,
    Event,
    ExposureRead,
    Hub,
    LinkDown,
    LinkUp,
    OrderChanged,
    PositionChanged,
    QuoteMoved,
    TradeMade,
)
from flatguard.model.ids import AccountId, ContractId
from flatguard.secret import Secret
from flatguard.signalr import Invocation
from flatguard.signalr_client.errors import HubLost
from flatguard.signalr_client.hub import Hub as HubConnection
from flatguard.signalr_client.reconnect import STABLE_S, Phase
from flatguard.simulator.hubs import Client
from flatguard.simulator.options import Options
from tests.fakes.chance import Edge
from tests.fakes.memory_gateway import MemoryGateway, open_gateway

MNQ, ES, NQ = ContractId("CON.F.US.MNQ.Z26"), ContractId("CON.F.US.EP.Z26"), ContractId("CON.F.US.ENQ.Z26")
LIVELY = Options.calm().but(price_walk=True)
HOUR = 3600.0


@define
class Ear:
    """What was handed over, batch by batch, with the time."""

    batches: list[tuple[float, Batch]] = field(factory=list)

    async def send(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        self.batches.append((trio.current_time(), batch))

    @property
    def events(self) -> list[Event]:
        return [event for _, batch in self.batches for event in batch]

    def of(self, *kinds: type) -> list[Event]:
        return [event for event in self.events if isinstance(event, kinds)]

    def times(self, kind: type) -> list[float]:
        return [at for at, batch in self.batches for event in batch if isinstance(event, kind)]

    def links(self) -> list[str]:
        return ["up" if isinstance(event, LinkUp) else "down" for event in self.of(LinkUp, LinkDown)]

    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, LinkDown)]

    def quoted(self, since: float = 0.0) -> set[ContractId]:
        return {
            event.contract_id
            for at, batch in self.batches
            for event in batch
            if at >= since and isinstance(event, QuoteMoved)
        }


def listener(gateway: MemoryGateway, ear: Ear, hub: Hub = Hub.USER) -> Listener:
    return Listener(
        hub, f"http://gateway/hubs/{hub}", gateway.token, gateway.clock, Edge(), ear.send, dial=gateway.dial
    )


def user_hub(gateway: MemoryGateway, ear: Ear, photograph: Callable[[], Awaitable[Batch]] | None = None) -> UserHub:
    async def read() -> Batch:
        return (await gateway.reading.read_exposure(AccountId(gateway.account_id)),)

    return UserHub(listener(gateway, ear), (AccountId(gateway.account_id),), photograph or read)


def market_hub(gateway: MemoryGateway, ear: Ear, *contracts: ContractId) -> MarketHub:
    return MarketHub(listener(gateway, ear, Hub.MARKET), frozenset(contracts))


def upgrades(gateway: MemoryGateway, hub: Hub = Hub.USER) -> list[int]:
    """Return the statuses of all attempts to connect."""
    return [entry["outcome"]["status"] for entry in gateway.requests(f"/hubs/{hub}")]


def subscriptions(gateway: MemoryGateway) -> set[tuple[str, object]]:
    """Return what is subscribed to at the double, over all connections."""
    return {subscription for client in gateway.double.gateway.clients for subscription in client.subscriptions}


async def until(true: Callable[[], object]) -> None:
    """Return once ``true()`` holds, to the millisecond."""
    with trio.fail_after(120):
        while not true():  # noqa: ASYNC110 - nothing tells
            await trio.sleep(0.001)


# --- Subscribe, photograph, hand over ---


async def test_a_user_hub_subscribes_to_the_four_streams_of_every_account(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        accounts = tuple(
            AccountId(account.id) for user in list(gateway.world.users.values())[:1] for account in user.accounts
        )
        assert len(accounts) > 1
        hub = user_hub(gateway, Ear())
        hub.accounts = accounts
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(1)
        assert subscriptions(gateway) == {
            ("GatewayUserAccount", None),
            *((f"GatewayUser{what}", account) for what in ("Order", "Position", "Trade") for account in accounts),
        }


async def test_subscribing_takes_one_round_trip_however_many_accounts_there_are(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_gateway() as gateway:
        calls: list[float] = []
        original = Client.call

        def call(client: Client, message: Invocation) -> None:
            calls.append(trio.current_time())
            gateway.nursery.start_soon(answer_late, client, message)

        async def answer_late(client: Client, message: Invocation) -> None:
            await trio.sleep(0.5)
            original(client, message)

        monkeypatch.setattr(Client, "call", call)
        ear = Ear()
        hub = user_hub(gateway, ear)
        hub.accounts = (AccountId(gateway.account_id),) * 50
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(2)
        assert len(calls) == 151
        assert ear.times(LinkUp) == [pytest.approx(0.5, abs=0.1)]


async def test_the_link_is_up_with_its_photograph_before_anything_else(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.place("MNQ", 2)
        await trio.sleep(1)
        ear = Ear()
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await trio.sleep(1)
        ((_, batch),) = ear.batches
        up, photograph = batch
        assert isinstance(up, LinkUp)
        assert isinstance(photograph, ExposureRead)
        assert [position.size for position in photograph.positions] == [2]


async def test_what_happens_while_the_photograph_is_taken_comes_behind_it_in_order(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway() as gateway:
        ear = Ear()

        async def slowly() -> Batch:
            await trio.sleep(1)
            gateway.place("MNQ", 1)
            await trio.sleep(1)
            read = await gateway.reading.read_exposure(AccountId(gateway.account_id))
            gateway.place("MNQ", 2)
            await trio.sleep(1)
            return (read,)

        gateway.nursery.start_soon(user_hub(gateway, ear, slowly).listen)
        await trio.sleep(2.5)
        assert not ear.batches, "nothing is handed over early"
        await trio.sleep(2)
        (_, batch), *others = ear.batches
        assert isinstance(batch[0], LinkUp)
        assert isinstance(batch[1], ExposureRead)
        assert [type(event) for event in batch[2:]] == 2 * [
            OrderChanged,
            TradeMade,
            OrderChanged,
            PositionChanged,
            AccountChanged,
        ]
        assert [event.position.size for event in batch if isinstance(event, PositionChanged)] == [1, 3]
        assert not others


async def test_every_event_since_subscribing_is_handed_over_once(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await until(lambda: ("GatewayUserTrade", gateway.account_id) in subscriptions(gateway))
        placed = []
        for _ in range(50):
            placed.append(gateway.place("MNQ", 1))
            await trio.sleep(0.003)
        await trio.sleep(5)
        filled = [event.trade.order_id for event in ear.events if isinstance(event, TradeMade)]
        assert filled == placed
        assert [event.position.size for event in ear.events if isinstance(event, PositionChanged)] == list(range(1, 51))


async def test_a_photograph_that_takes_long_does_not_hold_events_longer(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()

        async def too_slowly() -> Batch:
            await trio.sleep(PHOTOGRAPH_S + 3)
            return (await gateway.reading.read_exposure(AccountId(gateway.account_id)),)

        gateway.nursery.start_soon(user_hub(gateway, ear, too_slowly).listen)
        await trio.sleep(1)
        gateway.place("MNQ", 1)
        await trio.sleep(PHOTOGRAPH_S)
        assert [type(event) for event in ear.events] == [
            LinkUp,
            OrderChanged,
            TradeMade,
            OrderChanged,
            PositionChanged,
            AccountChanged,
        ]
        assert ear.batches[0][0] == pytest.approx(PHOTOGRAPH_S, abs=0.1)


async def test_a_photograph_that_is_late_comes_when_it_is_ready_on_a_quiet_hub_too(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway() as gateway:
        ear = Ear()

        async def too_slowly() -> Batch:
            await trio.sleep(PHOTOGRAPH_S + 3)
            return (await gateway.reading.read_exposure(AccountId(gateway.account_id)),)

        gateway.nursery.start_soon(user_hub(gateway, ear, too_slowly).listen)
        await trio.sleep(60)
        assert [type(event) for event in ear.events] == [LinkUp, ExposureRead]
        assert ear.times(ExposureRead) == [pytest.approx(PHOTOGRAPH_S + 3, abs=0.1)]


async def test_a_photograph_that_ends_at_the_very_limit_comes_once(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()

        async def just_in_time() -> Batch:
            await trio.sleep(PHOTOGRAPH_S)
            return (await _reading(gateway),)

        async def _reading(gateway: MemoryGateway) -> Event:
            await trio.lowlevel.checkpoint()
            return LinkDown(gateway.clock.now(), Hub.MARKET, "stands for a photograph")

        gateway.nursery.start_soon(user_hub(gateway, ear, just_in_time).listen)
        await trio.sleep(30)
        assert [type(event) for event in ear.events] == [LinkUp, LinkDown]


async def test_a_photograph_that_fails_is_a_reason_to_connect_anew(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear, tries = Ear(), 0

        async def fail_once() -> Batch:
            nonlocal tries
            tries += 1
            await trio.lowlevel.checkpoint()
            if tries == 1:
                raise GatewayUnreachable("no picture")
            return ()

        gateway.nursery.start_soon(user_hub(gateway, ear, fail_once).listen)
        await trio.sleep(10)
        assert (ear.links(), ear.reasons()) == (["down", "up"], ["no picture"])


async def test_events_of_one_read_come_as_one_batch(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await trio.sleep(1)
        gateway.place("MNQ", 1)
        await trio.sleep(1)
        at = {event.at for event in ear.events}
        assert all(gateway.clock.now() >= moment for moment in at)
        assert len(ear.batches) > 1


# --- Losing it, and coming back ---


@pytest.mark.parametrize(("name", "pause_s"), [("cut_hub", 0), ("close_hub", 0), ("logout_hub", 2)])
@pytest.mark.parametrize("hub", Hub)
async def test_a_hub_that_held_for_long_is_back_at_once_unless_it_sent_us_away(
    autojump_clock: trio.abc.Clock, name: str, pause_s: int, hub: Hub
) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        listening = user_hub(gateway, ear) if hub is Hub.USER else market_hub(gateway, ear)
        gateway.nursery.start_soon(listening.listen)
        await trio.sleep(STABLE_S + 1)
        assert listening.listener.link.state.phase is Phase.CONNECTED
        gateway.fault(name, target=str(hub))
        await trio.sleep(pause_s + 1)
        assert ear.links() == ["up", "down", "up"]
        assert ear.times(LinkUp)[1] - ear.times(LinkDown)[0] == pytest.approx(pause_s, abs=0.5)
        assert all(event.hub is hub for event in ear.of(LinkUp, LinkDown))
        assert ear.reasons()[0]
        assert ear.reasons()[0].endswith("will most likely happen again") == (name == "logout_hub")
        assert listening.listener.link.state.phase is Phase.CONNECTED


async def test_a_hub_that_falls_silent_is_lost_after_thirty_seconds(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await trio.sleep(STABLE_S)
        began = trio.current_time()
        gateway.fault("silence_hub", target="user")
        await trio.sleep(30)
        gateway.heal()
        await trio.sleep(60)
        assert 15 <= ear.times(LinkDown)[0] - began <= 30
        assert "said nothing for 30 s" in ear.reasons()[0]
        assert ear.links()[-1] == "up"


async def test_a_hub_that_looks_well_and_is_not_is_given_up_when_asked(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        hub = user_hub(gateway, ear)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(STABLE_S + 1)
        gateway.fault("freeze_hub", target="user", duration_s=5)
        await trio.sleep(6)
        hub.listener.link.reconnect()
        await trio.sleep(1)
        assert (ear.links(), ear.reasons()) == (["up", "down", "up"], ["connecting anew"])
        gateway.place("MNQ", 1)
        await trio.sleep(1)
        assert ear.of(PositionChanged)


async def test_asking_for_a_new_connection_during_a_pause_changes_nothing(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        hub = user_hub(gateway, ear)
        gateway.fault("refuse_hub", count=1)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(1)
        hub.listener.link.reconnect()
        await trio.sleep(20)
        assert ear.links() == ["down", "up"]


async def test_a_hub_that_is_refused_is_tried_ever_more_slowly_and_for_ever(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        gateway.fault("refuse_hub", target="user")
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await trio.sleep(HOUR)
        downs = ear.times(LinkDown)
        pauses = [b - a for a, b in pairwise(downs)]
        assert downs[0] == pytest.approx(0, abs=0.1)
        assert pauses == pytest.approx([2, 10, 30] + [60] * (len(pauses) - 3), abs=0.1)
        assert len(pauses) > 55
        gateway.heal()
        await trio.sleep(61)
        assert ear.links()[-1] == "up"


async def test_a_gateway_where_nobody_listens_is_tried_in_the_same_way(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        await gateway.token.current()
        ear = Ear()
        gateway.refusing = True
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await trio.sleep(50)
        assert ear.times(LinkDown) == pytest.approx([0, 2, 12, 42], abs=0.1)
        gateway.refusing = False
        await trio.sleep(60)
        assert ear.links()[-1] == "up"


@pytest.mark.parametrize(
    ("name", "held", "pauses"),
    [
        ("cut_hub", STABLE_S - 20, [2, 10, 30]),
        ("cut_hub", STABLE_S + 1, [0, 0, 0]),
        ("logout_hub", STABLE_S - 20, [2, 10, 30]),
        ("logout_hub", STABLE_S + 1, [2, 2, 2]),
    ],
)
async def test_only_a_connection_that_held_for_a_minute_starts_the_delays_over(
    autojump_clock: trio.abc.Clock, name: str, held: float, pauses: list[float]
) -> None:
    """Two programs that throw each other out must not do so every second."""
    async with open_gateway() as gateway:
        ear = Ear()
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        for count in range(1, 4):
            await until(lambda count=count: len(ear.times(LinkUp)) == count)
            await trio.sleep(held)
            gateway.fault(name, target="user")
        await trio.sleep(60)
        waited = [up - down for down, up in zip(ear.times(LinkDown), ear.times(LinkUp)[1:], strict=True)]
        assert waited == pytest.approx(pauses, abs=0.1)


async def test_a_hurry_cuts_a_pause(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        hub = user_hub(gateway, ear)
        gateway.fault("refuse_hub", target="user")
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(50)
        gateway.heal()
        began = trio.current_time()
        hub.listener.link.hurry()
        await trio.sleep(1)
        assert ear.times(LinkUp) == [pytest.approx(began, abs=0.1)]


async def test_a_hurry_of_earlier_does_not_cut_a_later_pause(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        hub = user_hub(gateway, ear)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(5)
        hub.listener.link.hurry()
        gateway.fault("logout_hub", target="user")
        await trio.sleep(10)
        assert ear.times(LinkUp)[1] - ear.times(LinkDown)[0] == pytest.approx(2, abs=0.1)


async def test_subscriptions_that_are_not_answered_end_the_connection(
    autojump_clock: trio.abc.Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        with monkeypatch.context() as patch:
            patch.setattr("flatguard.simulator.hubs.Client.call", lambda self, message: None)
            gateway.nursery.start_soon(user_hub(gateway, ear).listen)
            await trio.sleep(SUBSCRIBE_S + 1)
        assert ear.reasons() == ["subscribing took too long"]
        await trio.sleep(5)
        assert ear.links() == ["down", "up"]


async def test_a_subscription_that_is_refused_ends_the_connection_with_its_reason(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        hub = user_hub(gateway, ear)
        hub.accounts = (AccountId(424_242),)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(1)
        assert ear.links() == ["down"]
        assert "Failed to invoke" in ear.reasons()[0]


async def test_listening_ends_with_its_task_and_leaves_no_connection(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        with trio.move_on_after(30):
            await user_hub(gateway, ear).listen()
        await trio.sleep(1)
        assert ear.links() == ["up"], "to stop is not to lose it"
        assert not gateway.double.gateway.clients


# --- Tokens ---


async def test_an_upgrade_refused_with_401_takes_a_new_token_at_the_next_attempt(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway() as gateway:
        gateway.double.gateway.tokens.end(await gateway.bearer())
        ear = Ear()
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await trio.sleep(10)
        assert upgrades(gateway) == [401, 101]
        assert ear.links() == ["down", "up"]
        assert len(gateway.requests("/api/Auth/loginKey")) == 2


async def test_both_hubs_refused_with_401_share_one_login(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.double.gateway.tokens.end(await gateway.bearer())
        market = market_hub(gateway, Ear())

        async def dial_slowly(url: str) -> trio.abc.Stream:
            await trio.sleep(1)
            return await gateway.dial(url)

        market.listener.dial = dial_slowly
        gateway.nursery.start_soon(user_hub(gateway, Ear()).listen)
        gateway.nursery.start_soon(market.listen)
        await trio.sleep(10)
        assert upgrades(gateway) == upgrades(gateway, Hub.MARKET) == [401, 101]
        assert len(gateway.requests("/api/Auth/loginKey")) == 2


async def test_an_upgrade_refused_for_another_reason_costs_no_login(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        gateway.fault("refuse_hub", target="user")
        gateway.nursery.start_soon(user_hub(gateway, Ear()).listen)
        await trio.sleep(HOUR)
        assert set(upgrades(gateway)) == {503}
        assert len(gateway.requests("/api/Auth/loginKey")) == 1


@pytest.mark.parametrize("holds", [True, False])
async def test_who_is_logged_out_learns_whether_the_session_has_ended_or_has_a_rival(
    autojump_clock: trio.abc.Clock, holds: bool
) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        hub = user_hub(gateway, ear)

        async def ask(token: Secret) -> bool:
            await trio.sleep(0.1)
            return holds

        hub.listener.session_holds = ask
        gateway.nursery.start_soon(hub.listen)
        await until(lambda: ear.links() == ["up"])
        logins = len(gateway.requests("/api/Auth/loginKey"))
        gateway.fault("logout_hub", target="user", count=1)
        await trio.sleep(5)
        assert ear.links() == ["up", "down", "down", "up"]
        first, second = ear.reasons()
        assert first.startswith("the broker logged us out")
        assert second.startswith("logged out although our session holds" if holds else "the broker ended our session")
        assert len(gateway.requests("/api/Auth/loginKey")) == logins + (0 if holds else 1)


async def test_who_is_logged_out_again_and_again_comes_back_ever_more_slowly_and_says_why(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Two programs that log one another out would otherwise do nothing else."""
    async with open_gateway() as gateway:
        ear = Ear()
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await until(lambda: ear.links() == ["up"])
        began = trio.current_time()
        while trio.current_time() < began + HOUR:
            if ear.links()[-1] == "up":
                gateway.fault("logout_hub", target="user", count=1)
            await trio.sleep(1)
        assert len(upgrades(gateway)) < HOUR / 60 + 10
        assert any("another program of this user competes with us" in reason for reason in ear.reasons())


async def test_what_was_said_before_the_logout_is_handed_over(autojump_clock: trio.abc.Clock) -> None:
    class Saying:
        async def receive(self) -> list[Invocation]:
            await trio.lowlevel.checkpoint()
            quote = ("CON.F.US.MNQ.Z26", {"bestBid": 25_000})
            return [Invocation("GatewayQuote", quote), Invocation("gatewaylogout"), Invocation("GatewayQuote", quote)]

    async with open_gateway() as gateway:
        ear = Ear()
        with pytest.raises(HubLost, match="the broker logged us out"):
            await listener(gateway, ear, Hub.MARKET).receive(cast(HubConnection, Saying()))
        assert len(ear.of(QuoteMoved)) == 1


@pytest.mark.parametrize("failure", ["no token at all", "no new token after 401"])
async def test_a_token_that_cannot_be_had_is_a_reason_and_not_the_end(
    autojump_clock: trio.abc.Clock, failure: str
) -> None:
    async with open_gateway() as gateway:
        if failure != "no token at all":
            gateway.double.gateway.tokens.end(await gateway.bearer())
        gateway.fault("http_500", target="/api/Auth/loginKey")
        ear = Ear()
        gateway.nursery.start_soon(user_hub(gateway, ear).listen)
        await trio.sleep(30)
        assert set(ear.links()) == {"down"}
        gateway.heal()
        await trio.sleep(90)
        assert ear.links()[-1] == "up"


async def test_no_reason_no_repr_and_no_log_shows_the_token(
    autojump_clock: trio.abc.Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_gateway() as gateway:
        ear = Ear()
        hub = user_hub(gateway, ear)
        gateway.nursery.start_soon(hub.listen)
        secrets = [await gateway.bearer()]
        for name in ("cut_hub", "close_hub", "logout_hub", "refuse_hub", "silence_hub"):
            gateway.fault(name, target="user", duration_s=60)
            await trio.sleep(90)
        gateway.double.gateway.tokens.end(secrets[0])
        gateway.fault("cut_hub", target="user")
        await trio.sleep(90)
        secrets.append(await gateway.bearer())
        assert secrets[0] != secrets[1]
        shown = [repr(ear.events), repr(hub), caplog.text]
        for secret in secrets:
            assert not [text for text in shown if secret in text or secret.split(".")[2] in text]


# --- The market ---


async def test_quotes_come_of_what_is_wanted_and_of_nothing_else(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        hub = market_hub(gateway, ear)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(5)
        assert ear.quoted() == set()
        hub.watch(frozenset({MNQ, ES}))
        await trio.sleep(5)
        assert ear.quoted() == {MNQ, ES}
        assert subscriptions(gateway) == {("GatewayQuote", MNQ), ("GatewayQuote", ES)}


async def test_what_is_not_wanted_any_more_is_kept_for_exactly_a_minute(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        hub = market_hub(gateway, Ear(), MNQ, ES)
        gateway.nursery.start_soon(hub.listen)
        for held in (0.5, KEEP_QUOTES_S, 3.7 * KEEP_QUOTES_S):
            hub.watch(frozenset({MNQ, ES}))
            await trio.sleep(held)
            hub.watch(frozenset({ES}))
            await trio.sleep(KEEP_QUOTES_S / 2)
            hub.watch(frozenset({ES, NQ}))
            await trio.sleep(KEEP_QUOTES_S / 2 - 0.1)
            assert ("GatewayQuote", MNQ) in subscriptions(gateway)
            await trio.sleep(0.2)
            assert ("GatewayQuote", MNQ) not in subscriptions(gateway)


async def test_what_is_wanted_again_within_the_minute_stays(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        hub = market_hub(gateway, Ear(), MNQ)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(10)
        hub.watch(frozenset())
        await trio.sleep(KEEP_QUOTES_S - 1)
        hub.watch(frozenset({MNQ}))
        await trio.sleep(5 * KEEP_QUOTES_S)
        assert subscriptions(gateway) == {("GatewayQuote", MNQ)}


async def test_a_contract_wanted_while_another_is_being_subscribed_is_subscribed_too(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        hub = market_hub(gateway, ear)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(1)
        for wanted in ({MNQ}, {MNQ, ES}, {MNQ, ES, NQ}):
            hub.watch(frozenset(wanted))
            for _ in range(3):
                await trio.lowlevel.checkpoint()
        await trio.sleep(5)
        assert ear.quoted() == {MNQ, ES, NQ}


async def test_a_contract_that_the_hub_refuses_does_not_cost_the_others_their_quotes(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        hub = market_hub(gateway, ear, ContractId("CON.F.US.AAA.Z26"), MNQ)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(30)
        assert ear.quoted() == {MNQ}
        assert ear.links() == ["up"]


async def test_a_subscription_that_is_never_answered_holds_up_no_other(autojump_clock: trio.abc.Clock) -> None:
    """Quotes of others go on all the while, so silence would never tell."""

    class Deaf:
        asked: ClassVar[list[str]] = []

        async def invoke(self, _method: str, contract_id: str) -> None:
            self.asked.append(contract_id)
            if contract_id == ES:
                await trio.sleep_forever()

        async def receive(self) -> list[Invocation]:
            await trio.sleep(1)
            return [Invocation("GatewayQuote", (MNQ, {"lastPrice": 25000}))]

    async with open_gateway(LIVELY) as gateway:
        hub = market_hub(gateway, Ear(), MNQ, ES, NQ)
        with trio.fail_after(SUBSCRIBE_S + 1), pytest.raises(ExceptionGroup) as lost:
            await hub._serve(cast(HubConnection, Deaf()))
        assert lost.group_contains(HubLost, match="subscribing took too long")


async def test_a_contract_wanted_after_a_quiet_while_has_time_for_a_quote(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        hub = market_hub(gateway, ear, MNQ)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(10)
        gateway.fault("freeze_hub", target="market", duration_s=QUIET_MARKET_S + 10)
        hub.watch(frozenset())
        await trio.sleep(QUIET_MARKET_S + 9)
        hub.watch(frozenset({ES}))
        await trio.sleep(5)
        assert ear.links() == ["up"]


async def test_downs_are_told_before_the_up_that_ends_them_however_slow_the_feed_is(
    autojump_clock: trio.abc.Clock,
) -> None:
    """Told the other way round, the account would pass for deaf until the next loss."""
    async with open_gateway(LIVELY) as gateway:
        feed_in, feed_out = trio.open_memory_channel[Batch](0)
        told: list[str] = []

        async def take(for_s: float) -> None:
            with trio.move_on_after(for_s):
                async for batch in feed_out:
                    told.extend(type(event).__name__ for event in batch if isinstance(event, LinkUp | LinkDown))

        hub = user_hub(gateway, Ear())
        hub.listener.send = feed_in.send
        gateway.nursery.start_soon(hub.listen)
        await take(STABLE_S + 10)
        gateway.fault("refuse_hub", target="user", count=2)
        hub.listener.link.reconnect()
        await trio.sleep(60)
        await take(120)
        assert told == ["LinkUp", "LinkDown", "LinkDown", "LinkDown", "LinkUp"]


async def test_everything_wanted_is_subscribed_anew_on_the_next_connection(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        hub = market_hub(gateway, ear, MNQ, ES)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(STABLE_S + 1)
        gateway.fault("cut_hub", target="market")
        await trio.sleep(5)
        assert ear.quoted(since=trio.current_time() - 4) == {MNQ, ES}


async def test_a_market_hub_that_says_nothing_of_what_is_wanted_is_opened_anew(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        gateway.nursery.start_soon(market_hub(gateway, ear, MNQ).listen)
        await trio.sleep(STABLE_S)
        began = trio.current_time()
        gateway.fault("freeze_hub", target="market", duration_s=QUIET_MARKET_S + 1)
        await trio.sleep(QUIET_MARKET_S - 2)
        assert ear.links() == ["up"]
        await trio.sleep(5)
        assert ear.links() == ["up", "down", "up"]
        assert ear.times(LinkDown)[0] - began == pytest.approx(QUIET_MARKET_S, abs=0.5)
        assert ear.reasons() == [f"no quote for {QUIET_MARKET_S:.0f} s"]
        assert ear.quoted(since=began + QUIET_MARKET_S)


async def test_the_patience_doubles_while_it_stays_quiet_and_starts_over_with_a_quote(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        gateway.fault("freeze_hub", target="market")
        gateway.nursery.start_soon(market_hub(gateway, ear, MNQ).listen)
        await trio.sleep(HOUR)
        held = [down - up for up, down in zip(ear.times(LinkUp), ear.times(LinkDown), strict=False)]
        assert held[:5] == pytest.approx([60, 120, 240, 300, 300], abs=0.1)
        assert held[5:] == pytest.approx([QUIET_MARKET_MOST_S] * len(held[5:]), abs=0.1)
        assert len(held) > 10
        gateway.heal()
        await trio.sleep(QUIET_MARKET_MOST_S)
        gateway.fault("freeze_hub", target="market")
        began = trio.current_time()
        await trio.sleep(QUIET_MARKET_S + 1)
        assert ear.times(LinkDown)[-1] - began == pytest.approx(QUIET_MARKET_S, abs=0.5)


async def test_a_market_hub_may_be_quiet_for_ever_where_nothing_is_wanted(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway() as gateway:
        ear = Ear()
        gateway.nursery.start_soon(market_hub(gateway, ear).listen)
        await trio.sleep(HOUR)
        assert ear.links() == ["up"]


async def test_silence_is_noticed_of_a_contract_that_is_wanted_after_a_long_quiet(
    autojump_clock: trio.abc.Clock,
) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        hub = market_hub(gateway, ear)
        gateway.fault("freeze_hub", target="market", duration_s=HOUR + QUIET_MARKET_S + 1)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(HOUR)
        began = trio.current_time()
        hub.watch(frozenset({MNQ}))
        await trio.sleep(QUIET_MARKET_S + 5)
        assert ear.links() == ["up", "down", "up"]
        assert ear.times(LinkDown)[0] - began == pytest.approx(QUIET_MARKET_S, abs=0.1)
        assert ear.quoted() == {MNQ}


async def test_opening_and_closing_positions_does_not_hide_the_silence(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        hub = market_hub(gateway, ear, MNQ)
        gateway.fault("freeze_hub", target="market")
        gateway.nursery.start_soon(hub.listen)
        for _ in range(10):
            await trio.sleep(5)
            hub.watch(frozenset())
            await trio.sleep(5)
            hub.watch(frozenset({MNQ}))
        assert "down" in ear.links()


async def test_quotes_are_not_thrown_away_when_the_pipeline_takes_its_time(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        slow = False

        async def send(batch: Batch) -> None:
            if slow and not isinstance(batch[0], LinkDown):
                await trio.sleep(QUIET_MARKET_S + 5)
            await ear.send(batch)

        hub = market_hub(gateway, ear, MNQ)
        hub.listener.send = send
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(5)
        slow = True
        await trio.sleep(QUIET_MARKET_S - 1)
        slow = False
        await trio.sleep(30)
        assert ear.links() == ["up"]


async def test_a_contract_without_a_price_is_subscribed_anew_ever_more_slowly(autojump_clock: trio.abc.Clock) -> None:
    """Only the first quote after subscribing is full, and a market that is closed tells none at all."""
    async with open_gateway(Options.calm()) as gateway:
        asked: list[tuple[str, float]] = []
        hub = market_hub(gateway, Ear())

        async def serve(connection: HubConnection) -> None:
            invoke = connection.invoke

            async def noted(method: str, *arguments: object) -> object:
                asked.append((method, trio.current_time()))
                return await invoke(method, *arguments)

            connection.invoke = noted  # type: ignore[method-assign]
            await hub._serve(connection)

        gateway.nursery.start_soon(hub.listener.listen, serve)
        gateway.fault("freeze_hub", target="market")
        hub._patience_s = QUIET_MARKET_MOST_S
        await trio.sleep(1)
        hub.watch(frozenset({MNQ, ES}), frozenset({MNQ}))
        await trio.sleep(200)
        subscribed = [at for method, at in asked if method.startswith("Subscribe")][1:]
        assert [b - a for a, b in pairwise(subscribed)] == pytest.approx([3, 6, 12, 24, 48, 60], abs=0.1)
        assert len(asked) == 2 + 2 * 6, "and the one with a price is left alone"
        hub.watch(frozenset({MNQ, ES}), frozenset())
        asked.clear()
        await trio.sleep(60)
        assert not asked
        hub.watch(frozenset({MNQ, ES}), frozenset({MNQ}))
        await trio.sleep(12)
        subscribed = [at for method, at in asked if method.startswith("Subscribe")]
        assert [at - trio.current_time() + 12 for at in subscribed] == pytest.approx([0, 3, 9], abs=0.1)


async def test_a_contract_that_got_its_price_in_time_is_not_subscribed_anew(autojump_clock: trio.abc.Clock) -> None:
    async with open_gateway(LIVELY) as gateway:
        ear = Ear()
        hub = market_hub(gateway, ear)
        gateway.nursery.start_soon(hub.listen)
        await trio.sleep(1)
        hub.watch(frozenset({MNQ}), frozenset({MNQ}))
        await trio.sleep(PRICE_WITHIN_S - 1)
        full = [event for event in ear.events if isinstance(event, QuoteMoved) and event.last is not None]
        assert full
        hub.watch(frozenset({MNQ}), frozenset())
        began = trio.current_time()
        await trio.sleep(30)
        assert subscriptions(gateway) == {("GatewayQuote", MNQ)}
        assert len([at for at in ear.times(QuoteMoved) if at > began + PRICE_WITHIN_S]) > 10
