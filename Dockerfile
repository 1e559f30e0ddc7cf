# One image for every process and for the MLflow server; the command chooses which.
FROM python:3.11-slim-bookworm AS build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
RUN pip install --no-cache-dir uv==0.13.9 && uv venv /opt/venv
WORKDIR /app
COPY pyproject.toml requirements.lock ./
# The lock holds the tools of development too. As a constraint it pins, and its hashes are required of, just what
# the processes need.
RUN uv pip install --no-cache --python /opt/venv/bin/python --require-hashes \
      --constraint requirements.lock --requirement pyproject.toml
COPY LICENSE ./
COPY streams streams
COPY services services
COPY models models
COPY feature_repo feature_repo
COPY examples examples
RUN python -m compileall -q streams services models

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="driftline" \
      org.opencontainers.image.licenses="Apache-2.0"
# Empty folders owned by the user: a new named volume takes their ownership over.
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin driftline \
    && install -d -o driftline -g driftline /var/lib/driftline /var/lib/driftline-signing /var/lib/mlflow
COPY --from=build /opt/venv /opt/venv
COPY --from=build /app /app
# The root file system may be read-only: only /tmp and the folders above are written.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    MLFLOW_DISABLE_TELEMETRY=true \
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
    DRIFTLINE_HOME=/var/lib/driftline \
    DRIFTLINE_MODELS=/app/models \
    DRIFTLINE_FEATURE_REPO=/app/feature_repo \
    DRIFTLINE_HOST=0.0.0.0 \
    HEALTH_URL=http://127.0.0.1:8001/health/ready
WORKDIR /var/lib/driftline
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=6 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(os.environ['HEALTH_URL'], timeout=3)"]
ENTRYPOINT ["python", "-m", "services.operations.cli"]
CMD ["scoring"]
