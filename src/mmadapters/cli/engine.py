"""Where work is done: on this machine, or on the nodes of a Ray cluster."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from mmadapters.errors import ConfigurationError


class Engine(str, Enum):
    """Where work is done."""

    LOCAL = "local"
    RAY = "ray"


RayAddress = Annotated[
    str | None,
    typer.Option(
        help="Ray cluster to connect to, host:port or auto; without it RAY_ADDRESS, else Ray on this machine alone."
    ),
]


def check_engine(engine: Engine, ray_address: str | None) -> None:
    """Check that an address of a cluster is of use.

    Args:
        engine: Where work is done.
        ray_address: Of a Ray cluster.

    Raises:
        ConfigurationError: If there is an address and no engine that reads it.
    """
    if ray_address is not None and engine is not Engine.RAY:
        raise ConfigurationError(
            f"--ray-address {ray_address} is of no use without --engine ray. Give both or neither."
        )
