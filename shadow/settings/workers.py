"""`workers`: which model answers for each role, and within which bounds."""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, model_validator

from shadow.settings.names import HeaderName, HttpUrl, PlainPath, PythonName, Secret
from shadow.settings.section import Section, refused, refused_whole
from shadow.settings.units import Share, count, duration_us, money_micro, number
from shadow.usage import Price

ROLES: Final = ("candidate", "production", "baseline")


class Budget(Section):
    """What a role's calls may cost in all; beyond it none is made, and the run holds with that reason.

    Args:
        cost: Amount of money.
        calls: Number of calls.
    """

    cost: Annotated[float, number(0, 1e9, "an amount of money", takes_high=True)] | None = None
    calls: Annotated[int, count(1, 10**12)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cost is None and self.calls is None:
            raise refused_whole("has no bound, must name cost or calls")
        return self


def _prefix(value: Any) -> str:
    if not isinstance(value, str) or not value.startswith("/") or any(not "!" <= c <= "~" for c in value):
        raise refused("must be a path that begins with /")
    return value.rstrip("/")


def _json_value(value: Any) -> Any:
    if isinstance(value, float) and not (-1e308 <= value <= 1e308):
        raise refused("must be a finite number")
    return value


class Rewrite(Section):
    """How a role's requests differ from the recorded ones.

    Args:
        json: Value by plain JSON path.
        headers: Value by name, or `env:NAME`; credentials for the model belong here.
        path_prefix: Put before the path.
    """

    json_values: dict[PlainPath, Annotated[Any, BeforeValidator(_json_value)]] = Field(default={}, alias="json")
    headers: dict[HeaderName, Secret] = Field(default={})
    path_prefix: Annotated[str, BeforeValidator(_prefix)] = ""


class Concurrency(Section):
    """Bounds within which a worker adapts how many calls it has under way."""

    min: Annotated[int, count(1, 10_000)] = 1
    max: Annotated[int, count(1, 10_000)] = 64

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise refused_whole(f"min is {self.min} and max {self.max}, must be the other way round")
        return self


class TokenPrice(Section):
    """Money per million tokens, kept in micro-units."""

    prompt_micro: Annotated[int, money_micro(0, 1e6)] = Field(default=0, alias="prompt")
    completion_micro: Annotated[int, money_micro(0, 1e6)] = Field(default=0, alias="completion")


class Worker(Section):
    """One role's worker.

    Args:
        url: The model's address; requests keep their path.
        python: Or a function of this machine, `module:function`.
        deadline_us: How long a call may take; beyond it the model has failed.
        sample: Share of the sampling keys for which the role is asked.
        price: What tokens cost, where answers state them.
    """

    url: HttpUrl | None = None
    python: PythonName | None = None
    deadline_us: Annotated[int, duration_us("1ms", "1h")] = Field(default=30_000_000, alias="deadline")
    sample: Share = 1.0
    budget: Budget | None = None
    rewrite: Rewrite = Rewrite()
    concurrency: Concurrency = Concurrency()
    price: TokenPrice | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.url is not None and self.python is not None:
            raise refused_whole("has both url and python, must have one of them")
        return self

    @property
    def has_model(self) -> bool:
        """Whether the worker knows whom to ask; production's need not, since the proxy records its answers."""
        return self.url is not None or self.python is not None

    def token_price(self) -> Price:
        """What tokens cost; nothing where it is not configured."""
        if self.price is None:
            return Price()
        return Price(self.price.prompt_micro, self.price.completion_micro)
