"""Logins and accounts as a world begins with them, and those that are there unless a scenario says otherwise."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen


@frozen(kw_only=True)
class AccountSetup:
    """An account at the start.

    Money in US dollars; ``max_minis`` is the firm's position limit, ten micros counting as one mini, and ``floor`` the
    balance at which nothing may be opened any more; None for none.

    ``liquidates``: at the floor, open profit and loss included, the firm also cancels and closes everything and locks
    the account. ``follower``: it copies another, so that the API cannot cancel its orders. ``protect_stop_ticks`` and
    ``protect_target_ticks``: the account is set to Position Brackets, and the platform attaches orders at these
    distances to each position.
    """

    id: int
    name: str
    balance: Decimal
    can_trade: bool = True
    visible: bool = True
    simulated: bool = True
    max_minis: Decimal | None = None
    floor: Decimal | None = None
    liquidates: bool = False
    follower: bool = False
    protect_stop_ticks: int | None = None
    protect_target_ticks: int | None = None

    @property
    def protection(self) -> tuple[int | None, int | None] | None:
        """Distances of the stop and the target that the platform attaches; None where it attaches nothing."""
        ticks = (self.protect_stop_ticks, self.protect_target_ticks)
        return None if ticks == (None, None) else ticks


@frozen(kw_only=True)
class UserSetup:
    """A login and its accounts. Without an ``api_key`` it gets one that follows from the seed.

    ``password`` is for loginApp; without one that way in is closed. The rest are reasons for which a login with a good
    key is refused: agreements unsigned (7), no API subscription (9), logins by key disabled by the firm (10).
    """

    user_name: str
    accounts: tuple[AccountSetup, ...]
    api_key: str = ""
    password: str = ""
    agreements_signed: bool = True
    subscribed: bool = True
    key_login: bool = True


DEFAULT_ACCOUNTS = (
    AccountSetup(
        id=25700001,
        name="50KTC-V2-600001-97000001",
        balance=Decimal(50000),
        max_minis=Decimal(5),
        floor=Decimal(48000),
    ),
    AccountSetup(
        id=26200002,
        name="PRAC-V2-600001-47000001",
        balance=Decimal(150000),
        max_minis=Decimal(15),
        floor=Decimal(145500),
    ),
    AccountSetup(
        id=27300003,
        name="EXPRESS-V2-600001-31000001",
        balance=Decimal(0),
        max_minis=Decimal(2),
        floor=Decimal(-2000),
    ),
)


DEFAULT_USERS = (UserSetup(user_name="trader1", accounts=DEFAULT_ACCOUNTS),)
