"""What type checkers must see of gRPC and OpenTelemetry. Never run; see `api.py`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import assert_type

import grpc
import grpc.aio
from opentelemetry.sdk.metrics import export as sdk
from opentelemetry.sdk.trace import TracerProvider

from mainstay import Adaptive, Detect, Metrics, RetryBudget, retry, transient
from mainstay.integrations.grpc import (
    AsyncClientInterceptor,
    AsyncServerInterceptor,
    ClientInterceptor,
    ServerInterceptor,
)
from mainstay.integrations.opentelemetry import MetricExporter, trace_attempts

# gRPC takes them for what they are.

bare = grpc.insecure_channel("localhost:50051")
channel = grpc.intercept_channel(
    bare,
    ClientInterceptor(
        retry=retry(on=transient, attempts=4),
        breaker=Detect(),
        limit=Adaptive(),
        budget=RetryBudget(),
        name="orders",
        metrics=Metrics(None),
    ),
)
assert_type(channel, grpc.Channel)
grpc.server(ThreadPoolExecutor(4), interceptors=[ServerInterceptor(at_most=timedelta(minutes=1))])


async def in_async_code() -> None:
    interceptors = [AsyncClientInterceptor(limit=20, budget=0.1)]
    grpc.aio.insecure_channel("localhost:50051", interceptors=interceptors)
    grpc.aio.server(interceptors=[AsyncServerInterceptor(at_most=60)])


# And so does OpenTelemetry.

exporter = MetricExporter(sdk.ConsoleMetricExporter(), metrics=Metrics(None))
sdk.PeriodicExportingMetricReader(exporter)
assert_type(trace_attempts(TracerProvider()), Callable[[], None])


# Misuse is an error.

ClientInterceptor(limit="20")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ServerInterceptor(at_most="60")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
MetricExporter(print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
trace_attempts("global")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
