"""Coroutines among the tests of this folder, also of suites of others, run in pytest-asyncio where it is installed."""

import inspect

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Collector, obj: object) -> None:
    """Mark coroutines as asyncio's: its own mode "auto" would be an option of the whole run."""
    if inspect.iscoroutinefunction(obj) and collector.config.pluginmanager.hasplugin("asyncio"):
        marks = getattr(obj, "pytestmark", [])
        if all(mark.name != "asyncio" for mark in marks):
            pytest.mark.asyncio(obj)
