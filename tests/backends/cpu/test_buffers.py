"""Memory that is used again."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor

import openrnn
from openrnn.backends.cpu import buffers
from openrnn.backends.cpu.buffers import LARGE, Buffers

from .scripts import run

ROWS, COLUMNS = 1024, LARGE // 1024  # of a float32 matrix that is large


def empty(pool: Buffers, rows: int = ROWS) -> Tensor:
    return pool.empty(rows, COLUMNS, torch.float32)


def test_what_is_freed_is_handed_out_again() -> None:
    pool = Buffers()
    first = empty(pool)
    place = first.data_ptr()
    view = first[3:]  # holds the memory as well
    del first
    other = empty(pool)
    assert other.data_ptr() != place
    del view
    assert empty(pool).data_ptr() == place


def test_sizes_that_differ_little_share() -> None:
    pool = Buffers()
    first = empty(pool, 1000)
    place = first.data_ptr()
    del first
    second = empty(pool, 1010)
    assert second.data_ptr() == place
    assert second.shape == (1010, COLUMNS)


def test_no_more_is_held_than_was_in_use_at_once() -> None:
    pool = Buffers()
    for rows in range(ROWS, 20 * ROWS, ROWS):
        empty(pool, rows)
        assert pool._in_use == 0
        assert pool._held == sum(map(len, pool._free)) <= pool._most
    assert pool._held == pool._most  # the largest alone
    both = [empty(pool), empty(pool)]
    assert pool._in_use + pool._held <= pool._most
    del both


def test_memory_is_poisoned_as_all_is() -> None:
    pool = Buffers()
    empty(pool).fill_(1.0)
    assert empty(pool).isnan().all()


def test_small_memory_is_torchs_own() -> None:
    assert buffers.empty(2, 3, torch.float64).untyped_storage().resizable()


def test_training_uses_its_memory_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Buffers()
    monkeypatch.setattr(buffers, "_BUFFERS", pool)
    layer = openrnn.LSTM(8, 64, backend="cpu")
    x = torch.randn(300, 64, 8)
    expected = None
    for _ in range(3):
        layer.zero_grad()
        layer(x)[0].square().sum().backward()
        found = [p.grad.clone() for p in layer.parameters() if p.grad is not None]
        assert pool._in_use == 0
        assert pool._held > 0
        blocks = set(map(id, pool._free))
        if expected is None:
            expected, first = found, blocks
        assert blocks == first
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_threads_free_what_others_took() -> None:
    pool = Buffers()
    taken: list[Any] = [empty(pool) for _ in range(40)]

    def work() -> None:
        for _ in range(20):
            taken.pop()
            empty(pool).fill_(1.0)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert pool._in_use == 0
    assert pool._held == sum(map(len, pool._free)) <= pool._most


def test_a_forked_child_has_its_own() -> None:
    """While another thread holds the lock, which the child would wait for in vain."""
    script = """
import os, signal, threading, torch
from openrnn.backends.cpu import buffers
tensor = buffers.empty(1024, 1024, torch.float32).fill_(1.0)
held, done = threading.Event(), threading.Event()
def hold():
    with buffers._BUFFERS._lock:
        held.set()
        done.wait()
other = threading.Thread(target=hold)
other.start()
held.wait()
child = os.fork()
if child == 0:
    signal.alarm(20)
    torch.set_num_threads(1)
    buffers.empty(1024, 1024, torch.float32).fill_(2.0)
    tensor.fill_(3.0)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), bool((tensor == 1).all()))
done.set()
other.join()
"""
    assert run(script)[0] == "0 True"


def test_a_system_that_takes_no_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    for advice in ("_HUGE_PAGES", "_MAY_TAKE"):
        monkeypatch.setattr(buffers, advice, 12345)
    monkeypatch.setattr(buffers, "_KEPT", 0)
    pool = Buffers()
    place = empty(pool).fill_(1.0).data_ptr()
    assert pool._in_use == 0
    assert empty(pool).data_ptr() == place


def test_the_system_may_take_what_is_much(monkeypatch: pytest.MonkeyPatch) -> None:
    lent = list[int]()

    def advise(block: Any, advice: int | None, size: int) -> None:
        if advice == buffers._MAY_TAKE:
            lent.append(size)

    monkeypatch.setattr(buffers, "_advise", advise)
    pool = Buffers()
    blocks = [empty(pool) for _ in range(3)]
    monkeypatch.setattr(buffers, "_KEPT", 8 * LARGE)
    while blocks:
        assert not lent
        blocks.pop()
    assert lent == [4 * LARGE]


def test_a_block_goes_with_its_pool() -> None:
    pool = Buffers()
    tensor = empty(pool)
    seen = weakref.ref(pool)
    del tensor, pool
    gc.collect()
    assert seen() is None
