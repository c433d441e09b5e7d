"""Several processes of the service on one shared store."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest
from openai_server import OpenAIServer
from released import STEPS, TERSE, fill
from streamlit.testing.v1 import AppTest

from feedbackloop.improve.policy import promote
from feedbackloop.pages import context
from feedbackloop.store import Store

pytest.importorskip("postgres_server", reason="the store in Postgres comes with another part")

ROOT = Path(__file__).parents[1]
HI = [{"role": "user", "content": "hi"}]


class Service:
    """`feedbackloop serve` in a process of its own."""

    def __init__(self, folder: Path, store: str) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "FEEDBACKLOOP_STORE": store, "FEEDBACKLOOP_REPLICAS": "2"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "feedbackloop", "serve", "--port", "0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env=environment,
        )

    def ready(self) -> str:
        """Its address, once it answers."""
        for line in self.process.stdout:
            if "running on" in line:
                return next(word for word in line.split() if word.startswith("http")) + "/v1"
        raise AssertionError("it did not start")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=30)


def release_in_app() -> float:
    """Release the one candidate on the page Decide, as a person does; returns when."""
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    app.switch_page(str(context.PAGES["decide"].path)).run()
    next(one for one in app.button if "Release …" in one.label).click().run()
    next(one for one in app.button if one.key == "release-now").click()
    pressed = time.monotonic()
    app.run()
    assert not app.exception
    return pressed


async def test_two_services_obey_a_promotion_and_store_everything(tmp_path, postgres_url, record_property, monkeypatch):
    monkeypatch.setenv("FEEDBACKLOOP_STORE", postgres_url)
    monkeypatch.chdir(tmp_path)
    store = Store(postgres_url)
    fill(store, [TERSE, STEPS])
    promote(store, "support", "terse")
    with OpenAIServer(keep=False) as up:
        (tmp_path / "feedbackloop.toml").write_text(f'[providers.up]\nbase_url = "{up.url}"\n')
        services = [Service(tmp_path, postgres_url) for _ in range(2)]
        try:
            clients = [openai.AsyncOpenAI(base_url=one.ready(), api_key="none", max_retries=0) for one in services]
            answers = []

            async def ask(client):
                raw = await client.chat.completions.with_raw_response.create(model="support", messages=HI, user="u1")
                answers.append(raw.parse().id)
                return raw.headers["x-feedbackloop-variant"]

            assert [await ask(client) for client in clients] == [TERSE.label] * 2
            promoted = await asyncio.to_thread(release_in_app)
            while [await ask(client) for client in clients] != [STEPS.label] * 2:
                assert time.monotonic() - promoted < 30
                await asyncio.sleep(0.1)
            record_property("seconds", time.monotonic() - promoted)
            await asyncio.gather(*(ask(client) for client in clients for _ in range(30)))
            # What one of them answered, the other takes feedback on.
            await clients[1].post("/feedback", body={"id": answers[0], "thumbs": "down"}, cast_to=object)
            for client in clients:
                await client.close()
        finally:
            for one in services:
                one.stop()
        assert set(store.sql("SELECT id FROM responses")["id"]) == set(answers)
        assert store.sql("SELECT rater, value FROM ratings").to_dict("records") == [{"rater": "u1", "value": 0.0}]
