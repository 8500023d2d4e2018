"""What Docker's API has no word for: plans, traces and drivers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from pannier.server.body import read_fields
from pannier.server.call import Route
from pannier.server.parse.create import parse_create
from pannier.server.respond import json_response

if TYPE_CHECKING:
    from aiohttp import web

    from pannier.server.call import Call

__all__ = ["ROUTES"]


async def _explain(call: Call) -> web.StreamResponse:
    fields = await read_fields(call.request)
    options = parse_create(fields, call.query.text("name"), call.query.text("platform"))
    steps = await call.engine.containers.explain(options)
    return json_response(
        {
            "Steps": [
                {
                    "Driver": one.driver,
                    "Kind": one.kind,
                    "Action": one.step.action,
                    "Subject": one.step.subject,
                    "Detail": one.step.detail,
                }
                for one in steps
            ]
        }
    )


async def _trace(call: Call) -> web.StreamResponse:
    return json_response(
        {
            "Events": [
                {
                    "Driver": driver,
                    "Action": timing.step.action,
                    "Subject": timing.step.subject,
                    "Detail": timing.step.detail,
                    "BeginNs": timing.begin,
                    "EndNs": timing.end,
                }
                for driver, timing in call.engine.containers.trace(call.name)
            ]
        }
    )


async def _drivers(call: Call) -> web.StreamResponse:
    # Probing tries things on the kernel, which takes its time.
    return json_response({"Drivers": await asyncio.to_thread(call.services.drivers)})


async def _loads(call: Call) -> web.StreamResponse:
    return json_response({"Calls": call.services.loads()})


ROUTES: Final = (
    Route("POST", "/pannier/explain", _explain),
    Route("GET", "/pannier/containers/{name}/trace", _trace),
    Route("GET", "/pannier/drivers", _drivers),
    Route("GET", "/pannier/drivers/trace", _loads),
)
