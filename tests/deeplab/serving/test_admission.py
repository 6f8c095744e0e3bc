"""What running requests share; `test_app.py` sends images and refuses those that are too large."""

import asyncio

import pytest

from deeplab.serving.admission import Budget


def test_a_budget_is_shared():
    async def use():
        budget, order = Budget(10), []

        async def take(name, amount):
            async with budget.taken(amount):
                order.append(name)
                await asyncio.sleep(0)
                order.append(-name)

        await asyncio.gather(take(1, 6), take(2, 6), take(3, 4))
        with pytest.raises(TimeoutError):
            async with budget.taken(10), asyncio.timeout(0.01):
                await budget.take(1)
        await budget.take(10)  # what was given up is not taken
        return order

    assert asyncio.run(use()) == [1, 3, -1, -3, 2, -2]
