"""Addresses and options of the servers and processes: the same settings for every process.

Each setting is an environment variable with the prefix ``DRIFTLINE_`` (``DRIFTLINE_BROKER``), or a line
in a file ``.env``. The defaults are those of ``driftline up``. Relative paths, also those of the defaults and
of ``.env``, are relative to the folder in which a process starts.
"""

import re
import ssl
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams import topics

ROOT = Path(__file__).resolve().parents[2]


class Token(NamedTuple):
    """A bearer token that an API accepts, known by its digest."""

    digest: bytes
    """SHA-256, 32 bytes."""
    team: str = ""


def _check_not_only_commas(value: str) -> None:
    """Raise an error for a list without an entry, which would admit everybody."""
    if value and not value.replace(",", "").strip():
        raise ValueError("the list has no entry: give at least one, or leave the setting empty")


class Settings(BaseSettings):
    """All that differs between installations. Models are declared in models/."""

    model_config = SettingsConfigDict(env_prefix="DRIFTLINE_", env_file=".env", extra="ignore", frozen=True)

    broker: str = Field(
        "127.0.0.1:19092", description="Kafka's bootstrap servers, host:port, comma separated"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="Security protocol of the connection to Kafka"
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="SASL mechanism"
    )
    sasl_username: str = Field("", description="SASL user")
    sasl_password: SecretStr = Field(SecretStr(""), description="SASL password")
    ssl_cafile: Path | None = Field(None, description="Certificate authority of the broker (PEM)")
    ssl_certfile: Path | None = Field(None, description="Client certificate (PEM)")
    ssl_keyfile: Path | None = Field(None, description="Key of the client certificate (PEM)")
    partitions: int = Field(4, ge=1, description="Partitions of topics that Driftline creates")
    replication_factor: int = Field(1, ge=1, description="Replicas of topics that Driftline creates")

    redis_url: str = Field("redis://127.0.0.1:16379/0", description="Online store; rediss:// for TLS")
    redis_cluster: bool = Field(False, description="The URL names a node of a Redis Cluster")
    redis_cafile: Path | None = Field(None, description="Certificate authority of the online store (PEM)")
    redis_certfile: Path | None = Field(None, description="Client certificate for the online store (PEM)")
    redis_keyfile: Path | None = Field(None, description="Key of that client certificate (PEM)")
    schema_registry_url: str = Field(
        "",
        description="URL of the schema registry (Confluent's API) for topics whose encoding is avro or "
        "json_schema; empty: none",
    )
    schema_registry_username: str = Field("", description="User of the schema registry")
    schema_registry_password: SecretStr = Field(
        SecretStr(""), description="Password of the schema registry, or the secret of the API key"
    )
    schema_registry_cafile: Path | None = Field(
        None, description="Certificate authority of the schema registry (PEM)"
    )
    mlflow_uri: str = Field("http://127.0.0.1:15000", description="MLflow tracking server and registry")

    signing_key_file: Path | None = Field(
        None,
        description="Ed25519 key (PEM) that signs versions; default: keys/signing.pem in the home folder",
    )
    verifying_keys: str = Field(
        "",
        description="Public keys whose signatures scoring trusts: files, or folders of *.pub.pem, comma "
        "separated; default: keys/ in the home folder",
    )
    trusted_types: str = Field(
        "",
        description="Types that scikit-learn models may contain in addition to the known ones, comma "
        "separated",
    )
    trusted_teams: str = Field(
        "", description="Teams whose models may be pyfunc models, which contain code; comma separated"
    )

    home: Path = Field(Path(".driftline"), description="Folder for the data that Driftline stores itself")
    models: Path = Field(Path("models"), description="Folder of the model declarations")
    feature_repo: Path = Field(Path("feature_repo"), description="The Feast repository")
    archive_uri: str = Field(
        "", description="Folder or URI of the Delta tables; default: archive/ in the home folder"
    )

    host: str = Field("127.0.0.1", description="Address on which the HTTP servers listen")
    scoring_port: int = Field(8001, description="HTTP port of the scoring process")
    scoring_url: str = Field(
        "",
        description="URL at which the dashboard reaches the scoring process; default: scoring_port on host",
    )
    features_port: int = Field(8002, description="HTTP port of the features process")
    drift_port: int = Field(8003, description="HTTP port of the drift process")
    archive_port: int = Field(8004, description="HTTP port of the archive process")
    retraining_port: int = Field(8005, description="HTTP port of the retraining process")
    retraining_processes_max: int = Field(
        2, ge=1, description="Maximum trainings at once, each of another model in a process of its own"
    )
    retraining_engine: Literal["duckdb", "ray"] = Field(
        "duckdb",
        description="What joins and sorts training sets: DuckDB on one machine, or Ray (extra ray) on the "
        "cluster of RAY_ADDRESS, without it on a local one",
    )
    learning_port: int = Field(8007, description="HTTP port of the learning process")
    dashboard_port: int = Field(8000, description="HTTP port of the dashboard")
    skew_port: int = Field(8006, description="HTTP port of driftline features skew --every")
    alerting_port: int = Field(8008, description="HTTP port of the alerting process")
    rollout_port: int = Field(8009, description="HTTP port of the rollout process")
    dashboard_url: str = Field(
        "", description="URL at which people reach the dashboard, for links in alerts; empty: no links"
    )

    alert_destinations: SecretStr = Field(
        SecretStr(""),
        description="Destinations of alerts: name=URL, separated by spaces; names as in model.yaml, URLs of "
        "apprise (slack://, pagerduty://, mailto://, json:// and 170 more), or "
        "webhook+https://TOKEN@host/path for programs such as CI",
    )
    alert_destinations_file: Path | None = Field(
        None, description="The same in a file, one per line; a line that begins with # is a comment"
    )
    alert_age_hours_max: float = Field(
        72,
        gt=0,
        description="Alerts older than this are not sent, whether the record is old or its event time is "
        "(replays)",
    )
    alert_replays: bool = Field(
        False, description="Send alerts of any age, also those of a replay; for trials and tests"
    )
    reports_uri: str = Field(
        "",
        description="Folder or URI to which alerting writes the report of each window as HTML; empty:"
        " no reports",
    )

    api_token_digests: str = Field(
        "",
        description="SHA-256 digests (hex, comma separated) of the tokens that the feature API accepts; "
        "empty: no token is needed",
    )

    team_token_digests: str = Field(
        "",
        description="SHA-256 digests of the tokens that the scoring API accepts, as team:hex, comma "
        "separated; a model with a team accepts only tokens of that team; empty: no token is needed",
    )
    retraining_token_digests: str = Field(
        "",
        description="SHA-256 digests (hex, comma separated) of the tokens that POST /retrain accepts; "
        "empty: the route is closed",
    )
    requests_per_second_max: float = Field(
        0,
        ge=0,
        description="Maximum HTTP requests per second of each token, or of each address if no token "
        "is needed, "
        "to all scoring processes together; 0: no limit",
    )

    slice_records_max: int = Field(
        2000, ge=1, description="Maximum records of one partition that are processed together"
    )
    features_slice_records_max: int = Field(
        20_000,
        ge=1,
        description="The same in the features process: with a backlog, many events of an entity "
        "become one write",
    )
    model_cache_mib_max: int = Field(
        1024,
        ge=1,
        description="Size of the loaded models in a scoring process; the least recently used are removed",
    )
    model_store_mib_max: int = Field(
        4096,
        ge=1,
        description="Size of the verified versions in the home folder; the least recently used are removed",
    )
    model_version_mib_max: int = Field(
        2048,
        ge=1,
        description="Maximum size of the files of one version; a larger one is not downloaded",
    )
    in_flight_bytes_max: int = Field(
        32 << 20, ge=1 << 20, description="Maximum bytes that a process has fetched and not yet finished"
    )
    session_timeout_seconds: float = Field(
        10.0,
        ge=1,
        le=300,
        description="Time without a heartbeat after which a member's partitions are assigned to others; "
        "brokers refuse less than their group.min.session.timeout.ms, 6 s by default",
    )
    skew_share: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Share of the predictions that the skew check recomputes, chosen by hash of the id",
    )
    cloud_events: Literal["none", "except-predictions", "all"] = Field(
        "except-predictions",
        description="Which of Driftline's records have CloudEvents headers; on predictions they cost time",
    )
    otlp_endpoint: str = Field(
        "",
        description="OpenTelemetry collector (OTLP/HTTP, a URL without a path) that receives the "
        "spans of sampled "
        "scoring requests; empty: none",
    )
    record_bytes_max: int = Field(
        topics.RECORD_BYTES_MAX,
        ge=1024,
        description="Maximum size of a record, uncompressed; a larger one becomes a dead letter. Internal "
        "topics take what follows from records of this size: after a change, run driftline setup",
    )
    event_ahead_seconds_max: float = Field(
        60,
        ge=1,
        le=86_400,
        description="Maximum time by which an event may be dated ahead of its record's timestamp and of the "
        "worker's clock; a record that is further ahead becomes a dead letter",
    )
    defects_in_a_row_max: int = Field(
        1000,
        ge=0,
        description="Maximum records of a partition in a row that features and scoring write to the dead "
        "letters because the code fails on them; then the partition waits until one succeeds. 0: no limit",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level that is logged"
    )

    @model_validator(mode="after")
    def _check_sasl(self) -> "Settings":
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password"
            )
        return self

    @field_validator("api_token_digests", "retraining_token_digests")
    @classmethod
    def _check_digests(cls, value: str) -> str:
        _check_not_only_commas(value)
        for digest in filter(None, value.split(",")):
            if not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", digest):
                raise ValueError("each must be a SHA-256 digest: 64 hexadecimal digits")
        return value

    @field_validator("team_token_digests")
    @classmethod
    def _check_team_digests(cls, value: str) -> str:
        _check_not_only_commas(value)
        for entry in filter(None, value.split(",")):
            if not re.fullmatch(r"\s*[a-z0-9_-]+:[0-9a-fA-F]{64}\s*", entry):
                raise ValueError(
                    "each must be team:digest, where digest is a SHA-256 of 64 hexadecimal digits"
                )
        return value

    @property
    def feature_tokens(self) -> tuple[Token, ...]:
        """The tokens that the feature API accepts; empty if it needs none."""
        return _tokens(self.api_token_digests)

    @property
    def retraining_tokens(self) -> tuple[Token, ...]:
        """The tokens with which a retraining may be asked for over HTTP; empty if nobody may."""
        return _tokens(self.retraining_token_digests)

    @property
    def scoring_tokens(self) -> tuple[Token, ...]:
        """The tokens that the scoring API accepts, each with its team; empty if it needs none."""
        entries = [entry.strip().partition(":") for entry in self.team_token_digests.split(",") if entry]
        return tuple(Token(bytes.fromhex(digest), team) for team, _, digest in entries)

    @property
    def keys(self) -> Path:
        """The folder of the keys that Driftline generates."""
        return self.home.resolve() / "keys"

    @property
    def verifying_key_places(self) -> tuple[Path, ...]:
        """Files and folders of the public keys that are trusted."""
        return tuple(map(Path, _listed(self.verifying_keys))) or (self.keys,)

    @property
    def trusted_type_names(self) -> tuple[str, ...]:
        """The full names of the types in ``trusted_types``."""
        return _listed(self.trusted_types)

    @property
    def trusted_team_names(self) -> tuple[str, ...]:
        """The teams in ``trusted_teams``, as declarations name them."""
        return _listed(self.trusted_teams)

    @property
    def archive_root(self) -> str:
        """The folder or URI in which each Delta table is a folder."""
        return self.archive_uri or str(self.home.resolve() / "archive")

    def environment(self) -> dict[str, str]:
        """Return environment variables that give another process equal settings, with absolute paths."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        given = {name: value for name, value in values.items() if value is not None}
        return {f"DRIFTLINE_{name.upper()}": _as_text(value) for name, value in given.items()}

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return the TLS context for Kafka, or None for plain text."""
        if "SSL" not in self.security_protocol:
            return None
        context = ssl.create_default_context(cafile=str(self.ssl_cafile) if self.ssl_cafile else None)
        if self.ssl_certfile:
            context.load_cert_chain(self.ssl_certfile, self.ssl_keyfile)
        return context

    def kafka_options(self) -> dict[str, Any]:
        """Return connection options with the names that kafka-python and aiokafka share."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.broker.split(","),
            "security_protocol": self.security_protocol,
        }
        if context := self.ssl_context():
            options["ssl_context"] = context
        if self.security_protocol.startswith("SASL"):
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.get_secret_value(),
            }
        return options


def _tokens(digests: str) -> tuple[Token, ...]:
    return tuple(Token(bytes.fromhex(digest)) for digest in digests.split(",") if digest)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value.resolve() if isinstance(value, Path) else value)
