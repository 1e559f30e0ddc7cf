"""Where the servers are and how to reach them: one set of settings for every process.

Each setting is an environment variable with the prefix ``DRIFTLINE_`` (``DRIFTLINE_BROKER``), or a line
in a file ``.env``. The defaults are those of ``driftline up``.
"""

import re
import ssl
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

ROOT = Path(__file__).resolve().parents[2]


class Token(NamedTuple):
    """What is known of a bearer token."""

    digest: bytes
    """SHA-256, 32 bytes."""
    team: str = ""


class Settings(BaseSettings):
    """Everything that differs between installations. Models are declared in models/, not here."""

    model_config = SettingsConfigDict(env_prefix="DRIFTLINE_", env_file=".env", extra="ignore", frozen=True)

    broker: str = Field(
        "127.0.0.1:19092", description="Kafka's bootstrap servers, host:port, comma separated"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How to talk to Kafka"
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
        description="Schema registry (Confluent's API) of the topics whose encoding is avro or json_schema; "
        "empty: none",
    )
    schema_registry_username: str = Field("", description="User of the schema registry")
    schema_registry_password: SecretStr = Field(
        SecretStr(""), description="Password, or secret of the API key, of the schema registry"
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
        description="Whose signatures scoring trusts: public keys, files or folders of *.pub.pem, comma "
        "separated; default: keys/ in the home folder",
    )
    trusted_types: str = Field(
        "", description="Types that scikit-learn models may hold beyond the known ones, comma separated"
    )
    trusted_teams: str = Field(
        "", description="Teams whose models may be pyfunc models, which bring code; comma separated"
    )

    home: Path = Field(Path(".driftline"), description="Folder of the data that Driftline keeps itself")
    models: Path = Field(ROOT / "models", description="Folder of the model declarations")
    feature_repo: Path = Field(ROOT / "feature_repo", description="The Feast repository")
    archive_uri: str = Field(
        "", description="Where the Delta tables are; default: archive/ in the home folder"
    )

    host: str = Field("127.0.0.1", description="Address on which the HTTP servers listen")
    scoring_port: int = Field(8001, description="HTTP port of the scoring process")
    scoring_url: str = Field(
        "", description="Scoring process as the dashboard reaches it; default: on the host here"
    )
    features_port: int = Field(8002, description="HTTP port of the features process")
    drift_port: int = Field(8003, description="HTTP port of the drift process")
    archive_port: int = Field(8004, description="HTTP port of the archive process")
    retraining_port: int = Field(8005, description="HTTP port of the retraining process")
    learning_port: int = Field(8007, description="HTTP port of the learning process")
    dashboard_port: int = Field(8000, description="HTTP port of the dashboard")
    skew_port: int = Field(8006, description="HTTP port of driftline features skew --every")
    alerting_port: int = Field(8008, description="HTTP port of the alerting process")
    dashboard_url: str = Field(
        "", description="The dashboard as people reach it, for links in alerts; empty: no links"
    )

    alert_destinations: SecretStr = Field(
        SecretStr(""),
        description="Where alerts go: name=URL, separated by spaces; names as in model.yaml, URLs as of "
        "apprise (slack://, pagerduty://, mailto://, json:// and 170 more)",
    )
    alert_destinations_file: Path | None = Field(
        None, description="The same in a file, one a line; a # begins a comment"
    )
    alert_age_hours_max: float = Field(
        72,
        gt=0,
        description="Nobody is told of what is older: of an old record, or of an event time so long before "
        "its record, as in a replay",
    )
    alert_replays: bool = Field(
        False, description="Alerts of any age, also those of a replay; for trials and tests"
    )
    reports_uri: str = Field(
        "",
        description="Folder or URI to which alerting writes the report of each window as HTML; empty: none",
    )

    api_token_digests: str = Field(
        "",
        description="SHA-256 digests (hex, comma separated) of the tokens that the feature API accepts; "
        "empty: it asks for none",
    )

    team_token_digests: str = Field(
        "",
        description="SHA-256 digests of the tokens that the scoring API accepts, as team:hex, comma "
        "separated; a model with a team answers only to that team's; empty: it asks for none",
    )
    requests_per_second_max: float = Field(
        0,
        ge=0,
        description="HTTP requests of each token, or of each address where no token is asked for, to all "
        "scoring processes together; 0: as many as they like",
    )

    slice_records_max: int = Field(2000, ge=1, description="Records of one partition handed on at once")
    features_slice_records_max: int = Field(
        20_000,
        ge=1,
        description="The same in features: behind a backlog, many events of an entity are one write",
    )
    model_cache_mib_max: int = Field(
        1024, ge=1, description="Loaded models in the scoring process; those unused for longest make room"
    )
    model_store_mib_max: int = Field(
        4096,
        ge=1,
        description="Verified versions kept in the home folder; those unused for longest make room",
    )
    in_flight_bytes_max: int = Field(
        32 << 20, ge=1 << 20, description="Bytes fetched and not yet finished, a process"
    )
    session_timeout_seconds: float = Field(
        10.0, ge=6, le=300, description="Silence after which a member's partitions go to others"
    )
    skew_share: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Share of the predictions that the skew check recomputes, by hash of the id",
    )
    cloud_events: Literal["none", "except-predictions", "all"] = Field(
        "except-predictions",
        description="Which of our records carry CloudEvents headers; on predictions they cost time",
    )
    otlp_endpoint: str = Field(
        "",
        description="OpenTelemetry collector (OTLP/HTTP, a URL without path) for scoring's spans of sampled "
        "requests; empty: none",
    )
    record_bytes_max: int = Field(1 << 20, ge=1024, description="A larger record goes to the dead letters")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged")

    @model_validator(mode="after")
    def _check_sasl(self) -> "Settings":
        if self.security_protocol.startswith("SASL") and not self.sasl_username:
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and sasl_password"
            )
        return self

    @field_validator("api_token_digests")
    @classmethod
    def _check_digests(cls, value: str) -> str:
        for digest in filter(None, value.split(",")):
            if not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", digest):
                raise ValueError("each must be a SHA-256 digest: 64 hexadecimal digits")
        return value

    @field_validator("team_token_digests")
    @classmethod
    def _check_team_digests(cls, value: str) -> str:
        for entry in filter(None, value.split(",")):
            if not re.fullmatch(r"\s*[a-z0-9_-]+:[0-9a-fA-F]{64}\s*", entry):
                raise ValueError(
                    "each must be team:digest, the digest being a SHA-256: 64 hexadecimal digits"
                )
        return value

    @property
    def feature_tokens(self) -> tuple[Token, ...]:
        """The tokens that the feature API accepts; none where it asks for none."""
        return tuple(Token(bytes.fromhex(digest)) for digest in self.api_token_digests.split(",") if digest)

    @property
    def scoring_tokens(self) -> tuple[Token, ...]:
        """The tokens that the scoring API accepts, each of a team; none where it asks for none."""
        entries = [entry.strip().partition(":") for entry in self.team_token_digests.split(",") if entry]
        return tuple(Token(bytes.fromhex(digest), team) for team, _, digest in entries)

    @property
    def keys(self) -> Path:
        """The folder of keys that Driftline makes itself."""
        return self.home.resolve() / "keys"

    @property
    def verifying_key_places(self) -> tuple[Path, ...]:
        """Files and folders of the public keys that are trusted."""
        return tuple(map(Path, _listed(self.verifying_keys))) or (self.keys,)

    @property
    def trusted_type_names(self) -> tuple[str, ...]:
        """Full names of types."""
        return _listed(self.trusted_types)

    @property
    def trusted_team_names(self) -> tuple[str, ...]:
        """As declarations name them in ``team``."""
        return _listed(self.trusted_teams)

    @property
    def archive_root(self) -> str:
        """The folder or URI below which each Delta table is a folder."""
        return self.archive_uri or str(self.home.resolve() / "archive")

    def environment(self) -> dict[str, str]:
        """Return the variables from which another process reads equal settings, with absolute paths."""
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
        """Return connection options in the spelling that kafka-python and aiokafka share."""
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


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _as_text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return str(value.resolve() if isinstance(value, Path) else value)
