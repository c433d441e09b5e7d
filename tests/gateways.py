"""The service on a real socket, in a thread of its own, in front of a loopback upstream called `up`."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Self

import uvicorn
from openai import AsyncOpenAI, OpenAI
from openai_server import OpenAIServer
from released import make_store

from feedbackloop.gateway import create_app
from feedbackloop.improve.policy import promote
from feedbackloop.models import Policy, Variant
from feedbackloop.settings import Limits, Price, ProviderSettings, Settings
from feedbackloop.store import Store

TERSE = Variant(name="terse", model="up:small", prompt="In one sentence: {{ input }}")
STEPS = Variant(
    name="steps",
    model="up:large",
    prompt=[{"role": "system", "content": "Think."}, {"role": "user", "content": "{{ input }}"}],
)


class Gateway:
    """`with Gateway(folder) as gateway:`; afterwards everything that was answered is in `gateway.store`."""

    def __init__(
        self, folder: Path, *more: Variant, key: str | None = None, limits: Limits | None = None, **options: Any
    ) -> None:
        self.up = OpenAIServer(**options)
        self.store: Store = make_store(folder / "loop.duckdb", TERSE, STEPS, *more)
        self.key = key
        self.limits = limits or Limits(retries=0, timeout_s=5)

    def __enter__(self) -> Self:
        self.up.__enter__()
        settings = Settings(
            providers={"up": ProviderSettings(base_url=self.up.url)},
            prices={"up:small": Price(input_per_million=100, output_per_million=100)},
            limits=self.limits,
        )
        self.app = create_app(self.store, settings, key=self.key)
        config = uvicorn.Config(self.app, port=0, log_level="error", timeout_graceful_shutdown=5)
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until = time.monotonic() + 10
        while not self.server.started:
            assert time.monotonic() < until
            assert self.thread.is_alive()
            time.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.up.__exit__()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Drain and store, as SIGTERM does."""
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()

    def promote(self, variant: str, **options: Any) -> Policy:
        """Promote for the task `support`, and have the service look at once instead of in a second."""
        policy = promote(self.store, "support", variant, **options)
        self.look()
        return policy

    def look(self) -> None:
        self.app.state.service.router._read_at = -1e9

    def client(self, **options: Any) -> OpenAI:
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.key or "none", max_retries=0, **options)

    def async_client(self, **options: Any) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.key or "none", max_retries=0, **options)

    def rows(self) -> list[dict[str, Any]]:
        """Requests with their responses, oldest first, once the service has stopped."""
        self.stop()
        frame = self.store.sql(
            "SELECT q.model AS asked, q.task, q.variant_id, q.user_id, q.propensities, q.messages, q.params, q.metadata, p.* "
            "FROM responses p JOIN requests q ON q.id = p.request_id ORDER BY q.created_at"
        )
        return frame.to_dict("records")
