"""Observers that are told of requests some together, after them."""

import asyncio

import pytest

from serving.exchange import Exchange
from serving.gathering import AT_A_TIME, Gathering
from serving.observer import Observer
from tests.inference.serving import until
from tests.serving.doors import Ends


class Failing(Observer):
    def ended(self, exchange: Exchange) -> None:
        raise ValueError("no disk")


async def end(gathering: Gathering, count: int) -> None:
    for number in range(count):
        gathering.ended(Exchange("v1", str(number)))
    await asyncio.sleep(0)


def test_all_are_told_of_in_order_though_one_observer_fails(caplog: pytest.LogCaptureFixture) -> None:
    async def ask() -> None:
        ends, count = Ends(), 2 * AT_A_TIME + 1
        gathering = Gathering([Failing(), ends])
        await end(gathering, count)
        assert ends.exchanges == [], "not within the requests"
        await until(lambda: len(ends.exchanges) == count)
        assert [int(one.model) for one in ends.exchanges] == list(range(count))
        assert all(one.written > 0 for one in ends.exchanges)
        assert "Failing was not told of a request" in caplog.text

    asyncio.run(ask())


def test_who_asks_or_closes_is_told_of_all_at_once() -> None:
    async def ask() -> None:
        ends = Ends()
        gathering = Gathering([ends])
        await end(gathering, 2 * AT_A_TIME)
        gathering.flush()
        assert len(ends.exchanges) == 2 * AT_A_TIME
        await end(gathering, 1)
        gathering.close()
        assert len(ends.exchanges) == 2 * AT_A_TIME + 1

    asyncio.run(ask())
