import asyncio
import threading
import time

import pytest

import mqshm


def test_a_task_receives_what_comes_later(broker):
    async def main():
        sub = broker.subscribe("a")
        task = asyncio.create_task(sub.receive_async(timeout=10.0))
        await asyncio.sleep(0.05)
        broker.publish("a", b"x")
        assert (await task).data == b"x"

    asyncio.run(main())


def test_the_loop_goes_on_while_a_task_waits(broker):
    async def main():
        sub = broker.subscribe("a")
        task = asyncio.create_task(sub.receive_async())
        for _ in range(10):
            await asyncio.sleep(0.005)
        broker.publish("a", b"x")
        assert (await task).data == b"x"

    asyncio.run(main())


def test_a_receive_returns_nothing_after_its_timeout(broker):
    async def main():
        sub = broker.subscribe("a")
        start = time.monotonic()
        assert await sub.receive_async(timeout=0.05) is None
        assert 0.04 < time.monotonic() - start < 5

    asyncio.run(main())


def test_a_loop_over_a_subscription_ends_when_it_is_closed(broker):
    async def main():
        sub = broker.subscribe("a", group="g")
        broker.publish_batch("a", [bytes([n]) for n in range(5)])
        got = []
        async for message in sub:
            with message:
                got.append(message.data)
            if len(got) == 5:
                asyncio.get_running_loop().call_later(0.05, sub.close)
        assert got == [bytes([n]) for n in range(5)]

    asyncio.run(asyncio.wait_for(main(), 20.0))


def test_many_tasks_share_what_comes_and_none_is_lost(broker):
    async def main():
        sub = broker.subscribe("a", buffer_size=1000)
        got = []

        async def consume():
            while (message := await sub.receive_async(timeout=1.0)) is not None:
                got.append(int(message.data))

        tasks = [asyncio.create_task(consume()) for _ in range(20)]
        for n in range(500):
            await broker.publish_async("a", str(n))
            if n % 50 == 0:
                await asyncio.sleep(0.001)
        await asyncio.gather(*tasks)
        assert sorted(got) == list(range(500))

    asyncio.run(main())


def test_a_cancelled_receive_has_taken_no_message(broker):
    async def main():
        sub = broker.subscribe("a", buffer_size=1000)
        for n in range(100):
            task = asyncio.create_task(sub.receive_async())
            await asyncio.sleep(0)
            broker.publish("a", str(n))
            await asyncio.sleep(0.0003 * (n % 4))
            task.cancel()
            try:
                message = await task
            except asyncio.CancelledError:
                message = await sub.receive_async(timeout=5.0)
            assert int(message.data) == n

    asyncio.run(main())


def test_several_subscriptions_are_waited_for_by_one_thread(broker):
    async def main():
        subs = [broker.subscribe(f"a.{n}") for n in range(30)]
        before = threading.active_count()
        tasks = [asyncio.create_task(sub.receive_async(timeout=10.0)) for sub in subs]
        await asyncio.sleep(0.05)
        assert threading.active_count() == before + 1
        for n in reversed(range(30)):
            broker.publish(f"a.{n}", str(n))
        assert [int((await task).data) for task in tasks] == list(range(30))

    asyncio.run(main())


def test_one_loop_after_another_works(broker):
    sub = broker.subscribe("a")
    for n in range(3):
        threading.Timer(0.05, broker.publish, ("a", str(n))).start()
        assert asyncio.run(sub.receive_async(timeout=10.0)).data == str(n).encode()


def test_a_publish_waits_for_room_and_the_loop_goes_on(broker):
    async def main():
        sub = broker.subscribe("a", buffer_size=1)
        await broker.publish_async("a", b"1")
        with pytest.raises(mqshm.QueueFull):
            await broker.publish_async("a", b"2", timeout=0.05)
        task = asyncio.create_task(broker.publish_async("a", b"2", priority=40))
        await asyncio.sleep(0.05)
        assert not task.done()
        assert sub.receive_nowait().data == b"1"
        assert isinstance(await asyncio.wait_for(task, 10.0), int)
        assert sub.receive_nowait().data == b"2"

    asyncio.run(main())


def test_a_publish_to_a_subscription_that_rejects_does_not_wait(broker):
    async def main():
        broker.subscribe("a", buffer_size=1, overflow="reject", group="g")
        await broker.publish_async("a", b"1")
        with pytest.raises(mqshm.QueueFull):
            await broker.publish_async("a", b"2")

    asyncio.run(asyncio.wait_for(main(), 10.0))


def test_closing_the_broker_ends_a_task_that_waits(name):
    async def main():
        broker = mqshm.connect(name)
        sub = broker.subscribe("a")
        task = asyncio.create_task(sub.receive_async())
        await asyncio.sleep(0.05)
        broker.close()
        with pytest.raises((mqshm.BrokerClosed, mqshm.SubscriptionClosed)):
            await asyncio.wait_for(task, 10.0)

    asyncio.run(main())
