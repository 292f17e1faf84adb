"""A real Chromium without a window, driven by its DevTools protocol."""

import asyncio
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
PORT = "DevToolsActivePort"


class Tab:
    """One page, and every address that it asked for."""

    def __init__(self, line: aiohttp.ClientWebSocketResponse) -> None:
        self._line, self._numbers = line, count(1)
        self.asked: list[str] = []

    async def call(self, method: str, **params: Any) -> Any:
        """What a method of the protocol returns."""
        number = next(self._numbers)
        await self._line.send_json({"id": number, "method": method, "params": params})
        while True:
            told = await self._line.receive_json(timeout=30)
            if told.get("method") == "Network.requestWillBeSent":
                self.asked.append(told["params"]["request"]["url"])
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]

    async def run(self, script: str) -> Any:
        """What an expression of JavaScript gives, awaited if it is a promise."""
        told = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, script: str, seconds: float = 30.0) -> Any:
        """What the expression gives once that is true."""
        async with asyncio.timeout(seconds):
            while not (found := await self.run(script)):
                await asyncio.sleep(0.1)
            return found


def browse(url: str, folder: Path, do: Callable[[Tab], Awaitable[None]]) -> list[str]:
    """Have `do` use the page at `url`; the addresses that were asked for meanwhile."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("no Chromium here; install Debian's chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    command = [program, *options, f"--user-data-dir={folder}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            return asyncio.run(_browse(url, folder, do))
        finally:
            process.kill()


async def _browse(url: str, folder: Path, do: Callable[[Tab], Awaitable[None]]) -> list[str]:
    async with asyncio.timeout(30):
        while not (folder / PORT).is_file() or not (folder / PORT).read_text().strip():
            await asyncio.sleep(0.1)
    port = (folder / PORT).read_text().split()[0]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            pages = [one for one in await answer.json() if one["type"] == "page"]
        async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as line:
            tab = Tab(line)
            await tab.call("Network.enable")
            await tab.call("Page.navigate", url=url)
            await tab.until("document.readyState === 'complete'")
            await do(tab)
            return tab.asked
