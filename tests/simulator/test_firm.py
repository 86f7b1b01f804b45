"""What the firm and its platform do by themselves: bust trades, liquidate, protect positions, begin accounts anew."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve

from flatguard.errors import InvalidSettings
from flatguard.simulator import Options, UserSetup, World
from flatguard.simulator.scenario import load_scenario
from flatguard.simulator.setup import DEFAULT_ACCOUNTS
from tests.fakes.gateway_client import Hub
from tests.simulator.conftest import BUY, COMBINE, LIMIT, MNQ, PRACTICE, SELL, START, STOP, System, running

FAR = {"startTimestamp": "2020-01-01T00:00:00Z"}


def world(**account: Any) -> World:
    """Return a calm world whose first account is set up unlike the rest."""
    first, *others = DEFAULT_ACCOUNTS
    users = (UserSetup(user_name="trader1", accounts=(evolve(first, **account), *others)),)
    return World(seed=1, start=START, options=Options.calm(), users=users)


async def orders(system: System) -> list[dict[str, Any]]:
    return (await system.rest("Order/v2/query", filter={"accountId": COMBINE}))["orders"]


async def working(system: System) -> list[tuple[int, int, Any]]:
    """Return type, size and price of each order that works."""
    rows = (await system.rest("Order/searchOpen", accountId=COMBINE))["orders"]
    return [(row["type"], row["size"], row["limitPrice"] or row["stopPrice"]) for row in rows]


async def trades(system: System) -> list[dict[str, Any]]:
    return (await system.rest("Trade/search", accountId=COMBINE, **FAR))["trades"]


def told(hub: Hub, name: str) -> list[dict[str, Any]]:
    return [arguments[0]["data"] for _, arguments in hub.events(name)]


async def test_an_attached_order_that_fills_in_parts_opens_nothing_either(autojump_clock: object) -> None:
    attached = world(protect_target_ticks=8)
    quick = attached.options.but(execution_ms=(1, 1), part_ms=10)
    async with running(World(seed=1, start=START, options=quick, users=list(attached.users.values()))) as system:
        await system.place(size=4)
        await trio.sleep(1)
        await system.rest.sim("faults", name="partial_fills", count=1)
        await system.move(Decimal("25002.25"))
        assert system.world.position(COMBINE, MNQ) == 2, "the first part of the target"
        await system.place(SELL, 2)
        await trio.sleep(1)
        assert (system.world.position(COMBINE, MNQ), await working(system)) == (0, [])


# --- busted trades ---


async def test_a_busted_closing_trade_takes_its_profit_with_it_and_gives_the_position_back(
    calm: System, autojump_clock: object
) -> None:
    await calm.place(size=2)
    await calm.move(25010)
    await calm.place(SELL, 2)
    closing, _ = await trades(calm)
    await trio.sleep(1)
    async with calm.user_hub() as hub:
        row = await calm.rest.sim("void", tradeId=closing["id"])
        assert (row["id"], row["voided"], row["profitAndLoss"]) == (closing["id"], True, 38)
        assert await calm.rest.sim("void", tradeId=closing["id"]) == row, "once is enough"
        await trio.sleep(1)
    assert [trade["voided"] for trade in await trades(calm)] == [True, False]
    assert calm.world.account(COMBINE).balance == Decimal(50000) - 2 * Decimal("0.61")
    (position,) = (await calm.rest("Position/searchOpen", accountId=COMBINE))["positions"]
    assert (position["type"], position["size"], position["averagePrice"]) == (1, 2, Decimal("25000.25"))
    assert [len(told(hub, f"GatewayUser{name}")) for name in ("Trade", "Position", "Account")] == [1, 1, 1]
    await calm.place(SELL, 2)
    assert calm.world.position(COMBINE, MNQ) == 0


async def test_a_busted_addition_leaves_the_average_of_the_rest(calm: System, autojump_clock: object) -> None:
    await calm.place(size=1)
    await calm.move(25010)
    await calm.place(size=3)
    newest, _ = await trades(calm)
    await calm.rest.sim("void", tradeId=newest["id"])
    (position,) = (await calm.rest("Position/searchOpen", accountId=COMBINE))["positions"]
    assert (position["size"], position["averagePrice"]) == (1, Decimal("25000.25"))
    response = await calm.rest.http.post("/sim/void", json={"tradeId": 1})
    assert (response.status_code, response.json()) == (400, {"error": "tradeId: there is no trade 1"})


# --- the firm's own liquidation ---


async def test_at_the_floor_the_firm_locks_cancels_and_closes_by_ordinary_orders(autojump_clock: object) -> None:
    async with running(world(liquidates=True)) as system, system.user_hub() as hub:
        await system.place(size=20)
        await system.place(kind=LIMIT, limitPrice=24900)
        await system.move(Decimal("24950.75"))
        assert system.world.account(COMBINE).can_trade, "1,992.20 below the start, costs included"
        await system.move(Decimal("24950.25"))
        await trio.sleep(5)
        assert system.world.position(COMBINE, MNQ) == 0
        rows = await orders(system)
        assert [row["status"] for row in rows] == [2, 3, 2]
        assert (rows[-1]["type"], rows[-1]["customTag"], rows[-1]["size"]) == (2, None, 20)
        assert told(hub, "GatewayUserAccount")[-1]["canTrade"] is False
        assert (await system.place())["errorCode"] == 10
        active = (await system.rest("Account/search", onlyActiveAccounts=True))["accounts"]
        assert COMBINE not in [row["id"] for row in active]


async def test_a_balance_put_below_the_floor_locks_as_a_loss_would(autojump_clock: object) -> None:
    async with running(world(liquidates=True)) as system:
        await system.place(size=2)
        row = await system.rest.sim("account", accountId=COMBINE, balance=48000.25)
        assert row["canTrade"] is False, "the spread is below"
        await trio.sleep(1)
        assert system.world.position(COMBINE, MNQ) == 0


async def test_without_that_rule_the_floor_closes_nothing(calm: System, autojump_clock: object) -> None:
    await calm.place(size=20)
    await calm.move(24900)
    await trio.sleep(5)
    assert (calm.world.position(COMBINE, MNQ), calm.world.account(COMBINE).can_trade) == (20, True)


# --- Position Brackets ---

PROTECTED = {"protect_stop_ticks": 40, "protect_target_ticks": 80}


async def test_the_platform_attaches_orders_without_parent_or_tag_to_a_position(autojump_clock: object) -> None:
    async with running(world(**PROTECTED)) as system:
        await system.place(size=2)
        await trio.sleep(1)
        assert await working(system) == [(STOP, 2, Decimal("24990.25")), (LIMIT, 2, Decimal("25020.25"))]
        rows = (await orders(system))[1:]
        assert all(row["customTag"] is None and "parentOrderId" not in row for row in rows)
        await system.place(SELL, 1)
        await trio.sleep(1)
        assert await working(system) == [(STOP, 1, Decimal("24990.25")), (LIMIT, 1, Decimal("25020.25"))]
        await system.place(SELL, 2)
        await trio.sleep(1)
        assert await working(system) == [(STOP, 1, Decimal("25009.75")), (LIMIT, 1, Decimal("24979.75"))]
        await system.rest("Position/closeContract", accountId=COMBINE, contractId=MNQ)
        await trio.sleep(1)
        assert await working(system) == []


async def test_when_one_attached_order_fills_the_other_goes(autojump_clock: object) -> None:
    async with running(world(**PROTECTED)) as system:
        await system.place(size=2)
        await trio.sleep(1)
        await system.move(25021)
        await system.move(24980)
        await trio.sleep(1)
        assert ([row["status"] for row in await orders(system)], await working(system)) == ([2, 3, 2], [])
        assert system.world.position(COMBINE, MNQ) == 0


async def test_an_account_with_position_brackets_refuses_brackets_of_orders(autojump_clock: object) -> None:
    async with running(world(**PROTECTED)) as system:
        answer = await system.place(stopLossBracket={"ticks": -10, "type": 4})
        assert answer["errorMessage"].startswith("Brackets cannot be used with Position Brackets.")
        assert (await system.place(accountId=PRACTICE, stopLossBracket={"ticks": -10, "type": 4}))["success"]


# --- accounts ---


@pytest.mark.parametrize(
    ("account", "text"),
    [
        ({"follower": True}, "Follower accounts cannot cancel orders"),
        ({"simulated": False}, "Live accounts not supported"),
    ],
)
async def test_orders_of_followers_and_of_live_accounts_cannot_be_cancelled(
    autojump_clock: object, account: dict[str, bool], text: str
) -> None:
    async with running(world(**account)) as system:
        placed = await system.place(BUY, kind=LIMIT, limitPrice=24900)
        answer = await system.rest("Order/cancel", accountId=COMBINE, orderId=placed["orderId"])
        assert (answer["errorCode"], answer["errorMessage"]) == (6, text)
        assert len(await working(system)) == 1


async def test_an_account_that_begins_anew_has_a_new_id_and_the_old_one_is_dead_and_hidden(
    calm: System, autojump_clock: object
) -> None:
    async with calm.user_hub() as hub:
        await calm.place()
        row = await calm.rest.sim("restart", accountId=COMBINE)
        assert row["id"] not in {COMBINE, PRACTICE}
        assert (row["balance"], row["canTrade"]) == (50000, True)
        assert row["name"].startswith("50KTC-V2-600001-"), "the kind of account is in its name"
        await trio.sleep(1)
        assert {account["id"]: account["canTrade"] for account in told(hub, "GatewayUserAccount")} == {
            COMBINE: False,
            row["id"]: True,
        }
    rows = (await calm.rest("Account/search", onlyActiveAccounts=False))["accounts"]
    assert [(r["canTrade"], r["isVisible"]) for r in rows if r["id"] == COMBINE] == [(False, False)]
    assert (await calm.place(accountId=row["id"]))["success"]
    assert (await calm.place())["errorCode"] == 10


def test_a_scenario_file_sets_up_logins_and_accounts_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    account = 'id = 1\nname = "A"\nbalance = "100"\n'
    user = '[[users]]\nuser_name = "me"\npassword = "p"\nsubscribed = false\n[[users.accounts]]\n' + account
    path.write_text(user + "floor = 50\nliquidates = true\nfollower = true\nprotect_stop_ticks = 8\n")
    (me,) = load_scenario(path).users or ()
    assert (me.password, me.subscribed, me.agreements_signed, me.key_login) == ("p", False, True, True)
    (first,) = me.accounts
    assert (first.liquidates, first.follower, first.protection) == (True, True, (8, None))
    path.write_text(user + "protect_stop_ticks = 0\n[[faults]]\nat_s = 1\nname = 'cut_hub'\ntarget = 'users'\n")
    with pytest.raises(InvalidSettings) as caught:
        load_scenario(path)
    assert "users[0].accounts[0].protect_stop_ticks: must be from 1 to 1000 ticks" in str(caught.value)
    assert "faults[0].target: cut_hub meets user or market; 'users' is none" in str(caught.value)


async def test_the_platforms_own_button_cancels_and_closes_everything(calm: System, autojump_clock: object) -> None:
    await calm.place(size=2, stopLossBracket={"ticks": -10, "type": 4})
    await calm.place(kind=LIMIT, limitPrice=24900)
    _, stop, limit = [row["id"] for row in await orders(calm)]
    done = await calm.rest.sim("flatten", accountId=COMBINE)
    assert done == {"cancelled": [stop, limit], "closing": [MNQ], "left": []}
    await trio.sleep(1)
    assert (calm.world.position(COMBINE, MNQ), await working(calm)) == (0, [])
    assert [row["status"] for row in await orders(calm)] == [2, 3, 3, 2]
    assert calm.world.account(COMBINE).can_trade


FRIDAY = datetime(2026, 11, 20, 21, 50, tzinfo=UTC)
"""15:50 in Chicago; the week ends at 16:00."""


async def test_while_the_exchange_pauses_nothing_trades_by_hand_either(autojump_clock: object) -> None:
    options = Options.calm().but(sessions=True)
    async with running(World(seed=1, start=FRIDAY, options=options)) as system:
        await system.place(size=2)
        await system.place(SELL, kind=STOP, stopPrice=24900)
        resting = await system.place(kind=LIMIT, limitPrice=24950)
        await system.rest.sim("clock", advance_s=12 * 60)
        answer = await system.rest.sim("price", contractId="MNQ", price=24890)
        assert (answer["price"], answer["held"], answer["traded"]) == (24890, True, False)
        await system.rest.sim("cancel", accountId=COMBINE, orderId=resting["orderId"])
        await trio.sleep(60)
        assert (system.world.position(COMBINE, MNQ), len(await trades(system))) == (2, 1)
        await system.rest.sim("clock", advance_s=49 * 3600)  # Sunday, 17:03
        await system.rest.login("trader1", system.world.users["trader1"].api_key)
        await trio.sleep(1)
        assert system.world.position(COMBINE, MNQ) == 1, "the stop fills at the opening"
        await system.rest.sim("clock", advance_s=23 * 3600)
        await system.rest.login("trader1", system.world.users["trader1"].api_key)
        done = await system.rest.sim("flatten", accountId=COMBINE)
        assert (done["closing"], done["left"]) == ([], [MNQ])
        await trio.sleep(60)
        assert system.world.position(COMBINE, MNQ) == 1


async def test_what_the_firm_cannot_close_in_a_pause_it_closes_at_the_opening(autojump_clock: object) -> None:
    users = (UserSetup(user_name="trader1", accounts=(evolve(DEFAULT_ACCOUNTS[0], liquidates=True),)),)
    options = Options.calm().but(sessions=True)
    async with running(World(seed=1, start=FRIDAY, options=options, users=users)) as system:
        await system.place()
        await trio.sleep(6 * 60)
        await system.rest.sim("account", accountId=COMBINE, balance=40000)
        await trio.sleep(48 * 3600)
        assert system.world.position(COMBINE, MNQ) == 1
        await trio.sleep(2 * 3600)
        assert (system.world.position(COMBINE, MNQ), system.world.account(COMBINE).can_trade) == (0, False)


async def test_in_a_month_that_has_expired_nothing_trades_by_hand_either(autojump_clock: object) -> None:
    expires = datetime(2026, 12, 18, 21, tzinfo=UTC)
    options = Options.calm().but(month_roll=True)
    async with running(World(seed=1, start=expires, options=options)) as system:
        assert (await system.place())["success"]
        await system.rest.sim("clock", advance_s=3600)
        assert (await system.rest.sim("price", contractId=MNQ, price=24000))["traded"] is False
        assert (await system.rest.sim("flatten", accountId=COMBINE))["left"] == [MNQ]
        await trio.sleep(60)
        assert (system.world.position(COMBINE, MNQ), len(await trades(system))) == (1, 1)
