"""Freed memory stays with the process, where the C library can be told."""

import ctypes
import sys

from savi.replicas.memory import keep_freed_memory


def test_it_may_be_called_anywhere_and_again(monkeypatch):
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    keep_freed_memory()
    keep_freed_memory.cache_clear()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())  # such as musl's
    keep_freed_memory()
    told = []

    class Library:
        @staticmethod
        def mallopt(option: int, value: int) -> None:
            told.append((option, value))

    keep_freed_memory.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    keep_freed_memory()
    keep_freed_memory()
    assert sorted(option for option, _ in told) == [-3, -1]
    assert all(value > 0 for _, value in told)
