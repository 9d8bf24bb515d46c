"""The program of test_servers.py: a web service with a database, a client of itself, and threads.

Nothing in it knows of Afterglow; the contrib instrumentations instrument it from outside.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry import trace
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

app = FastAPI()
engine = create_engine("sqlite:///" + os.environ["SHOP_DATABASE"], poolclass=NullPool)
pool = ThreadPoolExecutor(4)
tracer = trace.get_tracer("shop")


def queried(number: int) -> Any:
    with engine.connect() as connection:
        return connection.execute(text("SELECT :n * 2"), {"n": number}).scalar()


def counted(number: int) -> Any:
    with tracer.start_as_current_span("count"):
        return queried(number)


@app.get("/price/{number}")
def price(number: int) -> Any:
    return queried(number)


@app.get("/order/{number}")
def order(number: int, port: int) -> list[Any]:
    jobs = [pool.submit(counted, number) for _ in range(2)]
    answer = httpx.get(f"http://127.0.0.1:{port}/price/{number}", timeout=60)
    return [answer.json(), *(job.result() for job in jobs)]


@app.get("/async/{number}")
async def asynchronous(number: int, port: int) -> Any:
    async with httpx.AsyncClient(timeout=60) as client:
        return (await client.get(f"http://127.0.0.1:{port}/price/{number}")).json()
