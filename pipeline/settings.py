"""Settings: read once, typed, frozen, secrets hidden.

Every setting is an environment variable with the prefix EVERPOST_ (SCHEMA_REGISTRY_URL apart, which
keeps the name that the field knows). An unknown EVERPOST_ variable is an error, because it is a typo.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, cast

import platformdirs
from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from pipeline.model.errors import ConfigurationError

PREFIX = "EVERPOST_"
CONNECTOR_PREFIX = "EVERPOST_CONNECTOR_"


def default_home() -> Path:
    """The user's data directory; root's is closed to the user that PostgreSQL then runs as."""
    if os.geteuid() == 0:
        return Path("/var/lib/everpost")
    return Path(platformdirs.user_data_dir("everpost"))


_USUAL_PROVIDERS = {"apns": "apns", "fcm": "fcm", "webpush": "webpush", "sms": "vonage", "email": "smtp"}


def _beside_the_usual(named: Any) -> dict[str, dict[str, float]]:
    """Every channel's providers in their order, each with its weight; who is not named keeps its own.

    Raises ValueError for what is no channel, or no list of providers.
    """
    if not isinstance(named, dict):
        raise ValueError("must be a JSON object, by channel")  # noqa: TRY004 - what pydantic turns into its error
    given = cast("dict[str, Any]", named)
    if unknown := sorted(given.keys() - _USUAL_PROVIDERS.keys()):
        raise ValueError(f"{', '.join(unknown)}: no channel; known: {', '.join(_USUAL_PROVIDERS)}")
    return {channel: _weighed(channel, value) for channel, value in (_USUAL_PROVIDERS | given).items()}


def _weighed(channel: str, value: Any) -> dict[str, float]:
    """`"a"` and `["a", "b"]` are `{"a": 1}` and `{"a": 1, "b": 0}`: the rest stands by."""
    match value:
        case str() as name if name:
            return {name: 1}
        case [str(first), *rest] if first and all(isinstance(name, str) and name for name in rest):
            return {**dict.fromkeys(cast("list[str]", [first, *rest]), 0), first: 1}
        case dict() as weights if _are_weights(cast("dict[str, Any]", weights)):
            return cast("dict[str, float]", weights)
        case _:
            raise ValueError(f'{channel}: say "a", ["a", "b"] or {{"a": 90, "b": 10}}, with one above 0')


def _are_weights(found: dict[str, Any]) -> bool:
    weights = [one for one in found.values() if isinstance(one, int | float) and not isinstance(one, bool)]
    return len(weights) == len(found) and all(0 <= one < 1e9 for one in weights) and any(weights)


class Settings(BaseSettings):
    """The whole configuration of one process."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    # root's own directories are closed to the user that PostgreSQL must run as then
    home: Path = Field(
        default_factory=default_home,
        description="where the embedded services keep their data",
    )
    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="Kafka, as host:port,host:port")
    postgres_dsn: SecretStr = Field(
        default=SecretStr("postgresql://postgres@127.0.0.1:5432/postgres"), description="PostgreSQL, as a URI"
    )
    schema_registry_url: str | None = Field(
        default=None,
        validation_alias=AliasChoices("SCHEMA_REGISTRY_URL", "EVERPOST_SCHEMA_REGISTRY_URL"),
        description="Confluent-compatible registry; without it, ids come from schemas/ids.json",
    )
    catalogue: Path | None = Field(
        default=None, description="directory of event types and templates; default: the demo's"
    )
    partitions: int = Field(default=4, ge=1, description="partitions of every topic")
    replication: int = Field(default=1, ge=1, description="replicas of every topic")
    instance: str = Field(
        default="0",
        description="ordinal of this process within its stage: static membership and transactional.id",
    )
    in_flight: int = Field(
        default=400,
        ge=1,
        description="records that a sender works on at once; a connector may allow fewer requests",
    )
    send_timeout: float = Field(default=10.0, gt=0, description="seconds that one send may take")
    batch: int = Field(
        default=2000, ge=1, le=20_000, description="records that the router decides in one transaction"
    )
    retry_scale: float = Field(
        default=1.0, gt=0, description="multiplies every delay of the retry ladder; below 1 in demos only"
    )
    providers: Annotated[dict[str, dict[str, float]], BeforeValidator(_beside_the_usual)] = Field(
        default_factory=lambda: _beside_the_usual({}),
        description='which connectors serve a channel, as JSON: {"sms": "twilio"}, {"sms": ["vonage", "twilio"]} '
        'with a stand-by, {"sms": {"vonage": 90, "twilio": 10}} with weights; other channels keep theirs',
    )
    rates: dict[str, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        default_factory=dict[str, float],
        description='requests a second that a provider may get from all senders together, as JSON: {"vonage": 30}',
    )
    receipts: str | None = Field(
        default=None,
        pattern=r"^\S+:\d{1,5}$",
        description="host:port where the stage receipts listens, behind a proxy with TLS, at /receipts/<provider>; "
        "then an SMS whose answer was lost waits for its receipt",
    )
    unsubscribe_url: str | None = Field(
        default=None,
        pattern=r"^https?://[!-~]+$",
        description="where a mail's unsubscribe links lead, such as https://mail.example.com/u: to the stage receipts "
        "at /u, through the proxy with TLS; unset: mails have none",
    )
    unsubscribe_keys: SecretStr = Field(
        default=SecretStr(""),
        description="keys that seal those links, with commas between: the first seals, every one opens; "
        "each 32 random bytes in URL-safe base64",
    )
    heartbeat: Path | None = Field(
        default=None,
        description="file that a stage touches while its loop turns, for a container's health check",
    )
    watch_every: float = Field(
        default=60.0, gt=0, description="seconds between two looks of the watch over the ledger, at least"
    )
    watch_patience: float = Field(
        default=300.0,
        gt=0,
        description="seconds that something may stand still beyond its time before the watch names it",
    )
    log_level: str = Field(
        default="info", pattern="^(debug|info|warning|error)$", description="least level that is logged"
    )


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment.

    Raises ConfigurationError that names the variable and what is wrong with it.
    """
    present = os.environ if environment is None else environment
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted(present):
        if name.startswith(PREFIX) and not name.startswith(CONNECTOR_PREFIX) and name not in known:
            raise ConfigurationError(f"{name} is no setting of everpost; known: {', '.join(sorted(known))}")
    try:
        return Settings()
    except SettingsError as error:  # what should be JSON is none
        raise ConfigurationError(f"{error}; it must be JSON") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigurationError(f"setting {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def connector_options(name: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The options of a connector: EVERPOST_CONNECTOR_APNS_HOST is option `host` of `apns`."""
    present = os.environ if environment is None else environment
    prefix = f"{CONNECTOR_PREFIX}{name.upper()}_"
    return {key[len(prefix) :].lower(): value for key, value in present.items() if key.startswith(prefix)}
